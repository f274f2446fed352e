"""The items of a run in the page: listed and filtered by its address, compared, and one of them with its prompt."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from starlette.testclient import TestClient

from climb_support import scripted_task
from gate_report_support import gate_found
from lastresort.after.recheck import finished
from lastresort.after.recheck.finished import read_again
from lastresort.climb.llm_judge import answer_hash
from lastresort.records.events.after_test import GateRun
from lastresort.records.events.run import AnswersJudged, JudgeCalls, JudgedAnswer, JudgeOpened, TaskRead
from lastresort.records.gate import ClimbGate
from lastresort.records.record import Record
from lastresort.report.story import all_answered
from lastresort.spec.task import load_task
from lastresort.systems.files import candidate_folder, save_system
from lastresort.systems.system import PromptDesign, Shot, System
from lastresort.types import Decoding, Message
from report_support import HOSTILE
from ui_support import finished_run, item, page_of, recorded

LONG = "x" * 1_000_000
RTL = "\u202eevil\u2066\x1b[31mred\x07"
FIRST = [
    item("a", 1.0, "spam"),
    item("b", 0.0, "ham"),
    item("c", 0.0, HOSTILE, input=HOSTILE, format_ok=False, finish="length"),
    item("d", 0.0, LONG, input=RTL, expected=LONG),
]
SECOND = [item("a", 0.0, "ham"), item("b", 1.0, "spam"), item("c", 0.0, "ham"), item("d", 0.0, RTL)]


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> TestClient:
    folder = tmp_path_factory.mktemp("workspace")
    recorded(
        folder / "runs" / "mail", ("zero-shot", "test", FIRST), (HOSTILE, "test", SECOND), ("other", "dev", FIRST[:1])
    )
    recorded(
        folder / "runs" / "many", ("zero-shot", "test", [item(f"{n:03}", float(n % 2), "spam") for n in range(120)])
    )
    recorded(folder / "runs" / "none")
    return page_of(folder)[1]


def shown(text: str) -> list[str]:
    """Ids of the items in a list."""
    return re.findall(r"<code>(\w+)</code></a><small>", text)


def items(page: TestClient, **query: str | int) -> str:
    run = query.pop("run", "mail")
    answer = page.get(f"/runs/{run}/items", params={"system": "prompting/zero-shot", **query})
    assert answer.status_code == 200
    return answer.text


def test_filters_are_in_the_address(page: TestClient) -> None:
    assert shown(items(page)) == ["a", "b", "c", "d"]
    assert shown(items(page, kind="wrong")) == ["b", "c", "d"]
    assert shown(items(page, kind="format")) == shown(items(page, kind="cut")) == ["c"]
    assert shown(items(page, text="MESSAGE B")) == ["b"]
    assert shown(items(page, system="all", split="dev")) == ["a"]
    assert "No item matches" in items(page, kind="refused")


@pytest.mark.parametrize("path", ["?n={}", "/gate?n={}", "/{}/0", "/1/{}", "/1/0?n={}", "/{}/0/prompt", "/1/{}/tokens"])
def test_a_number_that_no_record_holds_is_refused(page: TestClient, path: str) -> None:
    for number in (2**70, -1):
        assert page.get(f"/runs/mail/items{path.format(number)}").status_code == 422


def test_two_systems_side_by_side_with_the_difference_marked(page: TestClient) -> None:
    both = items(page, **{"with": f"prompting/{HOSTILE}"})
    assert shown(both) == ["a", "b", "c", "d"]
    first, second = both.split("<tbody>")[1].split("</tr>")[:2]
    assert '<span class="tag won">improved</span>' in first, "a is right here, and wrong in the system compared with"
    assert '<span class="tag lost">regressed</span>' in second
    assert '<td class="answered right"' in first
    assert re.findall('<td class="answered (right|wrong)"', first + second) == ["right", "wrong", "wrong", "right"]
    assert "<mark>ham</mark>" in both
    assert "Improved: right here, wrong in" in both
    found = {
        change: shown(items(page, change=change, **{"with": f"prompting/{HOSTILE}"}))
        for change in ("improved", "regressed", "both wrong", "both right")
    }
    assert found == {"improved": ["a"], "regressed": ["b"], "both wrong": ["c", "d"], "both right": []}


def test_a_split_that_only_one_of_two_systems_answered_leads_to_one_that_both_did(tmp_path: Path) -> None:
    recorded(
        tmp_path / "runs" / "mail",
        ("one", "dev", FIRST[:3]), ("one", "test", FIRST[3:]), ("two", "dev", SECOND[:2]), ("three", "train", SECOND),
    )  # fmt: skip
    page = page_of(tmp_path)[1]
    empty = items(page, system="prompting/one", split="test", kind="right", **{"with": "prompting/two"})
    link = re.search(r'href="([^"]*)">dev has 2 in common</a>', empty)
    assert link is not None
    assert shown(page.get(link[1].replace("&amp;", "&")).text) == ["a", "b"]
    assert "in common</a>" not in items(page, system="prompting/one", split="test", **{"with": "prompting/three"})


def test_a_search_without_a_hit_says_so_and_leads_back(tmp_path: Path) -> None:
    recorded(tmp_path / "runs" / "mail", ("one", "dev", FIRST[:2]), ("two", "dev", SECOND[:2]))
    page = page_of(tmp_path)[1]
    for against in ("", "prompting/two"):
        empty = items(page, system="prompting/one", split="dev", kind="right", text="zzz<q", **{"with": against})
        assert "contains “zzz&lt;q”" in empty
        assert "in common" not in empty
        link = re.search(r'href="([^"]*)">Show all items</a>', empty)
        assert link is not None
        assert shown(page.get(link[1].replace("&amp;", "&")).text) == ["a", "b"]


def test_the_list_starts_on_dev_and_warns_above_test_items(tmp_path: Path) -> None:
    finished_run(tmp_path)
    page = page_of(tmp_path)[1]
    first = page.get("/runs/routing-1/items").text
    assert "<option selected>dev</option>" in first
    assert "A test set stays held out" not in first
    system = re.search(r"<option selected>(prompting/[^<]+)</option>", first)
    assert system is not None
    for split in ("test", ""):
        text = page.get("/runs/routing-1/items", params={"system": system[1], "split": split}).text
        assert 0 < text.index("A test set stays held out") < text.index("<tbody>")
    report = page.get("/runs/routing-1").text
    assert "stay hidden" not in report
    assert "Test items are not in this report" in report


def test_a_verdict_on_fewer_items_than_were_answered_says_both_scores(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On the run's page, in the list of its test items, and where runs are compared."""
    site, page = page_of(tmp_path)
    with Record.open(finished_run(tmp_path), read_only=True) as record:
        [answered] = [one for one in record.measured("prompting") if one.split == "test"]
    finished_run(tmp_path, "routing-2", bar=0.5)
    view = site.workspace.state("routing-1").view
    assert view is not None
    test = view.rungs[0].test
    assert test is not None
    assert (answered.n > test.n_used, answered.score) == (True, test.score)
    address = f"/runs/routing-1/items?system=prompting/{answered.candidate}&split="
    compared = "/compare?run=routing-1&run=routing-2"
    assert "answered" not in page.get(compared).text, "two scores that are one"
    same = f"stopped at {test.n_used} items; over all {answered.n} that were answered by then, the score is 100.0% as well."
    assert same in page.get(f"{address}test").text
    assert same not in page.get(f"{address}dev").text
    wrong = answered.model_copy(update={"score": 0.9})
    monkeypatch.setattr(Record, "measured", lambda *_: [wrong])
    said = f"The test stopped at {test.n_used} items with 100.0%; over all {answered.n} that were answered by then it is 90.0%."
    assert said in page.get("/runs/routing-1").text
    assert said in page.get(f"{address}test").text
    assert said not in page.get(f"{address}dev").text
    assert f"<small>90.0% over all {answered.n} answered</small>" in page.get(compared).text
    with Record.open(site.workspace.run("routing-1"), read_only=True) as record:
        decided = test.model_copy(update={"n_used": answered.n})
        assert all_answered(record, view.rungs[0].model_copy(update={"test": decided})) is None


