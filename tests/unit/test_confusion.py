"""The table of expected and answered labels: counted by SQLite and from items alike, and every cell leads to its items."""

from __future__ import annotations

import html
import random
import re
from dataclasses import replace
from importlib import resources
from pathlib import Path

import pytest
from starlette.testclient import TestClient

from lastresort.records.events.run import TaskRead
from lastresort.records.items import ItemsWanted, SystemName
from lastresort.records.measurement import ItemScore
from lastresort.records.record import Record
from lastresort.report.confusion import MOST_COLUMNS, MOST_ROWS, NO_LABEL, SHADES, confusion, finding, of_items
from lastresort.report.confusion import recorded as recorded_confusion
from report_support import HOSTILE
from ui_support import finished_run, item, page_of, recorded

LABELS = ("billing", "delivery", "the end", "none")
PLAIN = SystemName("prompting", "zero-shot")
ROWS = [
    ("billing", "billing"),
    ("billing", ' "Billing".\n'),
    ("billing", "delivery"),
    ("Billing", "DELIVERY"),
    ("delivery", "It is about delivery, and the answer is long enough to be none of the labels."),
    ("delivery", "\n" * 400 + "delivery"),
    ("delivery", "delivery" + "\u00a0" * 60),
    ("delivery", ""),
    ("the end", "none"),
    ("the end", HOSTILE),
    ("something else", "billing"),
    ("none", "none"),
]
ITEMS = [item(f"{n:02}", float(want == got), got, expected=want) for n, (want, got) in enumerate(ROWS)]
COUNTS = {
    ("billing", "billing"): 2,
    ("billing", "delivery"): 2,
    ("delivery", NO_LABEL): 2,
    ("delivery", "delivery"): 2,
    ("the end", "none"): 1,
    ("the end", NO_LABEL): 1,
    (NO_LABEL, "billing"): 1,
    ("none", "none"): 1,
}


def labelled_run(folder: Path, items: list[ItemScore], labels: tuple[str, ...]) -> Path:
    """A run whose task has these labels, of whose system one other answered half of the items."""
    known = finished_run(folder)
    with Record.open(known, read_only=True) as record:
        read = record.last(TaskRead)
    assert read is not None
    run = recorded(folder / "runs" / "mail", ("zero-shot", "dev", items), ("few-shot-3", "dev", items[::2]))
    with Record.open(run) as record:
        record.append(TaskRead(task={**read.task, "output": {**read.task["output"], "choices": list(labels)}}))
    return run


def test_texts_are_read_as_the_scorer_reads_them_and_every_cell_finds_its_items(tmp_path: Path) -> None:
    run = labelled_run(tmp_path, ITEMS, LABELS)
    wanted = ItemsWanted(PLAIN, "dev")
    with Record.open(run, read_only=True) as record:
        found = recorded_confusion(record, wanted, LABELS)
        assert dict(found.counts) == COUNTS
        from_items = of_items(ITEMS, LABELS)
        assert from_items is not None
        assert (from_items.counts, from_items.labels) == (found.counts, found.labels), "as the report counts them"
        for (want, got), n in COUNTS.items():
            expected, answered = found.filters(want, got)
            narrowed = replace(wanted, expected=expected, answered=answered)
            assert len(record.page_of_items(narrowed, 0, 50)) == record.count_items(narrowed).selected == n, (want, got)
        expected, _ = found.filters("delivery", "")
        assert record.count_items(replace(wanted, expected=expected)).selected == 4
        against = replace(wanted, against=SystemName("prompting", "few-shot-3"))
        in_common = recorded_confusion(record, against, LABELS)
        assert sum(in_common.counts.values()) == len(ITEMS[::2])
        of_text = recorded_confusion(record, replace(wanted, text="message 00"), LABELS)
        assert dict(of_text.counts) == {("billing", "billing"): 1}
    assert finding(found) == (
        "Most often mistaken (right → given): billing → delivery (2) and the end → none (1); 3 answers name no label"
    )
    assert of_items(ITEMS, ()) is None
    assert of_items([], LABELS) is None


def table_of(page: TestClient, query: str) -> str:
    """The table of labels that the page of items with this query asks for once it is there."""
    listed = page.get(f"/runs/mail/items?{query}").text
    [address] = re.findall(r'<div id="labels"[^>]* hx-get="([^"]*)" hx-trigger="load">', listed)
    assert f'<a href="{address}">' in listed, "for who has no scripts"
    part = page.get(html.unescape(address), headers={"hx-request": "true"}).text
    assert "<html" not in part
    whole = page.get(html.unescape(address)).text
    assert part.partition("<summary>")[2].strip() in whole
    return part


