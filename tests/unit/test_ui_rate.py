"""Marks of a person: drawn and blind by a seed, kept at once in files that a task can name, and compared with the scorer's."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from html import unescape
from pathlib import Path

import pytest
from starlette.testclient import TestClient

from climb_support import scripted_task
from lastresort.app import kept
from lastresort.app.kept import append_row, rows_in
from lastresort.app.marks import Drawing, RatingCard, preferred, row_of, with_scorer
from lastresort.data.preferences import read_preferences
from lastresort.errors import DataError, InfrastructureError, InputError
from lastresort.evals.scorers.judge import read_labelled
from lastresort.evals.scorers.judge_model import ComparisonQuestion, GradingQuestion
from lastresort.records.atomic import locked
from lastresort.records.events.run import TaskRead
from lastresort.records.items import ItemPlace, RecordedItem, SystemName
from lastresort.records.record import Record
from lastresort.spec.task import load_task
from lastresort.ui.drafts import data_file
from report_support import HOSTILE
from ui_support import item, page_of, recorded

ONE = {"system": "prompting/zero-shot", "split": "dev", "seed": "5"}
TWO = {**ONE, "with": "prompting/few-shot-3"}
NAMES = [f"{number:02}" for number in range(12)]


@pytest.fixture
def page(tmp_path: Path) -> TestClient:
    plain = [item(name, float(int(name) % 3 > 0), f"plain {name}") for name in NAMES]
    shots = [item(name, 1.0, f"shots {name}") for name in NAMES[:-1]] + [item(NAMES[-1], 1.0, f"plain {NAMES[-1]} ")]
    recorded(tmp_path / "runs" / "mail", ("zero-shot", "dev", plain), ("few-shot-3", "dev", shots))
    return page_of(tmp_path)[1]


def drawn(text: str) -> dict[str, str]:
    """The form of a card: what it sends besides the mark."""
    return {
        name: unescape(value) for name, value in re.findall(r'<input type="hidden" name="(\w+)" value="(.*?)">', text)
    }


def mark_all(page: TestClient, query: dict[str, str], choose: dict[str, str] | str) -> list[str]:
    """Mark each card that comes; returns the ids in their order."""
    text, seen = page.get("/runs/mail/rate", params=query).text, []
    while 'name="item"' in text:
        form = drawn(text)
        seen.append(form["item"])
        mark = choose if isinstance(choose, str) else choose[form["item"]]
        answer = page.post("/runs/mail/rate/mark", data={**form, "mark": mark})
        assert answer.status_code == 200, answer.text
        text = answer.text
    return seen


def marks(tmp_path: Path, name: str) -> list[dict[str, object]]:
    return [json.loads(line) for line in (tmp_path / "tasks" / "mail" / name).read_text().splitlines()]


def test_every_answer_comes_once_in_the_order_of_the_seed(page: TestClient, tmp_path: Path) -> None:
    seen = mark_all(page, ONE, "right")
    assert sorted(seen) == NAMES
    assert seen != NAMES
    (tmp_path / "tasks" / "mail" / "rated_answers.jsonl").unlink()
    assert mark_all(page, ONE, "right") == seen
    (tmp_path / "tasks" / "mail" / "rated_answers.jsonl").unlink()
    assert mark_all(page, {**ONE, "seed": "6"}, "right") != seen


def test_marks_are_cases_for_a_judge_and_agreement_with_the_scorer_is_shown(page: TestClient, tmp_path: Path) -> None:
    mark_all(page, ONE, {name: "wrong" if int(name) % 3 == 0 or name == "01" else "right" for name in NAMES})
    path = tmp_path / "tasks" / "mail" / "rated_answers.jsonl"
    cases = read_labelled(path, GradingQuestion("good", "yes-no"))
    assert {(one.case.answer, one.label) for one in cases} >= {("plain 01", "no"), ("plain 02", "yes")}
    text = page.get("/runs/mail/rate", params=ONE).text
    assert "agree on 91.7% of 12 answers" in text  # all but 01
    assert "Nothing is left to mark in this drawing. 12 answers are marked." in text


def test_a_mark_is_in_the_file_at_once_and_can_be_taken_back(page: TestClient, tmp_path: Path) -> None:
    form = drawn(page.get("/runs/mail/rate", params=ONE).text)
    page.post("/runs/mail/rate/mark", data={**form, "mark": "wrong"})
    [row] = marks(tmp_path, "rated_answers.jsonl")
    assert (row["id"], row["grade"], row["run"]) == (form["item"], "no", "mail")
    again = page.post("/runs/mail/rate/mark", data={**form, "mark": "right"})
    assert again.status_code == 200
    assert [one["grade"] for one in marks(tmp_path, "rated_answers.jsonl")] == ["yes"]
    assert drawn(page.get("/runs/mail/rate", params=ONE).text)["item"] != form["item"]  # a reload goes on
    page.post("/runs/mail/rate/undo", data=form)
    assert marks(tmp_path, "rated_answers.jsonl") == []
    assert drawn(page.get("/runs/mail/rate", params=ONE).text)["item"] == form["item"]


def skip_of(text: str) -> str:
    found = re.search(r'href="(/runs/mail/rate\?[^"]*at=\d+)"', text)
    assert found is not None
    return unescape(found[1])


def test_what_was_skipped_is_not_called_marked_and_is_gone_back_to(page: TestClient) -> None:
    text = page.get("/runs/mail/rate", params=ONE).text
    first = drawn(text)["item"]
    page.post("/runs/mail/rate/mark", data={**drawn(text), "mark": "right"})
    text = page.get("/runs/mail/rate", params=ONE).text
    second = drawn(text)["item"]
    for _ in range(11):
        text = page.get(skip_of(text)).text
    assert "11 skipped." in text
    assert "Nothing is left" not in text
    assert drawn(page.get(skip_of(text)).text)["item"] == second != first
    for query, left in ((TWO, 11), ({**TWO, "seed": "6"}, 11)):
        text = page.get("/runs/mail/rate", params={**query, "at": "100"}).text
        assert f"{left} skipped." in text  # not the pair that nobody need look at


def test_undo_goes_back_to_what_was_undone(page: TestClient) -> None:
    text = page.get("/runs/mail/rate", params=ONE).text
    for _ in range(3):
        text = page.get(skip_of(text)).text
    fourth = drawn(text)
    after = page.post("/runs/mail/rate/mark", data={**fourth, "mark": "right"})
    assert drawn(after.text)["number"] == "4"
    undone = page.post("/runs/mail/rate/undo", data=fourth)
    assert drawn(undone.text) == fourth
    again = page.post(
        "/runs/mail/rate/undo", data=fourth
    )  # nothing is left to undo, as after an undo in another window
    assert drawn(again.text) == fourth


def test_what_is_marked_is_not_read_again(page: TestClient, monkeypatch: pytest.MonkeyPatch) -> None:
    mark_all(page, ONE, "right")
    read: list[int] = []
    item_of = Record.item
    monkeypatch.setattr(Record, "item", lambda self, one, at: read.append(at) or item_of(self, one, at))
    assert "Nothing is left to mark" in page.get("/runs/mail/rate", params=ONE).text
    assert read == []


def test_nothing_tells_whose_answer_is_which_and_the_files_know(page: TestClient, tmp_path: Path) -> None:
    text = page.get("/runs/mail/rate", params=TWO).text
    card = text[text.index('<article class="example rate">') : text.index("</article>")]
    assert "prompting/" not in re.sub(r'<input type="hidden".*?>|href=".*?"', "", card)
    seen = mark_all(page, TWO, "A")
    assert sorted(seen) == NAMES[:-1]  # the last two answers are the same
    rows = marks(tmp_path, "rated_pairs.jsonl")
    assert {row["label"] for row in rows} == {"a", "b"}
    assert all((row["label"] == row["shown_first"]) for row in rows)
    cases = read_labelled(tmp_path / "tasks" / "mail" / "rated_pairs.jsonl", ComparisonQuestion())
    assert all(one.case.answer.startswith("plain") and one.case.reference.startswith("shots") for one in cases)
    pairs = read_preferences(tmp_path / "tasks" / "mail" / "rated_preferences.jsonl")
    for pair, row in zip(pairs, rows, strict=True):
        assert pair.answers[0][0].content == (row["a"] if row["label"] == "a" else row["b"])


def test_ties_are_marks_and_no_preferences(page: TestClient, tmp_path: Path) -> None:
    mark_all(page, TWO, "tie")
    assert len(marks(tmp_path, "rated_pairs.jsonl")) == 11
    assert marks(tmp_path, "rated_preferences.jsonl") == []


def test_what_does_not_belong_is_refused(page: TestClient) -> None:
    form = drawn(page.get("/runs/mail/rate", params=ONE).text)
    assert page.post("/runs/mail/rate/mark", data={**form, "mark": "A"}).status_code == 422
    assert page.post("/runs/mail/rate/mark", data={**form, "item": "other", "mark": "right"}).status_code == 404
    assert page.post("/runs/mail/rate/mark", data={**form, "number": "99", "mark": "right"}).status_code == 404
    assert page.get("/runs/mail/rate", params={**ONE, "system": "nobody"}).status_code == 404
    assert page.get("/runs/mail/rate", params={**ONE, "seed": "-1"}).status_code == 422


@pytest.mark.slow
def test_a_hostile_row_is_text(tmp_path: Path) -> None:
    made = [item("a", 0.0, HOSTILE, input=HOSTILE, expected=HOSTILE)]
    recorded(tmp_path / "runs" / "mail", ("zero-shot", "dev", made), (HOSTILE, "dev", [item("a", 1.0, "ham")]))
    for query in ({}, {"system": "prompting/zero-shot", "with": f"prompting/{HOSTILE}"}):
        text = page_of(tmp_path)[1].get("/runs/mail/rate", params=query).text
        assert "<script>alert" not in text
        assert "&lt;script&gt;" in text
    assert mark_all(page_of(tmp_path)[1], ONE, "wrong") == ["a"]


def card(name: str, scores: tuple[float, float], *, swapped: bool = False) -> RatingCard:
    answers = (item(name, scores[0], "one"), item(name, scores[1], "two"))
    found, other = (RecordedItem(1, 0, SystemName("prompting", "x"), "dev", answer) for answer in answers)
    return RatingCard(0, found, other, swapped)


DRAWING = Drawing("mail", "prompting/x", "prompting/y", "dev", 0)


@pytest.mark.parametrize(
    ("mark", "swapped", "label"),
    [("A", False, "a"), ("B", False, "b"), ("A", True, "b"), ("B", True, "a"), ("tie", True, "tie")],
)
def test_a_and_b_are_as_they_were_shown(mark: str, swapped: bool, label: str) -> None:
    one = card("i", (1.0, 0.0), swapped=swapped)
    assert row_of(DRAWING, one, mark)["label"] == label
    assert (one.first, one.second) == (("two", "one") if swapped else ("one", "two"))
    with pytest.raises(InputError, match='found the mark "right", expected one of A, B, tie'):
        row_of(DRAWING, one, "right")


def test_agreement_of_pairs_is_of_who_scored_higher() -> None:
    rows = [
        row_of(DRAWING, card(str(number), scores), mark)
        for number, (scores, mark) in enumerate(
            [((1.0, 0.0), "A"), ((0.0, 1.0), "B"), ((1.0, 1.0), "tie"), ((0.0, 0.0), "A"), ((0.0, 1.0), "A")]
        )
    ]
    agreed = with_scorer(rows, pairs=True)
    assert agreed is not None
    assert (agreed.n, agreed.share) == (5, 0.6)
    found = preferred(rows)
    assert (found.wins, found.losses, found.ties) == (3, 1, 1)
    assert with_scorer([], pairs=True) is None
    assert preferred([]).interval is None


def test_both_sides_come_first_about_as_often_and_the_same_for_a_seed() -> None:
    sides = [DRAWING.swaps(str(number)) for number in range(400)]
    assert 160 < sum(sides) < 240
    assert sides == [DRAWING.swaps(str(number)) for number in range(400)]
    places = [ItemPlace(1, number, str(number)) for number in range(900)]
    assert len(DRAWING.order(places)) == len(set(DRAWING.order(places))) == 400


CHANGE = """
import sys, time
from pathlib import Path
from lastresort.app import kept, marks
path, name, drawing = Path(sys.argv[1]), sys.argv[2], marks.Drawing("mail", "x", "", "dev", 0)
read = kept.rows_in
marks.rows_in = lambda path: (read(path), time.sleep(0.02))[0]
for number in range(6):
    kept.append_row(path / "kept.jsonl", {"input": f"{name} {number}", "output": "o"})
    row = {"run": "mail", "system": "x", "against": "", "split": "dev", "id": f"{name} {number}", "grade": "yes"}
    marks.MarkFiles(path).add(drawing, row)