def test_every_change_is_counted_as_all(page: TestClient) -> None:
    """Both right and both wrong are none."""
    listed = items(page, **{"with": f"prompting/{HOSTILE}"})
    assert "any change" not in listed
    assert listed.count(">all <b>4</b>") == 2


def test_an_item_of_two_systems_shows_how_each_came_out_and_the_first_answer_once(page: TestClient) -> None:
    text = page.get(
        "/runs/mail/items/1/0", params={"system": "prompting/zero-shot", "with": f"prompting/{HOSTILE}"}
    ).text
    answers = text[text.index('id="answer-title"') : text.index('id="prompt-title"')]
    assert re.findall(r"<h3>(.*?)</h3>", answers)[-1] == "Expected"
    assert re.findall(r'class="result (\w+)"', answers) == ["right", "wrong"]
    assert "<h3>Got</h3>" not in answers
    assert "improved" in text[: text.index("<dl")]
    listed = items(page, **{"with": f"prompting/{HOSTILE}"})
    assert '<td data-label="Expected"><span class="cell" dir="auto">spam</span></td>' in listed
    assert "<h3>Got</h3>" in page.get("/runs/mail/items/1/0").text


def test_whatever_is_written_in_a_row_is_text_and_cut_in_the_list(page: TestClient) -> None:
    for text in (items(page, **{"with": f"prompting/{HOSTILE}"}), items(page), page.get("/runs/mail/items/1/2").text):
        assert "<script>alert" not in text
        assert "<img" not in text
        assert "&lt;script&gt;" in text
        assert not set(text) & {"\u202e", "\u2066", "\x1b", "\x00", "\x07"}
        assert len(text) < 60_000
    whole = page.get("/runs/mail/items/1/3").text
    assert LONG in whole  # folded away, and there
    assert "500,000" in whole or "more characters" in whole