def test_a_page_of_items_waits_for_no_table_of_labels(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """All answers have to be counted for it, which takes longer than 50 of them."""
    labelled_run(tmp_path, ITEMS, LABELS)
    page = page_of(tmp_path)[1]
    counted = list[object]()
    monkeypatch.setattr(Record, "answer_groups", lambda record, wanted: counted.append(wanted) or [])
    text = page.get("/runs/mail/items?system=prompting/zero-shot").text
    assert "1 to 12 of 12" in text
    assert counted == []
    page.get("/runs/mail/items?system=prompting/zero-shot&expected=billing")
    assert len(counted) == 1, "which texts name the label"


def test_a_cell_is_a_link_to_its_items_and_another_choice_keeps_it(tmp_path: Path) -> None:
    labelled_run(tmp_path, ITEMS, LABELS)
    page = page_of(tmp_path)[1]
    text = table_of(page, "system=prompting/zero-shot&kind=wrong")
    cells = re.findall(r'<a href="([^"]*)" aria-label="(\d+): expected ([\w ]+), answered ([\w ]+)">', text)
    shown = {(want, got): int(n) for _, n, want, got in cells}
    assert shown == {tuple("no label" if one == NO_LABEL else one for one in pair): n for pair, n in COUNTS.items()}
    for address, n, *_ in cells:
        assert f"1 to {n} of {n}" in page.get(html.unescape(address)).text, address
    address = html.unescape(next(one for one, _, *pair in cells if pair == ["billing", "delivery"]))
    text = page.get(address).text
    assert "Only items that expect <b>billing</b> and whose answer is <b>delivery</b>." in text
    assert 'type="hidden" name="answered" value="delivery"' in text
    [found] = re.findall(r'<a href="([^"]*)"><code>02<', text)
    assert "Next" in page.get(html.unescape(found)).text, "its neighbour is the other one of the cell"
    none = page.get("/runs/mail/items?system=prompting/zero-shot&answered=%20").text
    assert "whose answer names <b>no label</b>" in none
    assert "1 to 3 of 3" in none


def test_a_task_without_labels_and_all_systems_together_have_no_table(tmp_path: Path) -> None:
    labelled_run(tmp_path, ITEMS, LABELS)
    recorded(tmp_path / "runs" / "prose", ("zero-shot", "dev", ITEMS))
    page = page_of(tmp_path)[1]
    for run, query in (("prose", "system=prompting/zero-shot&expected=billing"), ("mail", "system=all")):
        text = page.get(f"/runs/{run}/items?{query}").text
        assert ("confusion" in text, 'id="labels"' in text) == (False, False)
        assert "There are no answers with labels here" in page.get(f"/runs/{run}/items/labels?{query}").text
    assert 'id="labels"' not in page.get("/runs/mail/items?system=prompting/zero-shot&text=nowhere").text


@pytest.mark.parametrize("labels", [2, MOST_COLUMNS, MOST_COLUMNS + 1, 300])
def test_as_many_labels_as_fit_are_a_square_and_of_more_the_most_mistaken_are_listed(labels: int) -> None:
    names = tuple(f"label {n}" for n in range(labels))
    draw = random.Random(0)
    rows = [(want, draw.choice(names) if draw.random() < 0.4 else want) for want in names for _ in range(3)]
    found = of_items([item(str(n), 0.0, got, expected=want) for n, (want, got) in enumerate(rows)], names)
    assert found is not None
    assert found.is_square is (labels <= MOST_COLUMNS)
    if found.is_square:
        assert found.rows == found.columns == names
        return
    missed = [sum(want == one != got for want, got in rows) for one in names]
    assert len(set(found.rows)) == len(found.rows), "each label once"
    listed = [missed[names.index(one)] for one in found.rows]
    assert listed == sorted(filter(None, missed), reverse=True)[:MOST_ROWS]
    assert found.answered(found.rows[0])[0][0] == found.rows[0] or found.n(found.rows[0], found.rows[0]) == 0


def test_the_report_shows_the_labels_of_dev_and_links_nowhere(tmp_path: Path) -> None:
    run = finished_run(tmp_path)
    text = (run / "report.html").read_text()
    [table] = re.findall(
        r"<details><summary>((?:Most often|No label)[^<]*)</summary>\s*<div class=\"scroll\">(.*?)</details>",
        text,
        re.S,
    )
    assert 'class="confusion"' in table[1]
    assert "<a " not in table[1]


@pytest.mark.parametrize("labels", [3, MOST_COLUMNS + 1])
def test_without_a_mistake_a_long_list_of_labels_is_a_sentence_alone(tmp_path: Path, labels: int) -> None:
    assert finding(confusion([], LABELS)) == "No label was mistaken for another"
    names = tuple(f"label {n}" for n in range(labels))
    labelled_run(tmp_path, [item(str(n), 1.0, name, expected=name) for n, name in enumerate(names)], names)
    text = table_of(page_of(tmp_path)[1], "system=prompting/zero-shot")
    assert "No label was mistaken for another" in text
    assert ('class="confusion' in text) is (labels <= MOST_COLUMNS)


@pytest.mark.parametrize("labels", [3, MOST_COLUMNS + 1])
def test_a_text_without_a_label_is_no_label_and_never_a_hit(tmp_path: Path, labels: int) -> None:
    names = tuple(f"label {n}" for n in range(labels))
    rows = [(name, name) for name in names] + [("else", "something"), ("else", "label 1"), ("label 1", "label 2")]
    labelled_run(tmp_path, [item(str(n), 0.0, got, expected=want) for n, (want, got) in enumerate(rows)], names)
    text = table_of(page_of(tmp_path)[1], "system=prompting/zero-shot")
    found = re.findall(r'<td class="number (\w+) shade-\d"[^>]*data-label="no label"', text)
    assert "hit" not in found
    assert found
    assert ("1 of 25 labels: those with the most mistakes." in text) is (labels > MOST_COLUMNS)


def test_each_shade_of_a_mistake_has_its_look() -> None:
    sheet = resources.files("lastresort.report").joinpath("templates/report.css").read_text(encoding="utf-8")
    names = ("label 1", "label 2")
    looks = []
    for wrong in (1, 10, 30, 60):
        items = [item(str(n), 0.0, names[n < wrong], expected=names[0]) for n in range(100)]
        found = of_items(items, names)
        assert found is not None
        shade = f".shade-{found.shade(*names)}"
        looks.append(
            {rule for rule in re.findall(r"^\.confusion td\.miss\S[^{]*\{[^}]*\}", sheet, re.M) if shade in rule}
        )
    assert len(looks) == len(SHADES)
    assert all(looks)
    assert len(set(map(frozenset, looks))) == len(SHADES), "each differs from the others"