"""


@pytest.mark.slow
def test_two_pages_on_one_folder_lose_no_row_of_each_other(tmp_path: Path) -> None:
    pages = [subprocess.Popen([sys.executable, "-c", CHANGE, str(tmp_path), name]) for name in ("a", "b")]
    assert [page.wait(60) for page in pages] == [0, 0]
    assert len(rows_in(tmp_path / "kept.jsonl")) == len(rows_in(tmp_path / "rated_answers.jsonl")) == 12
    assert data_file(tmp_path) is None  # what holds the files is no data


def test_kept_rows_are_whole_and_no_link_is_followed(tmp_path: Path) -> None:
    path = tmp_path / "kept.jsonl"
    path.write_text('{"input": "a", "output": "b"}')  # without its line end, as an editor leaves it
    assert append_row(path, {"input": "c\n\u2028", "output": "d"}) == 2
    assert [row["input"] for row in rows_in(path)] == ["a", "c\n\u2028"]
    for _ in range(2):
        with pytest.raises(InputError, match=r"^kept\.jsonl: this is its last row already, so it was not added again"):
            append_row(path, {"input": "c\n\u2028", "output": "d"})
    assert append_row(path, {"input": "\n\u2028", "output": "d"}) == 3
    assert append_row(path, {"input": "c\n\u2028", "output": "d"}) == 4  # no longer the last
    path.write_text('{"input": "a"}\nnot json\n')
    with pytest.raises(DataError, match="found in line 2"):
        rows_in(path)
    link = tmp_path / "link.jsonl"
    link.symlink_to(path)
    with pytest.raises(DataError, match="found a link"):
        append_row(link, {"input": "a"})


def test_a_file_that_another_page_does_not_let_go_of_is_not_waited_for_without_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(kept, "WAIT_S", 0.1)
    with (
        locked(tmp_path / ".kept.jsonl.lock"),
        pytest.raises(InfrastructureError, match=r"kept\.jsonl: another process has held this"),
    ):
        append_row(tmp_path / "kept.jsonl", {"input": "a"})
    assert append_row(tmp_path / "kept.jsonl", {"input": "a"}) == 1


@pytest.mark.sampled(3)
@pytest.mark.parametrize(("count", "folded"), [(0, False), (3, False), (30, True)])
def test_whoever_marks_sees_what_was_asked_and_which_labels_are_allowed(
    page: TestClient, tmp_path: Path, count: int, folded: bool
) -> None:
    assert "What was asked" not in page.get("/runs/mail/rate", params=ONE).text, "the record does not say"
    labels = [f"label <{number}>" for number in range(count)]
    about = f"Sort the <mail>. {'Mind the rules. ' * 300}the end"
    keys = {"about": about, "output": {"choices": labels} if labels else {}, "score": "exact"}
    task = load_task(scripted_task(tmp_path / "tasks" / "mail", quality=[], task=keys))
    with Record.open(tmp_path / "runs" / "mail") as record:
        record.append(TaskRead(task=task.resolved()))
    shown = page.get("/runs/mail/rate", params=ONE).text
    asked, _, card = shown.partition('id="card"')
    assert "Sort the &lt;mail&gt;." in asked
    assert "more characters</summary>" in asked, "a long instruction is folded"
    assert "the end" in asked
    assert [unescape(one) for one in re.findall(r"<li>(label .*?)</li>", asked)] == labels
    assert ("30 labels are allowed</summary>" in asked) == folded
    assert ("Allowed labels" in asked) == (count > 0 and not folded)
    assert "Sort the" not in card, "it is not read again with every card"