def test_an_item_shows_no_time_that_rounds_to_nothing(page: TestClient, tmp_path: Path) -> None:
    assert "<dt>Time</dt>" in page.get("/runs/mail/items/1/0").text
    finished_run(tmp_path)
    text = page_of(tmp_path)[1].get("/runs/routing-1/items/1/0").text
    assert "<dt>Tokens</dt>" in text
    assert "<dt>Time</dt>" not in text, "a scripted model answers at once"


def test_fifty_at_a_time(page: TestClient) -> None:
    first, last = items(page, run="many"), items(page, run="many", n=100)
    assert (len(shown(first)), len(shown(last))) == (50, 20)
    assert "1 to 50 of 120" in first
    assert "101 to 120 of 120" in last
    assert "There are only 120 items" in items(page, run="many", n=200)
    assert len(shown(items(page, run="many", kind="right", n=50))) == 10


def test_the_list_alone_for_htmx_and_the_page_for_its_history(page: TestClient) -> None:
    address = "/runs/mail/items?system=all"
    assert "<html" not in page.get(address, headers={"hx-request": "true"}).text
    restored = page.get(address, headers={"hx-request": "true", "hx-history-restore-request": "true"})
    assert "<html" in restored.text


def test_the_other_system_s_item_keeps_comparison_filter_and_neighbours(page: TestClient) -> None:
    query = f"system=prompting/zero-shot&with={quote('prompting/' + HOSTILE)}&change=both wrong&n=0"
    here = page.get(f"/runs/mail/items/1/2?{query}").text
    link = re.search(r'<a href="([^"]*)">This item of [^<]*, with its prompt</a>', here)
    assert link is not None
    assert link[1].startswith("/runs/mail/items/2/2?")
    there = page.get(link[1].replace("&amp;", "&")).text
    assert 'id="after"' in here
    assert re.findall(r'id="after" href="[^"]*"', there) == re.findall(r'id="after" href="[^"]*"', here)
    back = re.search(r'<a href="([^"]*)">This item of prompting/zero-shot, with its prompt</a>', there)
    assert back is not None
    assert back[1].startswith("/runs/mail/items/1/2?")
    assert "both wrong" in there


def test_the_prompts_of_two_systems_show_in_what_they_differ(tmp_path: Path) -> None:
    run = recorded(tmp_path / "runs" / "mail", ("one", "test", FIRST[:1]), ("two", "test", SECOND[:1]))
    for name, inputs in (("one", ("Win money",)), ("two", ("Win money", "Lunch?"))):
        shots = tuple(Shot((Message("user", text),), "spam") for text in inputs)
        system = System(name, "embedded", PromptDesign("Say what it is.", shots=shots, k=len(shots)), Decoding(8))
        save_system(system, candidate_folder(run, "prompting", name))
    page = page_of(tmp_path)[1]
    wider = page.get("/runs/mail/items/2/0/prompt?beside=1&beside_position=0").text
    marked = re.findall(
        r'<h3>(\w+) <span class="tag">not in the other prompt</span></h3>\s*<pre dir="auto">(.*?)</pre>', wider
    )
    assert marked == [("user", "Lunch?"), ("assistant", "spam")], "a shot with its answer, which another shot has too"
    narrower = page.get("/runs/mail/items/1/0/prompt?beside=2&beside_position=0").text
    assert "Every turn is in the prompt of prompting/two too." in narrower
    assert page.get("/runs/mail/items/1/0/prompt?beside=9&beside_position=0").status_code == 404


def test_the_list_that_is_shown_is_a_file_of_rows(page: TestClient) -> None:
    query = {"system": "prompting/zero-shot", "with": f"prompting/{HOSTILE}", "change": "regressed"}
    listed = items(page, **query)
    link = re.search(r'href="([^"]*)" download>Download 1.item as JSON Lines', listed)
    assert link is not None
    answer = page.get(link[1].replace("&amp;", "&"))
    assert answer.headers["content-disposition"] == 'attachment; filename="mail-items.jsonl"'
    [row] = map(json.loads, answer.text.splitlines())
    assert row == {
        "id": "b", "split": "test", "input": "message b", "expected": "spam", "system": "prompting/zero-shot",
        "answer": "ham", "score": 0.0, "against": f"prompting/{HOSTILE}", "answer_against": "spam",
        "score_against": 1.0, "change": "regressed",
    }  # fmt: skip
    every = page.get("/runs/many/items.jsonl").text.splitlines()
    assert len(every) == 120, "not a page of them"


def test_an_expected_object_is_written_as_the_answers_of_two_systems_are(tmp_path: Path) -> None:
    right, wrong = '{"a": 1, "b": 2}', '{"a": 1, "b": 3}'
    measured = [
        ("one", "dev", [item("x", 1.0, right, expected=right)]),
        ("two", "dev", [item("x", 0.0, wrong, expected=right)]),
    ]
    recorded(tmp_path / "runs" / "mail", *measured)
    listed = items(page_of(tmp_path)[1], system="prompting/one", **{"with": "prompting/two"})
    cell = re.search(r'<td data-label="Expected">(.*?)</td>', listed, re.DOTALL)
    assert cell is not None
    assert "\n" in cell[1].strip()
    assert "<mark>" not in cell[1]


def test_an_item_leads_to_its_neighbours_in_the_list_it_came_from(page: TestClient) -> None:
    text = page.get("/runs/mail/items/1/2?system=prompting/zero-shot&kind=wrong&n=1").text
    assert re.search(r'id="before" href="/runs/mail/items/1/1\?system=[^"]*kind=wrong&amp;n=0"', text)
    assert re.search(r'id="after" href="/runs/mail/items/1/3\?[^"]*n=2"', text)
    first, last = (page.get(f"/runs/mail/items/1/{n}?system=prompting/zero-shot&n={n}").text for n in (0, 3))
    assert ('id="before"' in first, 'id="after"' in first) == (False, True)
    assert ('id="before"' in last, 'id="after"' in last) == (True, False)
    assert 'id="before"' not in page.get("/runs/mail/items/1/2").text
    assert "/runs/mail/items/2/2" in text  # what the other system answered


def test_what_is_not_there_is_said(page: TestClient) -> None:
    assert page.get("/runs/mail/items/9/0").status_code == 404
    assert page.get("/runs/nowhere/items").status_code == 404
    assert page.get("/runs/mail/items?n=-1").status_code == 422
    assert "No answers are recorded yet" in page.get("/runs/none/items").text
    assert "cannot be rebuilt" in page.get("/runs/mail/items/1/0/prompt").text
    assert "This run had no gate" in page.get("/runs/mail/items/gate").text


def test_an_unknown_system_or_kind_in_an_address_lists_every_item(page: TestClient) -> None:
    assert len(shown(items(page, system="prompting/gone", split="moon", kind="odd", change="odd"))) == 9


@pytest.fixture
def own(tmp_path: Path) -> Path:
    return recorded(tmp_path / "runs" / "mail", ("fixed", "test", FIRST[:2]))


def test_the_prompt_is_made_again_of_the_saved_system(own: Path) -> None:
    shots = (Shot((Message("user", "Win money"),), "spam"),)
    design = PromptDesign("Say what it is.", layout="sections", shots=shots, k=1)
    save_system(System("fixed", "embedded", design, Decoding(8)), candidate_folder(own, "prompting", "fixed"))
    text = page_of(own.parent.parent)[1].get("/runs/mail/items/1/0/prompt").text
    turns = re.findall(r'<h3>(\w+)</h3>\s*<pre dir="auto">(.*?)</pre>', text, re.DOTALL)
    assert turns == [
        ("system", "Say what it is."),
        ("user", "&lt;input&gt;\nWin money\n&lt;/input&gt;"),
        ("assistant", "spam"),
        ("user", "&lt;input&gt;\nmessage a\n&lt;/input&gt;"),
    ]
    assert "the recorded input, here as one user turn at the end: " in text


def test_the_input_is_the_example_s_own_where_the_workspace_holds_it_unchanged(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = finished_run(tmp_path)
    _, page = page_of(tmp_path)
    with Record.open(run, read_only=True) as record:
        [part, *_] = record.parts()
    address = f"/runs/routing-1/items/{part.number}/0/prompt"
    read: list[Path] = []

    def counted(run: Path, *rest: Any, **options: Any) -> Any:
        read.append(run)
        return read_again(run, *rest, **options)

    monkeypatch.setattr(finished, "read_again", counted)
    for _ in range(3):
        assert "the example as its file holds it" in page.get(address).text
    assert read == [run]  # once, whoever looks at one item after the other
    with Record.open(run, read_only=True) as record:
        asked = record.item(part.number, 0)
    lines = [json.loads(line) for line in (tmp_path / "tasks" / "routing" / "rows.jsonl").read_text().splitlines()]
    assert asked is not None
    number = 1 + [line["input"] for line in lines].index(asked.item.input)
    assert f'<small id="row" hx-swap-oob="true">row {number}</small>' in page.get(address).text
    assert '<small id="row"></small>' in page.get(address.removesuffix("/prompt")).text
    rows = tmp_path / "tasks" / "routing" / "rows.jsonl"
    rows.write_text(rows.read_text() + '{"input": "one more", "output": "billing"}\n')
    changed = page.get(address).text
    assert "has changed since" in changed
    assert 'id="row"' not in changed


def test_items_of_a_gate_are_those_that_the_record_keeps(own: Path) -> None:
    with Record.open(own) as record:
        record.append(GateRun(gate=ClimbGate.model_validate(gate_found()), repaired=False))
    _, page = page_of(own.parent.parent)
    assert "a page of their own" in page.get("/runs/mail/items").text
    text = page.get("/runs/mail/items/gate").text
    assert "2 items" in text
    assert "<script>alert" not in text
    assert "1 item<" in page.get("/runs/mail/items/gate?change=got%20worse&measure=general").text
    assert "0 items" in page.get(f"/runs/mail/items/gate?text={quote('no such text')}").text


@pytest.mark.sampled(3)
@pytest.mark.parametrize(
    ("asks", "said", "text"),
    [
        ("comparison", ("A", "tie"), "With this answer shown as A it said A, shown as B it said tie."),
        ("comparison", (), "was not asked: it is the expected answer."),
        ("grading", ("4",), "graded it: 4."),
        (None, None, ""),
    ],
)
def test_a_score_of_a_judge_comes_with_what_it_said(own: Path, asks: Any, said: Any, text: str) -> None:
    with Record.open(own) as record:
        task = load_task(scripted_task(own / "task", quality=[])).resolved()
        record.append(TaskRead(task=task | {"score": {"judge": "embedded"}}))
        if asks is not None:
            grading = asks == "grading"
            record.append(
                JudgeOpened(
                    fingerprint="f",
                    model="embedded",
                    asks=asks,
                    criterion="good" if grading else None,
                    scale="1-5" if grading else None,
                    self_preference=True,
                    price_known=True,
                )
            )
            for answer in ("another", "spam"):
                calls = JudgeCalls(calls=1, tokens_in=1, tokens_out=1, seconds=0.0, usd=0.0, paid_usd=0.0)
                verdict = said if answer == "spam" else ("unparsed",) * (1 if grading else 2)
                judged = JudgedAnswer(id="a", answer=answer_hash(answer), score=1.0, said=verdict, **calls.model_dump())
                record.append(AnswersJudged(items=(judged,)))
    page = page_of(own.parent.parent)[1]
    first = page.get("/runs/mail/items/1/0").text
    assert "by judge" in first
    assert text in first
    assert ("holds no verdict" in page.get("/runs/mail/items/1/1").text) is (asks is not None)
