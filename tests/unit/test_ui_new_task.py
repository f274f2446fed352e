"""From a file to a started climb on the page, and what a hostile file, name or text can do there: nothing."""

from __future__ import annotations

import io
import json
import os
import re
import sys
import threading
import unicodedata
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from html import unescape
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from starlette.testclient import TestClient

from lastresort.advice.advise import open_facts
from lastresort.advice.questions import QUESTIONS, FactQuestion, read_answer
from lastresort.advice.task_facts import facts_of
from lastresort.app import columns, data_check
from lastresort.app.advise import answer_in_task
from lastresort.app.examples import example_tasks
from lastresort.data.files import read_rows
from lastresort.data.formats.rows import RawRow
from lastresort.errors import InfrastructureError, InputError
from lastresort.records.atomic import held
from lastresort.records.events.after_test import GateChosen
from lastresort.records.events.run import ClimbFinished, OptionsChosen
from lastresort.records.record import Record
from lastresort.report.words.draft import BAR, OWN_BAR, SHORT_LADDER, WHOLE_LADDER
from lastresort.report.words.wording import sentence
from lastresort.spec.document import parse_document
from lastresort.spec.task import load_task
from lastresort.ui import drafts, jobs
from lastresort.ui.children import Children, CommandOutput, children_of
from lastresort.ui.site import PAGES, Site, shown_text
from lastresort.ui.workspace import next_name
from record_support import edit
from ui_support import finished_run, htmx_page_of, recorded_starts, until

CSV = "review,sentiment\n" + "".join(
    f'"number {i} is {"fine" if i % 2 else "bad"}, <b>really</b>",{"pos" if i % 2 else "neg"}\n' for i in range(200)
)


@pytest.fixture
def opened(tmp_path: Path) -> tuple[Site, TestClient]:
    (tmp_path / "ws").mkdir()
    return htmx_page_of(tmp_path / "ws")


@pytest.fixture
def site(opened: tuple[Site, TestClient]) -> Site:
    return opened[0]


@pytest.fixture
def page(opened: tuple[Site, TestClient]) -> TestClient:
    return opened[1]


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch) -> list[tuple[jobs.Command, tuple[str, ...]]]:
    return recorded_starts(monkeypatch)


def upload(page: TestClient, name: str, content: bytes | str = CSV, task: str = "") -> tuple[int, str]:
    """The status, and where the page goes or what it says."""
    data = content.encode() if isinstance(content, str) else content
    found = page.post("/new/upload", files={"file": (name, io.BytesIO(data))}, data={"name": task})
    return found.status_code, found.headers.get("hx-redirect", found.text)


def text_of(site: Site, name: str) -> str:
    return (site.workspace.tasks / name / drafts.DRAFT).read_text()


def test_a_csv_becomes_a_task_with_reasons(page: TestClient, site: Site) -> None:
    assert upload(page, "reviews.csv") == (204, "/new/reviews")
    text = text_of(site, "reviews")
    values = parse_document(text, "t").values
    assert (values["score"], values["columns"]) == ("choice", {"input": "review", "output": "sentiment"})
    assert "# the label and nothing else counts" in text
    shown = page.get("/new/reviews").text
    assert 'value="0.85"' in shown
    assert "The text is valid." in shown
    assert (site.workspace.tasks / "reviews" / "reviews.csv").read_text() == CSV


def test_what_other_pages_keep_there_is_no_upload(page: TestClient, site: Site) -> None:
    upload(page, "reviews.csv")
    for name in ("kept.jsonl", "kept_pairs.jsonl", "rated_answers.jsonl", "a.schema.json"):
        (site.workspace.tasks / "reviews" / name).write_text("{}\n")
    assert "Rows from reviews.csv" in page.get("/new/reviews").text
    assert "reviews/reviews.csv" in page.get("/train").text


def test_a_second_file_of_a_name_gets_a_folder_of_its_own(page: TestClient, site: Site) -> None:
    upload(page, "reviews.csv")
    assert upload(page, "reviews.csv", CSV.replace("number", "case")) == (204, "/new/reviews-2")
    assert (site.workspace.tasks / "reviews" / "reviews.csv").read_text() == CSV


def replace(page: TestClient, name: str, content: str, **fields: str) -> tuple[int, str]:
    found = page.post("/new/reviews/file", files={"file": (name, io.BytesIO(content.encode()))}, data=fields)
    return found.status_code, found.headers.get("hx-redirect", found.text)


def test_another_file_takes_the_place_of_the_data_and_the_text_stays(page: TestClient, site: Site) -> None:
    """The file before stays, as a run may be resumed; what was typed a moment ago counts."""
    upload(page, "reviews.csv")
    folder, text = site.workspace.tasks / "reviews", text_of(site, "reviews")
    newer = CSV.replace("number", "case")
    assert replace(page, "reviews.csv", newer, text=text.replace("0.85", "0.9")) == (204, "/new/reviews")
    expected = text.replace("0.85", "0.9").replace("examples: reviews.csv", "examples: reviews-2.csv")
    assert text_of(site, "reviews") == expected
    assert [(folder / name).read_text() for name in ("reviews.csv", "reviews-2.csv")] == [CSV, newer]
    shown = page.get("/new/reviews").text
    assert "Rows from reviews-2.csv" in shown
    assert "The text is valid." in shown
    assert "reviews-2.csv" in page.get("/new/reviews/columns").text


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (CSV.replace("review,", "text,"), 'other.csv has no column "review"'),
        (CSV.replace(",neg", ",meh"), 'not among the choices: "meh"'),
        (CSV[:2000], "Add examples"),
    ],
)
def test_what_does_not_fit_another_file_is_said_by_the_check(
    page: TestClient, site: Site, content: str, said: str
) -> None:
    from lastresort.climb.prepare import prepare

    upload(page, "reviews.csv")
    assert replace(page, "other.csv", content.rpartition("\n")[0] + "\n") == (204, "/new/reviews")
    folder = site.workspace.tasks / "reviews"
    with pytest.raises(InputError, match=said):
        prepare(drafts.task_from(text_of(site, "reviews"), folder))


@pytest.mark.sampled(3)
@pytest.mark.parametrize(
    ("name", "content", "text", "said"),
    [
        ("other.py", "x", "", "expected .csv"),
        ("other.csv", "a,b\n1,2,3\n", "", "other.csv, row 1"),
        ("other.csv", CSV, "examples: {train: a.csv, test: b.csv}\n", "a file for each of train, test"),
        ("other.csv", CSV, "a: [", "task.yaml"),
    ],
)
def test_another_file_that_is_refused_changes_nothing(
    page: TestClient, site: Site, name: str, content: str, text: str, said: str
) -> None:
    upload(page, "reviews.csv")
    before = text_of(site, "reviews")
    status, found = replace(page, name, content, text=text)
    assert (status, said in found) == (422, True), found
    assert text_of(site, "reviews") == before
    assert not (site.workspace.tasks / "reviews" / name).exists()
    mark = re.findall(r'name="seen" value="(\w+)"', page.get("/new/reviews").text)[0]
    page.post("/new/reviews/text", data={"text": before + "# one\n", "seen": mark})
    assert replace(page, "other.csv", CSV, text=before, seen=mark)[0] == 422
    assert not (site.workspace.tasks / "reviews" / "other.csv").exists()


def test_a_draft_is_removed_into_a_folder_of_its_own_and_nothing_that_was_used(page: TestClient, site: Site) -> None:
    folder, runs = site.workspace.folder, site.workspace.runs
    finished_run(folder)
    for name in ("phone", "kept", "routing"):
        (folder / "tasks" / name).mkdir(parents=True, exist_ok=True)
        (folder / "tasks" / name / "draft.yaml").write_text("task: phone\n")
    (folder / "tasks" / "kept" / "kept.jsonl").write_text("{}\n")
    assert re.findall(r'aria-label="Remove (\w+)"', page.get("/new").text) == ["phone"]
    for name, status in (("kept", 422), ("routing", 422), ("none", 404), ("..", 404)):
        assert page.post(f"/new/{name}/remove").status_code == status, name
    assert page.post("/new/phone/remove").headers["hx-redirect"] == "/new"
    assert not (folder / "tasks" / "phone").exists()
    [moved] = (runs / ".lastresort" / "removed").iterdir()
    assert (moved / "draft.yaml").read_text() == "task: phone\n"


def test_a_task_has_the_name_of_its_folder(page: TestClient, site: Site) -> None:
    for file, task, name in (("a.csv", "", "a"), ("a.csv", "", "a-2"), ("a.csv", "My--Requests v1", "My--Requests-v1")):
        assert upload(page, file, task=task) == (204, f"/new/{name}")
        assert parse_document(text_of(site, name), "t").values["task"] == name
    upload(page, "a.csv", task="отзывы")
    assert parse_document(text_of(site, "отзывы"), "t").values["task"] == "task"


def test_the_page_proposes_the_columns_that_the_command_line_does(page: TestClient) -> None:
    header = "Request ID,Channel,User utterance,Assigned skill\n"
    rows = [f"REQ-{i},{'ab'[i % 2]},some words {i},{'xyz'[i % 3]}\n" for i in range(200)]
    assert upload(page, "odd.csv", header + "".join(rows)) == (204, "/new/odd/columns")
    shown = page.get("/new/odd/columns").text
    for column in ("User utterance", "Assigned skill"):
        assert shown.count(f'<option value="{column}" selected>') == 1
    assert "Check the proposed columns" in shown


def test_open_columns_are_chosen_by_a_person(page: TestClient, site: Site) -> None:
    rows = "alpha,beta,gamma\n" + "".join(f"some words {i},{i % 3},{i % 4} apples\n" for i in range(200))
    assert upload(page, "odd.csv", rows) == (204, "/new/odd/columns")
    assert page.get("/new/odd").headers["location"] == "/new/odd/columns"
    assert "0, 1, 2" in page.get("/new/odd/columns").text
    assert page.get("/new/odd/columns").text.count(" selected>") == 1, "two could be the answer"
    again = "Drafting again replaces the text."
    assert again not in page.get("/new/odd/columns").text
    assert page.post("/new/odd/columns", data={"source": "alpha", "target": ""}).status_code == 422
    found = page.post("/new/odd/columns", data={"source": "alpha", "target": "beta"})
    assert again in page.get("/new/odd/columns").text
    assert found.headers["hx-redirect"] == "/new/odd"
    assert "input: alpha, output: beta" in text_of(site, "odd")
    page.post("/new/odd/columns", data={"source": "alpha", "target": "gamma"})
    assert "input: alpha, output: gamma" in text_of(site, "odd")


@pytest.mark.parametrize(
    ("name", "kept"),
    [
        ("../../escape.csv", "escape.csv"),
        ("..\\..\\escape.csv", "escape.csv"),
        ("/etc/cron.csv", "cron.csv"),
        ("a\0b.csv", "a-00b.csv"),
        ("<script>.csv", "script.csv"),
        ("x" * 300 + ".csv", "x" * 80 + ".csv"),
        (".hidden.csv", "hidden.csv"),
        ("REVIEWS.CSV", "REVIEWS.csv"),
    ],
)
def test_a_file_gets_a_safe_name_inside_the_workspace(page: TestClient, site: Site, name: str, kept: str) -> None:
    status, _ = upload(page, name)
    assert status == 204
    files = [path for path in site.workspace.folder.rglob("*") if path.is_file() and path.name != drafts.DRAFT]
    assert [path.name for path in files] == [kept]
    assert files[0].parent.parent == site.workspace.tasks
    assert not list(site.workspace.folder.parent.glob("*.csv"))


def test_a_name_with_a_control_character_is_made_safe() -> None:
    assert drafts.file_name_of("a\0b\x1b[2J\u202e.csv") == ("a-b-2J", ".csv")


@pytest.mark.parametrize("name", ["run.py", "task.yaml", "..", ".csv", "x.csv.exe", "a.sh", "…"])
def test_other_files_are_refused_and_nothing_is_left(page: TestClient, site: Site, name: str) -> None:
    status, said = upload(page, name)
    assert status == 422
    assert "refusal" in said
    assert not site.workspace.tasks.exists() or not any(site.workspace.tasks.iterdir())


@pytest.mark.parametrize("name", ["%2e%2e", "%2e%2e%2fx", "a%2fb", "a%00b"])
def test_a_name_of_a_task_cannot_leave_the_folder(page: TestClient, site: Site, name: str) -> None:
    upload(page, "reviews.csv", task=name)
    for path in site.workspace.folder.rglob("reviews.csv"):
        assert path.parent.parent == site.workspace.tasks
    for way in ("", "/data", "/confirm"):
        assert page.get(f"/new/{name}{way}").status_code in (303, 404)


def test_a_broken_file_is_refused_in_one_sentence_and_leaves_no_folder(page: TestClient, site: Site) -> None:
    status, said = upload(page, "reviews.csv", "a,b\n1,2,3\n")
    assert (status, "found 3 cells" in said, str(site.workspace.folder) in said) == (422, True, False)
    assert not any(site.workspace.tasks.iterdir())
    status, said = upload(page, "reviews.csv", "review,sentiment\nx,y\n")
    assert (status, "Add labelled examples" in said) == (422, True)


def test_too_large_an_upload_leaves_nothing(page: TestClient, site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(drafts, "LARGEST_UPLOAD", 1000)
    status, said = upload(page, "reviews.csv")
    assert (status, "found more than" in said) == (422, True)
    assert not any(site.workspace.tasks.iterdir())


@pytest.mark.slow
def test_a_parquet_bomb_meets_the_limits_of_the_reader(page: TestClient, monkeypatch: pytest.MonkeyPatch) -> None:
    from lastresort.data import arrow

    sink = io.BytesIO()
    pq.write_table(pa.table({"review": ["a" * 1_000_000] * 300, "sentiment": ["pos", "neg", "neg"] * 100}), sink)
    assert len(sink.getvalue()) < 1_000_000
    monkeypatch.setattr(arrow, "ROWS", 64 * 2**20)
    status, said = upload(page, "bomb.parquet", sink.getvalue())
    assert status == 422, said
    assert "MiB" in said


def test_large_cells_and_markup_are_text(page: TestClient) -> None:
    big = "<script>alert(1)</script>" + "x" * 1_000_000
    lines = [
        json.dumps({"alpha": f"{big if i == 0 else i} said", "beta": i % 3, "<img src=x>": f"{i % 4} ap"})
        for i in range(150)
    ]
    assert upload(page, "big.jsonl", "\n".join(lines)) == (204, "/new/big/columns")
    shown = page.get("/new/big/columns").text
    assert "<script>alert" not in shown
    assert "<img src" not in shown
    assert "&lt;img src=x&gt;" in shown
    assert len(shown) < 20_000


def test_a_field_changes_the_text_and_the_text_the_field(page: TestClient, site: Site) -> None:
    upload(page, "reviews.csv")
    text = text_of(site, "reviews")
    found = page.post("/new/reviews/field?key=bar", data={"text": text, "bar": "0.9"})
    assert "bar: 0.9\n" in found.text
    own = text.replace("bar: 0.85", "bar: 0.9").replace(sentence(BAR), sentence(OWN_BAR))
    assert text_of(site, "reviews") == own
    found = page.post("/new/reviews/field?key=ladder", data={"text": text, "ladder": ["sft", "prompting"]})
    assert "ladder: [prompting, sft]\n" in text_of(site, "reviews")
    found = page.post("/new/reviews/text", data={"text": text.replace("0.85", "0.77").replace("\n", "\r\n")})
    assert 'value="0.77"' in found.text
    assert "\r" not in text_of(site, "reviews")
    assert "0.77" in page.get("/new/reviews").text  # a reload loses nothing


@pytest.mark.parametrize(
    ("key", "value", "before", "after"),
    [
        ("score", "exact", "  # the label and nothing else counts\n", "\n"),
        ("score", "normalized", "# the label and nothing else counts", "# the same words, whatever their case"),
        ("bar", "", f"# {sentence(BAR)}\n", ""),
    ],
)
def test_a_reason_speaks_of_the_value_that_is_there(
    page: TestClient, site: Site, key: str, value: str, before: str, after: str
) -> None:
    """What a draft says of its own value goes with that value."""
    upload(page, "reviews.csv")
    text = text_of(site, "reviews")
    assert before in text
    page.post(f"/new/reviews/field?key={key}", data={"text": text, key: value})
    found = text_of(site, "reviews")
    assert before not in found
    assert after in found


@pytest.mark.sampled(3)
@pytest.mark.parametrize(("key", "value"), [("split.dev", "30"), ("split.test", ""), ("model", "openai:gpt-4o")])
def test_other_reasons_hold_for_every_value(page: TestClient, site: Site, key: str, value: str) -> None:
    """They name no number of the draft."""
    upload(page, "reviews.csv")
    text = text_of(site, "reviews")
    page.post(f"/new/reviews/field?key={key}", data={"text": text, key: value})
    first, later = (re.findall("#.*", one) for one in (text, text_of(site, "reviews")))
    assert first == later
    drafted = parse_document(text, "task.yaml").values
    split = drafted["split"]
    assert isinstance(split, dict)
    values = {*map(str, split.values()), str(200 - sum(split.values())), str(drafted["bar"])}
    assert not values & set(re.findall(r"[\d.]+\d", " ".join(first[1:])))


@pytest.mark.sampled(4)
@pytest.mark.parametrize(
    ("key", "value", "said"),
    [
        ("bar", "1.2", "Found a number (1.2), expected"),
        ("split.test", "0.999", "sum below 1"),
        ("limits.hours", "[1", "Found a value that cannot be read"),
        ("ladder", "", "Found nothing ticked"),
        ("score", "nonsense", "Found "),
    ],
)
def test_a_wrong_field_is_marked_and_says_beside_it_what_is_wrong(
    page: TestClient, site: Site, key: str, value: str, said: str
) -> None:
    """And no more once another value is set; no other field says anything meanwhile."""
    upload(page, "reviews.csv")
    text = text_of(site, "reviews").replace("dev: 50", "dev: 0.5")
    fault = r'<small class="field-fault" id="([\w-]+)-fault"[^>]*>((?:(?!</small>).)+)</small>'
    found = page.post(f"/new/reviews/field?key={key}", data={"text": text, **({key: value} if value else {})}).text
    ((at, shown),) = re.findall(fault, found)
    assert said in unescape(shown)
    assert "task.yaml" not in shown
    assert at == ("field-split-dev" if key == "split.test" else f"field-{key.replace('.', '-')}")
    if key not in ("limits.hours", "ladder"):  # what cannot be read never comes into the text
        drawn = page.get("/new/reviews").text
        assert [one for one, _ in re.findall(fault, drawn)] == [at]
        assert re.search(rf'id="{at}"[^>]* aria-describedby="{at}-fault" aria-invalid="true"', drawn)
        assert drawn.count("aria-invalid") == 1
    fitting = {"bar": "0.9", "split.test": "0.3", "limits.hours": "1", "ladder": "sft", "score": "exact"}[key]
    again = page.post(f"/new/reviews/field?key={key}", data={"text": text_of(site, "reviews"), key: fitting}).text
    assert re.findall(fault, again) == []
    assert f'id="{at}-fault" hx-swap-oob="true"' in again


def test_what_no_field_holds_is_said_at_the_text_alone(page: TestClient, site: Site) -> None:
    upload(page, "reviews.csv")
    found = page.post("/new/reviews/text", data={"text": text_of(site, "reviews") + "nonsense: 1\n"}).text
    assert "aria-invalid" not in found
    assert re.search(r'<div id="fault" role="status" hx-swap-oob="true"><p class="note refusal">.*nonsense', found)


def test_what_a_draft_says_of_its_bar_and_ladder_goes_with_them(page: TestClient, site: Site) -> None:
    upload(page, "reviews.csv")
    text = text_of(site, "reviews")
    drafted = f"# {sentence(SHORT_LADDER)}\nladder: [prompting, sft]\n"
    text = re.sub(r"(?:^#.*\n)?^ladder:.*\n", drafted, text, flags=re.MULTILINE)
    page.post("/new/reviews/field?key=bar", data={"text": text, "bar": "0.9"})
    text = text_of(site, "reviews")
    assert f"# {sentence(OWN_BAR)}\nbar: 0.9" in text
    assert sentence(BAR) not in text
    page.post("/new/reviews/field?key=ladder", data={"text": text, "ladder": ["prompting", "sft", "preference"]})
    assert f"# {sentence(WHOLE_LADDER)}\nladder: [prompting, sft, preference]\n" in text_of(site, "reviews")
    page.post("/new/reviews/field?key=ladder", data={"text": text_of(site, "reviews"), "ladder": ["sft", "full"]})
    assert f"# {sentence(SHORT_LADDER)}\nladder: [sft, full]\n" in text_of(site, "reviews")


@pytest.mark.sampled(4)
@pytest.mark.parametrize(
    "written",
    [
        "bar: 0.85  # my own: 208 rows are left to train\n",
        "# What we need.\nbar: 0.85\n",
        "bar: 0.85  # a usual start: mine\n",
        f"bar: 0.85  # {BAR}: mine\n",
        f"# {sentence(BAR)} Mine.\nbar: 0.85\n",
    ],
)
def test_a_comment_of_somebody_else_stays(page: TestClient, site: Site, written: str) -> None:
    upload(page, "reviews.csv")
    text = re.sub(r"^bar:.*\n", written, text_of(site, "reviews"), flags=re.MULTILINE)
    page.post("/new/reviews/field?key=bar", data={"text": text, "bar": "0.9"})
    assert written.replace("0.85", "0.9") in text_of(site, "reviews")


@pytest.mark.sampled(7)
@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("bar: 85\n", "line 1, key &#34;bar&#34;"),
        ("a: &x [1]\nb: *x\n", "not YAML|alias|tag|unknown key"),
        ("a: [[" * 3000, "nested too deeply|not YAML"),
        ("a: [" + "1, " * 19_000 + "1]", "unknown key"),
        ("\0", "control character"),
        ("", "no keys"),
        ("task: !!python/object:os.system x\n", "tag"),
    ],
)
def test_what_is_typed_is_checked_in_one_sentence(page: TestClient, text: str, said: str) -> None:
    upload(page, "reviews.csv")
    found = page.post("/new/reviews/text", data={"text": text})
    assert found.status_code == 200
    assert any(part in found.text for part in said.split("|")), found.text[:600]
    again = page.post("/new/reviews/field?key=bar", data={"text": text, "bar": "0.9"})
    assert again.status_code == 200
    assert page.get("/new/reviews").status_code == 200
    assert page.get("/new/reviews/data").status_code == 200


@pytest.mark.sampled(4)
@pytest.mark.parametrize(
    ("written", "shown"),
    [("1234567.0", "1234567"), ("0.8512345", "0.8512345"), ("1.0", "1"), ("1.0e-5", "1e-05"), ("0.85", "0.85")],
)
def test_a_field_shows_every_digit_of_a_number(page: TestClient, site: Site, written: str, shown: str) -> None:
    upload(page, "reviews.csv")
    text = text_of(site, "reviews").replace("bar: 0.85", f"bar: {written}")
    found = page.post("/new/reviews/text", data={"text": text}).text
    assert re.findall(r'id="field-bar"[^>]* value="([^"]*)"', found) == [shown]


@pytest.mark.parametrize("file", [drafts.FILE, drafts.DRAFT])
def test_the_editor_holds_the_text_of_the_file_and_nothing_made_visible(
    page: TestClient, site: Site, file: str
) -> None:
    """Lines that end in CR LF, and marks that turn the direction of reading: one more key must not write signs for them."""
    upload(page, "reviews.csv")
    folder = site.workspace.tasks / "reviews"
    text = text_of(site, "reviews").replace("about: ", "about: '\u2067שלום\u2069' #") + "# \u202bend\u202c\n"
    (folder / drafts.DRAFT).unlink()
    (folder / file).write_bytes(text.replace("\n", "\r\n").encode())
    shown = page.get("/new/reviews").text
    field = re.search(r'<textarea id="text"[^>]*>\n(.*?)</textarea>', shown, re.DOTALL)
    about = re.search(r'<textarea id="field-about"[^>]*>\n(.*?)</textarea>', shown, re.DOTALL)
    mark = re.search(r'name="seen" value="(\w+)"', shown)
    assert field and about and mark  # noqa: PT018
    assert unescape(field[1]) == text
    assert unescape(about[1]) == "\u2067שלום\u2069"
    answer = page.post("/new/reviews/text", data={"text": text + "# x\n", "seen": mark[1]})
    assert "another window" not in answer.text
    assert text_of(site, "reviews") == text + "# x\n"


def test_outside_of_fields_every_mark_and_control_character_is_made_visible() -> None:
    page = '<p>\u202e\r\x85</p><input value="\u202e\ud800"><textarea name="a">\u202e\r</textarea><p>\u202e value=\u2067</p>'
    assert shown_text(page) == (
        '<p>\ufffd\u240d\ufffd</p><input value="\u202e\ufffd"><textarea name="a">\u202e\r</textarea><p>\ufffd value=\ufffd</p>'
    )


def test_a_text_has_a_limit(page: TestClient) -> None:
    upload(page, "reviews.csv")
    assert page.post("/new/reviews/text", data={"text": "#" * 300_000}).status_code == 422


def test_a_start_writes_the_task_and_goes_to_the_run(
    page: TestClient, site: Site, started: list[tuple[jobs.Command, tuple[str, ...]]]
) -> None:
    upload(page, "reviews.csv")
    text = text_of(site, "reviews")
    found = page.post("/new/reviews/start", data={"gate": "quick", "until": "sft"})
    assert found.headers["hx-redirect"] == "/new/reviews/starting?run=reviews-1"
    (job, reaches), folder = started[0], site.workspace.tasks / "reviews"
    assert job.arguments == (
        "climb", "tasks/reviews/task.yaml", "--run", "runs/reviews-1", "--gate", "quick", "--until", "sft",
    )  # fmt: skip
    assert job.folder == site.workspace.folder
    assert reaches == ()
    assert (folder / "task.yaml").read_text() == text
    page.post("/new/reviews/field?key=bar", data={"text": text, "bar": "0.9"})
    page.post("/new/reviews/start")
    assert load_task(folder / "task.yaml").bar == 0.85  # the first run can be resumed
    assert load_task(folder / "task-2.yaml").bar == 0.9
    assert started[1][0].arguments[1] == "tasks/reviews/task-2.yaml"
    assert page.post("/new/reviews/start", data={"gate": "--set"}).status_code == 422


def chosen_on(page: TestClient, name: str) -> tuple[list[str], str]:
    """What is selected beside Start, and the same in a terminal."""
    shown = page.get(f"/new/{name}").text
    selected = re.findall(r'<option(?: value="[^"]*")? selected>([^<]*)', shown.partition('id="options"')[2])
    return selected, unescape(re.findall(r'<code id="typed">(.*?)</code>', shown)[0])


def test_how_a_climb_is_started_is_kept_and_typed_alike(
    page: TestClient, site: Site, started: list[tuple[jobs.Command, tuple[str, ...]]]
) -> None:
    """After a start that was refused, too. The line names the file that always holds the text."""
    upload(page, "reviews.csv")
    line = "lastresort climb tasks/reviews/draft.yaml"
    assert chosen_on(page, "reviews") == (["full (default)"], line)
    changed = page.post("/new/reviews/options", data={"gate": "quick", "until": "prompting"})
    assert changed.headers["hx-trigger"] == "chosen"
    typed = f"{line} --gate quick --until prompting"
    assert f'<code id="typed" hx-swap-oob="true">{typed}</code>' in changed.text
    assert chosen_on(page, "reviews") == (["quick", "prompting"], typed)
    page.post("/new/reviews/start", data={"gate": "none", "until": "sft"})
    assert chosen_on(page, "reviews") == (["none", "sft"], f"{line} --gate none --until sft")
    assert (site.workspace.tasks / "reviews" / "draft.yaml").is_file()
    assert page.post("/new/reviews/options", data={"gate": "--set"}).status_code == 422


def test_the_last_rung_is_one_of_the_ladder(page: TestClient, site: Site) -> None:
    upload(page, "reviews.csv")
    page.post("/new/reviews/options", data={"until": "sft"})
    data = {"text": text_of(site, "reviews"), "ladder": ["prompting", "full"]}
    page.post("/new/reviews/field?key=ladder", data=data)
    shown = page.get("/new/reviews/options").text
    assert re.findall(r"<option(?: selected)?>(\w+)", shown.partition('id="until"')[2]) == ["prompting", "full"]
    assert "--until" not in shown


@pytest.mark.sampled(3)
@pytest.mark.parametrize("text", ["{", "[1]", "gate: 7\nuntil: [sft]\n", "gate: --set\nuntil: x\n"])
def test_options_that_cannot_be_read_are_the_defaults(page: TestClient, site: Site, text: str) -> None:
    upload(page, "reviews.csv")
    (site.workspace.tasks / "reviews" / "start.yaml").write_text(text)
    assert chosen_on(page, "reviews") == (["full (default)"], "lastresort climb tasks/reviews/draft.yaml")


def test_a_clone_is_started_as_its_run_was(page: TestClient, site: Site) -> None:
    with Record.open(finished_run(site.workspace.folder)) as record:
        record.append(OptionsChosen(settings={}, until="prompting"))
        record.append(GateChosen(mode="quick"))
        record.append(ClimbFinished())
        record.append(GateChosen(mode="none"))  # of a session that was killed before it did anything
    page.post("/new/clone", data={"run": "routing-1", "name": "others"})
    assert chosen_on(page, "others")[0] == ["quick", "prompting"]


def test_a_forecast_is_of_the_climb_that_would_be_started(
    page: TestClient, site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    upload(page, "reviews.csv")
    asked: list[tuple[object, list[str]]] = []
    monkeypatch.setattr(
        Children, "printed", lambda _, question, state, arguments, **__: asked.append((state, arguments))
    )
    page.get("/new/reviews/forecast?begin=true")
    page.post("/new/reviews/options", data={"gate": "quick", "until": "prompting"})
    page.get("/new/reviews/forecast?begin=true")
    (before, plain), (after, arguments) = asked
    assert before != after
    assert plain == ["climb", "tasks/reviews/draft.yaml", "--dry-run", "--json"]
    assert arguments == [*plain[:3], "--gate", "quick", "--until", "prompting", "--json"]


@pytest.mark.sampled(3)
@pytest.mark.parametrize(
    ("key", "value", "said"),
    [
        ("split.test", "250", "leave none for train"),
        ("split.dev", "199", "leave none for train"),
        ("bar", "0.995", "even a perfect score cannot show"),
    ],
)
def test_rows_that_are_too_few_are_said_at_the_field_before_a_start(
    page: TestClient, site: Site, started: list[tuple[jobs.Command, tuple[str, ...]]], key: str, value: str, said: str
) -> None:
    upload(page, "reviews.csv")
    found = page.post(f"/new/reviews/field?key={key}", data={"text": text_of(site, "reviews"), key: value}).text
    assert "The text is valid." not in found
    beside = re.findall(r'<small class="field-fault" id="field-split-test-fault"[^>]*>(.*?)</small>', found)
    assert len(beside) == 1
    assert said in beside[0]
    assert 'task.yaml, key "split' in unescape(found)
    for part in ("data", "masks", "forecast?begin=true"):
        assert "Correct the task first." in page.get(f"/new/reviews/{part}").text, "it is said once, beside the form"
    refused = page.post("/new/reviews/start")
    assert (refused.status_code, said in refused.text) == (422, True)
    assert not started


def test_a_split_says_how_many_rows_it_leaves_to_train_on(
    page: TestClient, site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After each change; of a large file only the check of the data says it."""
    upload(page, "reviews.csv")
    data = {"text": text_of(site, "reviews"), "split.test": "50", "split.dev": "30"}
    data["text"] = re.sub(r"split: {.*?}", "split: {dev: 30, test: 60}", data["text"])
    assert (
        "The text is valid. 120 rows are left to train."
        in page.post("/new/reviews/field?key=split.test", data=data).text
    )
    few = r"With 50 test items, a rung close to the bar of \d+% may end UNDECIDED; about \d+ give 80% power\."
    assert re.search(f"left to train\\. {few}", page.post("/new/reviews/field?key=split.test", data=data).text)
    monkeypatch.setattr(data_check, "MOST_LOOKED_AT", 1)
    os.utime(site.workspace.tasks / "reviews" / "reviews.csv")  # else it is known
    assert '<p class="legend good">The text is valid.</p>' in page.get("/new/reviews").text


def test_starts_at_one_moment_get_a_file_each_with_their_own_text(tmp_path: Path) -> None:
    texts = [f"bar: 0.{number}\n" for number in range(8)]
    together = threading.Barrier(len(texts))

    def start(text: str) -> Path:
        together.wait()
        return drafts.settled(tmp_path, text)

    with ThreadPoolExecutor(len(texts)) as pool:
        files = list(pool.map(start, texts))
    assert [path.read_text() for path in files] == texts
    assert drafts.settled(tmp_path, texts[3]) == files[3]
    assert len(list(tmp_path.iterdir())) == len(texts)


def test_a_start_that_is_killed_leaves_no_empty_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(drafts, "write_atomically", lambda path, text: sys.exit("killed"))
    with pytest.raises(SystemExit):
        drafts.settled(tmp_path, "bar: 0.9\n")
    assert list(tmp_path.iterdir()) == []


def test_a_start_takes_what_was_typed_last(
    page: TestClient, site: Site, started: list[tuple[jobs.Command, tuple[str, ...]]]
) -> None:
    upload(page, "reviews.csv")
    page.post("/new/reviews/start", data={"text": text_of(site, "reviews").replace("0.85", "0.9")})
    assert load_task(site.workspace.tasks / "reviews" / "task.yaml").bar == 0.9
    assert page.post("/new/reviews/start", data={"text": "bar: no"}).status_code == 422
    assert len(started) == 1


def test_a_name_in_another_alphabet_is_led_to(page: TestClient) -> None:
    assert upload(page, "отзывы.csv") == (204, "/new/%D0%BE%D1%82%D0%B7%D1%8B%D0%B2%D1%8B")
    assert page.get("/new/отзывы").status_code == 200


def test_a_climb_that_ended_before_it_began_says_so(
    page: TestClient, site: Site, started: list[tuple[jobs.Command, tuple[str, ...]]]
) -> None:
    upload(page, "reviews.csv")
    page.post("/new/reviews/start")
    log = site.workspace.runs / jobs.LOGS / "reviews-1.log"
    log.parent.mkdir(parents=True)
    log.write_text("Error: <b>no</b> such model\n")
    shown = page.get("/new/reviews/starting?run=reviews-1").text
    assert "The climb did not start" in shown
    assert "&lt;b&gt;no&lt;/b&gt; such model" in shown
    assert not (site.workspace.runs / "reviews-1").exists()
    (site.workspace.runs / "reviews-9").mkdir()  # of a climb that a terminal starts just now
    page.get("/new/reviews/starting?run=reviews-9")
    assert (site.workspace.runs / "reviews-9").is_dir()


def test_a_climb_that_starts_without_this_page_is_not_declared_dead(page: TestClient, site: Site) -> None:
    """As after the page was started again."""
    upload(page, "reviews.csv")
    run = site.workspace.runs / "reviews-1"
    run.mkdir(parents=True)
    shown = page.get("/new/reviews/starting?run=reviews-1").text
    assert "reviews-1 was not started from this page. It will open here once it is running." in shown
    assert "starting?run=a%2Bb" in page.get("/new/reviews/starting", params={"run": "a+b"}).text
    assert "did not start." not in shown
    restored = page.get("/new/reviews/starting?run=reviews-1", headers={"hx-history-restore-request": "true"}).text
    assert "<!doctype html>" in restored, "who goes back needs the whole page"
    with held(run, "held", expected="x", remedy="x"):
        assert "Reading the task" in page.get("/new/reviews/starting?run=reviews-1").text


def test_keys_go_only_to_a_task_with_an_endpoint_and_after_a_yes(
    page: TestClient, site: Site, started: list[tuple[jobs.Command, tuple[str, ...]]]
) -> None:
    upload(page, "reviews.csv")
    page.post(
        "/new/reviews/field?key=model", data={"text": text_of(site, "reviews"), "model": "https://host.example/v1#m"}
    )
    assert page.post("/new/reviews/start").headers["hx-redirect"] == "/new/reviews/confirm?gate=&until="
    shown = page.get("/new/reviews/confirm").text
    assert "https://host.example/v1#m" in shown
    assert started == []
    assert page.post("/new/reviews/start", data={"yes": _mark(shown)}).headers["hx-redirect"].endswith("reviews-1")
    assert started[0][1]


def test_python_runs_only_after_a_yes_to_what_was_shown(
    page: TestClient, site: Site, started: list[tuple[jobs.Command, tuple[str, ...]]]
) -> None:
    upload(page, "reviews.csv")
    folder = site.workspace.tasks / "reviews"
    ran = folder / "ran"
    (folder / "score.py").write_text(f"open({str(ran)!r}, 'w')\ndef score(answer, expected): return '<b>' == answer\n")
    text = text_of(site, "reviews").replace("score: choice", "score: {python: score.py:score}")
    assert "The text is valid." in page.post("/new/reviews/text", data={"text": text}).text
    assert "/confirm" in page.post("/new/reviews/start", data={"yes": "made-up"}).headers["hx-redirect"]
    shown = page.get("/new/reviews/confirm").text
    assert "&#39;&lt;b&gt;&#39; == answer" in shown
    (folder / "score.py").write_text("def score(answer, expected): return True\n")
    assert "/confirm" in page.post("/new/reviews/start", data={"yes": _mark(shown)}).headers["hx-redirect"]
    assert (started, ran.exists()) == ([], False)
    shown = page.get("/new/reviews/confirm").text
    page.post("/new/reviews/start", data={"yes": _mark(shown)})
    assert len(started) == 1


def _mark(shown: str) -> str:
    return shown.partition('name="yes" value="')[2].partition('"')[0]


@pytest.mark.sampled(4)
@pytest.mark.parametrize("name", sorted(example_tasks()))
def test_an_example_is_the_same_task_from_here(page: TestClient, site: Site, name: str) -> None:
    page.post("/new/example", data={"example": name})
    places = {"path", "folder"}
    found = drafts.task_from(text_of(site, name), site.workspace.tasks / name).model_dump(exclude=places)
    assert found == load_task(example_tasks()[name]).model_dump(exclude=places)


def test_each_example_says_what_it_shows_and_no_two_say_the_same(page: TestClient) -> None:
    shown = re.findall(r'<td class="clipped">(.*?)</td>', page.get("/new").text)
    assert len(set(shown)) == len(shown) == len(example_tasks())
    assert all(len(text) > 60 for text in shown)


def test_no_reason_of_a_draft_is_off_the_screen(page: TestClient, site: Site) -> None:
    upload(page, "reviews.csv")
    assert [line for line in text_of(site, "reviews").splitlines() if re.match(r"\w.{87,} # ", line)] == []
    assert 'wrap="off"' not in page.get("/new/reviews").text


def test_an_example_starts_from_here(page: TestClient, site: Site) -> None:
    assert page.post("/new/example", data={"example": "json-only"}).headers["hx-redirect"] == "/new/json-only"
    found = drafts.task_from(text_of(site, "json-only"), site.workspace.tasks / "json-only")
    assert found.examples.all is not None
    assert found.examples.all.is_file()
    assert page.post("/new/example", data={"example": "../x"}).status_code == 422
    assert "json-only" in page.get("/new").text


def test_a_run_is_cloned_with_its_task(page: TestClient, site: Site) -> None:
    finished_run(site.workspace.folder)
    path = site.workspace.tasks / "routing" / "task.yaml"
    path.write_text(f"# Why it is so.\n{path.read_text()}")
    assert 'value="routing-2"' in page.get("/new?from=routing-1").text
    found = page.post("/new/clone", data={"run": "routing-1", "name": "others"})
    assert found.headers["hx-redirect"] == "/new/others", found.text
    clone = drafts.task_from(text_of(site, "others"), site.workspace.tasks / "others")
    assert clone.examples == load_task(path).examples
    assert "# Why it is so." in text_of(site, "others")
    assert "Each line of the text gives its reason." in page.get("/new/others").text
    assert "The text is valid." in page.get("/new/others").text
    path.write_text(path.read_text().replace("bar: 0.8", "bar: 0.5"))
    page.post("/new/clone", data={"run": "routing-1", "name": "later"})
    assert parse_document(text_of(site, "later"), "t").values["bar"] == 0.8  # as it was run
    assert "gives its reason" not in page.get("/new/later").text
    assert page.get("/new?from=nothing").status_code == 404
    assert page.post("/new/clone", data={"run": "../x", "name": "x"}).status_code == 404
    assert not (site.workspace.tasks / "x").exists()


def test_other_data_in_a_clone_ends_what_its_text_says_of_a_copy(page: TestClient, site: Site) -> None:
    """The copy, and what is known of it, lie in the folder of the task that was cloned."""
    finished_run(site.workspace.folder)
    folder = site.workspace.tasks / "routing"
    path, line = folder / "task.yaml", "# A copy of tickets.csv: it leaves out 1 row without an answer."
    path.write_text(path.read_text().replace("examples:", f"{line}\nexamples:"))
    drafts.keep_copied(folder, load_task(path).examples.all.name, drafts.Copied("tickets.csv", line))
    page.post("/new/clone", data={"run": "routing-1", "name": "reviews"})
    assert line in text_of(site, "reviews")
    assert replace(page, "last.csv", CSV) == (204, "/new/reviews")
    assert "# A copy of" not in text_of(site, "reviews")


def test_a_clone_of_a_run_with_a_name_of_its_own_is_called_after_it(
    page: TestClient, site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    finished_run(site.workspace.folder).rename(site.workspace.runs / "low")
    commands = recorded_starts(monkeypatch)

    def proposed(address: str, field: str) -> str:
        [found] = re.findall(rf'<input id="{field}" name="{field}" type="text" value="([^"]*)"', page.get(address).text)
        return str(found)

    name = proposed("/new?from=low", "name")
    assert name == "low-2"
    page.post("/new/clone", data={"run": "low", "name": name})
    clone = drafts.task_from(text_of(site, name), site.workspace.tasks / name)
    assert clone.task == "routing", "it is compared with the run, as one of the same task"
    assert proposed(f"/new/{name}", "run") == "low-2"
    for given, made in (("low-2", "low-2"), ("low-2", "low-3"), ("", "routing-1"), ("My run", "My-run")):
        found = page.post(f"/new/{name}/start", data={"run": given})
        assert found.headers["hx-redirect"] == f"/new/{name}/starting?run={made}"
        assert commands[-1][0].arguments[2:4] == ("--run", f"runs/{made}"), commands[-1]
    assert proposed(f"/new/{name}", "run") == "low-4"
    refused = page.post(f"/new/{name}/start", data={"run": "../.."})
    assert refused.status_code == 422


@pytest.mark.parametrize(
    ("name", "taken", "found"),
    [
        ("low", ["low"], "low-2"),
        ("low-1", ["low-1", "low-7", "low-x", "lower-9"], "low-8"),
        ("low", [], "low-1"),
        ("a+b-1", ["a+b-1", "aab-5"], "a+b-2"),
        ("Low", ["low-1", "LOW-4"], "Low-5"),
    ],
)
def test_the_next_name_has_the_next_number(name: str, taken: list[str], found: str) -> None:
    assert next_name(name, taken) == found


@pytest.mark.parametrize(
    ("there", "proposed"),
    [("Caf\u00e9-1", "CAF\u00c9-2"), ("cafe\u0301-1", "CAF\u00c9-1")],
    ids=["by case", "by accent"],
)
def test_a_disk_that_takes_two_names_for_one_gives_the_run_the_next(
    there: str, proposed: str, site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As those of macOS do, by case and by how an accent is written."""
    make, tried = Path.mkdir, list[Path]()

    def one_name(path: Path) -> str:
        return unicodedata.normalize("NFC", path.name).casefold()

    def mkdir(path: Path, *given: Any, **options: Any) -> None:
        tried.append(path)
        assert len(tried) < 9, "it ends"
        if path.parent.is_dir() and one_name(path) in map(one_name, path.parent.iterdir()) and not options:
            raise FileExistsError(path)
        make(path, *given, **options)

    monkeypatch.setattr(Path, "mkdir", mkdir)
    make(site.workspace.runs / there, parents=True)
    assert site.workspace.next_run("CAF\u00c9-1") == proposed
    assert site.workspace.new_run("CAF\u00c9-1").name == "CAF\u00c9-2"


def test_a_task_file_elsewhere_is_cloned_only_if_it_runs_nothing(page: TestClient, site: Site, tmp_path: Path) -> None:
    finished_run(site.workspace.folder)
    elsewhere = tmp_path / "elsewhere"
    (site.workspace.tasks / "routing").rename(elsewhere)
    edit(site.workspace.runs / "routing-1", placed_at("../../../elsewhere/task.yaml"), rechain=True)
    assert page.post("/new/clone", data={"run": "routing-1", "name": "a"}).status_code == 204
    task = elsewhere / "task.yaml"
    (elsewhere / "score.py").write_text("def score(answer, expected): return True\n")
    task.write_text(task.read_text().replace("score: choice", "score: {python: score.py:score}"))
    refused = page.post("/new/clone", data={"run": "routing-1", "name": "b"})
    assert (refused.status_code, "runs Python" in refused.text) == (422, True)
    assert not (site.workspace.tasks / "b").exists()


def placed_at(path: str) -> str:
    return f"UPDATE event SET body = json_set(body, '$.path', '{path}') WHERE kind = 'task_placed'"


def test_the_findings_are_shown_with_their_rows(page: TestClient, site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    table = CSV + '"number 3 is fine, <b>really</b>",neg\n'
    upload(page, "reviews.csv", table)
    assert "Checking the data" in page.get("/new/reviews/data").text
    children_of(site).close()
    folder = site.workspace.tasks / "reviews"
    source = str(folder / "reviews.csv")
    place = {"side": "train", "id": "3", "row": 4, "source": source}
    other = {"side": "train", "id": "200", "row": 201, "source": source}
    finding = {"kind": "conflicting_labels", "severity": "error", "says": "same input, other label", "count": 1,
               "places": [[place, other]], "details": []}  # fmt: skip
    report = {
        "ok": False,
        "counts": {"train": 201},
        "labels": {},
        "tokens": {},
        "findings": [finding],
        "preferences": None,
    }
    monkeypatch.setattr(Children, "printed", lambda *_, **__: CommandOutput(json.dumps(report)))
    shown = page.get("/new/reviews/data").text
    assert "same input, other label</summary>" in shown, "the sentence has the count already"
    assert '<b class="severity of-error">error</b>' in shown, "`note` alone is the class of a box"
    assert "number 3 is fine, &lt;b&gt;really&lt;/b&gt;" in shown
    assert "sentiment: neg" in shown
    assert '<p class="legend">row 1 (line 2) of reviews.csv</p>' in shown.partition("The first rows")[2]


@pytest.mark.slow
def test_a_forecast_says_how_far_it_is(page: TestClient, site: Site) -> None:
    """What its process says it does, and for how long it has been at work."""
    upload(page, "reviews.csv")
    asked = "/new/reviews/forecast?begin=true"
    said = until(lambda: "forecast of" in (text := page.get(asked).text) and text, "it says what it forecasts")
    assert '<progress class="unknown" aria-label="Forecasting each rung and the gate.' in said
    assert re.search(r'forecast of [\w :]+ · <span class="took" data-took-s="\d+\.\d">', said), said
    children_of(site).close()
    state = next(key[1] for key in children_of(site)._known if key[0] == ("reviews", "climb"))
    assert children_of(site).progress(("reviews", "climb"), "another state") is None
    until(lambda: children_of(site).printed(("reviews", "climb"), state, ()), "it has ended")
    assert children_of(site).progress(("reviews", "climb"), state) is None


def test_a_check_of_the_data_says_for_how_long_it_is_at_work(page: TestClient, site: Site) -> None:
    upload(page, "reviews.csv")
    said = page.get("/new/reviews/data").text
    assert '<progress class="unknown" aria-label="Checking the data."' in said
    assert re.search(r'<span class="took" data-took-s="\d+\.\d">', said), said


def test_a_file_that_is_still_being_written_starts_no_forecast_anew(
    page: TestClient, site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another tab writes it, and it may be gone in the next moment; so may any other."""
    upload(page, "reviews.csv")
    states: list[object] = []
    monkeypatch.setattr(Children, "printed", lambda _, question, state, *__, **___: states.append(state))
    folder = site.workspace.tasks / "reviews"
    for between in (lambda: None, lambda: (folder / ".more.csv.1.1f.new").write_text("a,b\n")):
        between()
        assert page.get("/new/reviews/advice").status_code == 200
    assert states[0] == states[1]
    (folder / "gone.csv").symlink_to(folder / "nowhere.csv")
    assert page.get("/new/reviews/advice").status_code == 200


@pytest.mark.sampled(4)
@pytest.mark.parametrize("part", ["data", "advice", "masks", "forecast"])
def test_what_was_killed_can_be_tried_again(page: TestClient, monkeypatch: pytest.MonkeyPatch, part: str) -> None:
    upload(page, "reviews.csv")
    forgotten: list[object] = []
    monkeypatch.setattr(Children, "forget", lambda _, question, state: forgotten.append(question))
    for killed in (False, True):
        fault = CommandOutput("", "It was killed.", killed=killed)
        monkeypatch.setattr(Children, "printed", lambda *_, fault=fault, **__: fault)
        shown = page.get(f"/new/reviews/{part}?begin=true").text
        button = re.search(rf'<button hx-get="([^"]+)" hx-target="#{part}">Try again', shown)
        assert (button is not None) == killed
    assert not forgotten
    page.get(unescape(button[1]))
    assert len(forgotten) == 1


def test_rows_as_tokens_are_read_from_the_document_of_the_check(
    page: TestClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    upload(page, "reviews.csv")
    report = {
        "ok": True,
        "findings": [],
        "masks": ["", "1 (reviews.csv, row 1)", "<|x|>\u0007", "", "2 (reviews.csv, row 2)"],
    }
    arguments: list[Sequence[str]] = []

    def printed(_: Children, question: object, state: object, words: Sequence[str], **more: object) -> CommandOutput:
        arguments.append(words)
        return CommandOutput(json.dumps(report))

    monkeypatch.setattr(Children, "printed", printed)
    shown = unescape(page.get("/new/reviews/masks").text)
    assert {"--json", "--show=3"} < set(arguments[0])
    assert ">1 (reviews.csv, row 1)\n<|x|>\\x07\n\n2 (reviews.csv, row 2)</pre>" in shown


def test_what_the_check_of_the_data_found_is_said_next_to_start(
    page: TestClient, site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    upload(page, "reviews.csv")
    assert '<div id="data-fault" role="status"></div>' in page.get("/new/reviews").text
    fault = CommandOutput("", "reviews.csv, row 3: found <nothing>")
    monkeypatch.setattr(Children, "printed", lambda *_, **__: fault)
    said = next_to_start(page)
    assert "A climb would not start: reviews.csv, row 3: found &lt;nothing&gt;" in said
    report = {"ok": False, "counts": {}, "labels": {}, "tokens": {}, "findings": [], "preferences": None}
    for ok, expected in ((False, "The data has errors"), (True, "")):
        severity = {
            "kind": "too_long",
            "severity": "error",
            "says": "1 is too long",
            "count": 1,
            "places": [],
            "details": [],
        }
        text = json.dumps({**report, "ok": ok, "findings": [] if ok else [severity]})
        monkeypatch.setattr(Children, "printed", lambda *_, text=text, **__: CommandOutput(text))
        said = next_to_start(page)
        assert expected in said if expected else said == ""
    monkeypatch.setattr(Children, "printed", lambda *_, **__: None)
    assert "data-fault" not in page.get("/new/reviews/data").text


def next_to_start(page: TestClient) -> str:
    return page.get("/new/reviews/data").text.partition('hx-swap-oob="true">')[2].partition("</div>")[0]


ADVICE = {
    "schema": 1, "task": None, "answer": "No.", "ladder": ["prompting"], "rules": [], "frameworks": [], "facts": {}, "notes": [],
    "path": [{"rung": "prompting", "stance": "DO", "condition": None, "reasons": ["because"]}],
}  # fmt: skip


def test_each_question_of_the_advice_has_a_place_for_its_answer(
    page: TestClient, site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    upload(page, "reviews.csv")
    asked = [{"fact": one.fact, "question": one.text, "choices": list(one.choices), "decides": []} for one in QUESTIONS]
    found = CommandOutput(json.dumps({**ADVICE, "to_find_out": asked}))
    monkeypatch.setattr(Children, "printed", lambda *_, **__: found)
    shown = page.get("/new/reviews/advice").text
    for one in QUESTIONS:
        assert re.search(f'hx-post="/new/reviews/answer[?][^"]*of={one.fact}["&]', shown)
        assert f'name="{one.fact}"' in shown


def test_advice_sets_what_is_in_backticks_as_code(
    page: TestClient, site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    upload(page, "reviews.csv")
    found = CommandOutput(
        json.dumps({**ADVICE, "to_find_out": [], "answer": "Raise `split.test` <b>.", "notes": ["see `use`"]})
    )
    monkeypatch.setattr(Children, "printed", lambda *_, **__: found)
    shown = page.get("/new/reviews/advice").text
    assert "Raise <code>split.test</code> &lt;b&gt;." in shown
    assert "<code>use</code>" in shown
    assert "`" not in shown


KNOWN_OF_ANY_TASK = ("n_examples", "n_train", "output")


@pytest.mark.sampled(19)
@pytest.mark.parametrize(
    "question", [one for one in QUESTIONS if one.fact not in KNOWN_OF_ANY_TASK], ids=lambda one: one.fact
)
def test_an_answer_becomes_a_line_of_the_task_and_is_not_asked_again(
    page: TestClient, site: Site, question: FactQuestion
) -> None:
    """Whatever the question: the text and the form say the same, and the advice knows it."""
    upload(page, "reviews.csv")
    folder = site.workspace.tasks / "reviews"
    text = re.sub("^(bar|ladder|model):.*$", "", text_of(site, "reviews"), flags=re.MULTILINE)
    text += "bar: 0.7\nmodel: nobody/of-unknown-size\n"
    typed = {"bar": "82%", "calls_per_month": "1.2k", "parameters": "7b"}.get(
        question.fact, question.choices[-1] if question.choices else "1"
    )
    answered = page.post(f"/new/reviews/answer?of={question.fact}", data={question.fact: typed, "text": text})
    key, value = answer_in_task(question.fact, typed)
    assert answered.headers["hx-retarget"] == "#text"
    assert json.loads(answered.headers["hx-trigger"]).keys() == {"kept", "edited"}
    assert "The text is valid." in answered.text
    assert 'id="beside" class="beside" hx-swap-oob="true"' in answered.text
    now = text_of(site, "reviews")
    said: object = parse_document(now, "t").values
    for part in key.split("."):
        assert isinstance(said, dict)
        said = said[part]
    assert said == value
    if question.fact == "bar":
        assert 'value="0.82"' in answered.text
    facts = facts_of(drafts.task_from(now, folder)).facts
    assert getattr(facts, question.fact) == read_answer(question, typed)
    assert question.fact not in [one.question.fact for one in open_facts(facts)]


def test_an_answer_that_cannot_be_read_changes_nothing(page: TestClient, site: Site) -> None:
    upload(page, "reviews.csv")
    text = text_of(site, "reviews")
    refused = page.post("/new/reviews/answer?of=cards", data={"cards": "many", "text": text})
    assert (refused.status_code, "hx-retarget" in refused.headers) == (422, False)
    assert "expected a number" in refused.text
    assert page.post("/new/reviews/answer?of=mine", data={"mine": "1", "text": text}).status_code == 422
    assert text_of(site, "reviews") == text


def test_several_questions_are_answered_at_once_and_those_left_open_change_nothing(
    page: TestClient, site: Site
) -> None:
    upload(page, "reviews.csv")
    asked = "of=cards&of=best_prompt_score&of=can_label"
    given = {"cards": "2", "best_prompt_score": "81%", "can_label": "", "text": text_of(site, "reviews")}
    assert page.post(f"/new/reviews/answer?{asked}", data=given).status_code == 200
    facts = parse_document(text_of(site, "reviews"), "t").values["facts"]
    assert isinstance(facts, dict)
    assert facts["best_prompt_score"] == 0.81
    assert "can_label" not in facts
    before = text_of(site, "reviews")
    refused = page.post(f"/new/reviews/answer?{asked}", data={"text": before})
    assert refused.status_code == 422
    assert "found no answer" in refused.text
    refused = page.post(f"/new/reviews/answer?{asked}", data={**given, "cards": "many", "text": before})
    assert (refused.status_code, text_of(site, "reviews")) == (422, before)


def test_what_another_key_states_counts_in_place_of_an_answer(page: TestClient, site: Site) -> None:
    upload(page, "reviews.csv")
    folder = site.workspace.tasks / "reviews"
    (folder / "docs").mkdir()
    (folder / "docs" / "one.md").write_text("words")
    text = text_of(site, "reviews") + "knowledge: docs\nfacts: {knowledge: false, wrong: [nothing]}\n"
    facts = facts_of(drafts.task_from(text, folder)).facts
    assert (facts.knowledge, facts.wrong) == (True, ())


@pytest.mark.parametrize(("count", "said"), [(1, "1 rule of thumb that applies"), (2, "2 rules of thumb that apply")])
def test_rules_of_thumb_are_counted_in_grammar(
    page: TestClient, monkeypatch: pytest.MonkeyPatch, count: int, said: str
) -> None:
    upload(page, "reviews.csv")
    rule = {
        "name": "n",
        "strength": "STRONG",
        "advice": "a",
        "because": "b",
        "source": "c",
        "favours": [],
        "opposes": [],
    }
    step = {"rung": "prompting", "stance": "DO", "condition": None, "reasons": ["because"]}
    found = {"schema": 1, "task": None, "answer": "No.", "path": [step], "ladder": ["prompting"], "rules": [rule] * count,
             "to_find_out": [], "frameworks": [], "facts": {}, "notes": []}  # fmt: skip
    monkeypatch.setattr(Children, "printed", lambda *_, **__: CommandOutput(json.dumps(found)))
    assert f"<summary>{said}</summary>" in page.get("/new/reviews/advice").text


@pytest.mark.slow
def test_no_page_loads_torch_when_it_is_imported() -> None:
    import subprocess
    import sys

    pages = ", ".join(f"lastresort.ui.pages.{page.module}" for page in PAGES)
    code = f"import sys, {pages}; print('torch' in sys.modules, 'transformers' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout == "False False\n"


def test_the_last_of_two_windows_does_not_win_silently(
    page: TestClient, site: Site, started: list[tuple[jobs.Command, tuple[str, ...]]]
) -> None:
    upload(page, "reviews.csv")
    path = site.workspace.tasks / "reviews" / drafts.DRAFT
    text = path.read_text()
    mark = re.findall(r'name="seen" value="(\w+)"', page.get("/new/reviews").text)[0]
    one = page.post("/new/reviews/text", data={"text": text + "# one\n", "seen": mark})
    there = path.read_text()
    other = {"text": text + "# other\n", "seen": mark, "bar": "0.5"}
    for address in ("text", "field?key=bar"):
        refused = page.post(f"/new/reviews/{address}", data=other).text
        assert "This task was changed in another window. Reload the page." in refused
        assert path.read_text() == there == text + "# one\n"
    refused = page.post("/new/reviews/start", data=other)
    assert (refused.status_code, started) == (422, [])
    assert "This task was changed in another window. Reload the page." in refused.text
    newer = json.loads(one.headers["hx-trigger"])["kept"]["mark"]
    page.post("/new/reviews/start", data={"text": there + "# two\n", "seen": newer})
    assert (path.parent / "task.yaml").read_text() == there + "# two\n"


def test_a_file_is_read_for_its_columns_once(page: TestClient, site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    upload(page, "reviews.csv")
    data, read = site.workspace.tasks / "reviews" / "reviews.csv", []

    def counted(path: Path) -> list[RawRow]:
        read.append(path)
        return read_rows(path)

    monkeypatch.setattr(columns, "read_rows", counted)
    for _ in range(3):
        assert "200 rows" in page.get("/new/reviews/columns").text
    assert read == [data]
    data.write_text(CSV + "another,pos\n")
    assert "201 rows" in page.get("/new/reviews/columns").text
    seen = data.stat()
    data.write_text(CSV + "another,neg\n")
    os.utime(data, ns=(seen.st_atime_ns, seen.st_mtime_ns))  # as some programs do that change a file
    page.get("/new/reviews/columns")
    assert read == [data] * 3


@pytest.mark.parametrize("name", ["kept.jsonl", "Rated_Pairs.jsonl", "x.schema.json"])
def test_a_file_that_would_not_be_found_again_is_refused(page: TestClient, site: Site, name: str) -> None:
    status, said = upload(page, name, '{"input": "a", "output": "b"}\n' * 40)
    assert (status, "Rename it." in said) == (422, True)
    assert not list(site.workspace.tasks.glob("*"))


def test_a_ladder_keeps_a_rung(page: TestClient, site: Site) -> None:
    """Without the key every rung would be climbed, which no tick says."""
    upload(page, "reviews.csv")
    text = text_of(site, "reviews")
    found = page.post("/new/reviews/field?key=ladder", data={"text": text})
    assert "Rungs: found nothing ticked. Choose at least one." in found.text
    assert "The text is valid." not in found.text
    assert text_of(site, "reviews") == text
    assert found.headers["hx-retarget"] == "#beside"
    assert 'value="prompting" checked' in " ".join(found.text.split())


def test_defaults_stay_beside_a_text_with_a_fault(page: TestClient, site: Site) -> None:
    upload(page, "reviews.csv")
    text = text_of(site, "reviews")
    for sent in (text, text.replace("bar: 0.85", "bar: 85")):
        shown = page.post("/new/reviews/text", data={"text": sent}).text
        assert "quality (default)" in shown
        assert "auto (default)" in shown
        assert re.findall(r'name="sft\.(?:epochs|r)" type="text" value="" placeholder="(\d+)"', shown) == ["3", "16"]


def test_a_text_with_a_fault_is_refused_once(page: TestClient, site: Site) -> None:
    """Beside the form, where it goes as soon as the text is corrected; what waits for it is no refusal of its own."""
    upload(page, "reviews.csv")
    page.post("/new/reviews/text", data={"text": text_of(site, "reviews").replace("bar: 0.85", "bar: 85")})
    assert next_to_start(page) == ""
    for part in ("data", "advice"):
        shown = page.get(f"/new/reviews/{part}").text
        assert '<p class="legend">Correct the task first.</p>' in shown
        assert "refusal" not in shown


def test_rows_without_an_answer_can_be_left_out(page: TestClient, site: Site) -> None:
    """The refusal offers it; the draft says how many, and a copy of the file lies next to it."""
    rows = CSV.replace('is bad, <b>really</b>",neg', 'is bad, <b>really</b>",', 5)
    status, said = upload(page, "reviews.csv", rows)
    assert status == 422
    assert "Leave out 5 rows without an answer</button>" in said
    assert not list(site.workspace.tasks.iterdir())
    files = {"file": ("reviews.csv", io.BytesIO(rows.encode()))}
    found = page.post("/new/upload", files=files, data={"leave_out": "yes"})
    assert found.headers["hx-redirect"] == "/new/reviews", found.text
    assert "# A copy of reviews.csv: it leaves out 5 rows without an answer." in text_of(site, "reviews")
    folder = site.workspace.tasks / "reviews"
    assert drafts.task_from(text_of(site, "reviews"), folder).examples.all == folder / "reviews-complete.csv"
    copy = read_rows(folder / "reviews-complete.csv")
    assert (len(copy), all(row.values["sentiment"] for row in copy)) == (195, True)
    assert (folder / "reviews.csv").read_text() == rows
    assert "Rows from reviews-complete.csv" in page.get("/new/reviews").text


def test_rows_without_an_answer_are_offered_where_columns_are_chosen(page: TestClient, site: Site) -> None:
    lines = [f"some words {i},{'' if i == 7 else i % 3},{i % 4} apples\n" for i in range(200)]
    assert upload(page, "odd.csv", "alpha,beta,gamma\n" + "".join(lines)) == (204, "/new/odd/columns")
    chosen = {"source": "alpha", "target": "beta"}
    refused = page.post("/new/odd/columns", data=chosen)
    assert "Leave out 1 row without an answer" in refused.text
    assert 'hx-post="/new/odd/columns"' in refused.text
    assert page.post("/new/odd/columns", data={**chosen, "leave_out": "yes"}).headers["hx-redirect"] == "/new/odd"
    assert "examples: odd-complete.csv" in text_of(site, "odd")
    # Other columns are those of the whole file again, not of the copy, whatever became of the line that says so.
    own = text_of(site, "odd").replace("# A copy of odd.csv: it leaves out 1", "# without 1")
    assert own != text_of(site, "odd")
    assert page.post("/new/odd/text", data={"text": own}).status_code == 200
    other = page.post("/new/odd/columns", data={"source": "alpha", "target": "gamma"})
    assert other.headers["hx-redirect"] == "/new/odd"
    assert "examples: odd.csv" in text_of(site, "odd")
    assert "A copy of" not in text_of(site, "odd")


def test_test_items_that_a_run_has_used_are_said_before_the_start(
    page: TestClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    upload(page, "reviews.csv")
    reuse = {
        "n": 60,
        "used": 60,
        "most": 1,
        "text": "All 60 test items have <b>already</b> been used in an earlier run.",
    }
    report = {"ok": True, "counts": {}, "labels": {}, "tokens": {}, "findings": [], "preferences": None}
    for found, said in ((reuse, True), (None, False)):
        text = json.dumps({**report, "test_reuse": found})
        monkeypatch.setattr(Children, "printed", lambda *_, text=text, **__: CommandOutput(text))
        shown = page.get("/new/reviews/data").text
        assert ("have &lt;b&gt;already&lt;/b&gt; been used" in shown) is said
        assert ("No problems found." in shown) is not said


@pytest.mark.sampled(3)
@pytest.mark.parametrize(
    ("source", "target", "said"),
    [
        ("", "", "found no column for the input and the answer, expected one for the input"),
        ("review", "", "Choose a column for the answer."),
        ("", "review", "Choose a column for the input."),
        ("review", "review", "found &#34;review&#34; for both"),
    ],
)
def test_columns_that_are_not_chosen_are_named(page: TestClient, source: str, target: str, said: str) -> None:
    upload(page, "reviews.csv")
    found = page.post("/new/reviews/columns", data={"source": source, "target": target})
    assert found.status_code == 422
    assert said in found.text


@pytest.mark.parametrize("header", ["text,label", "review,sentiment"])
def test_the_columns_that_are_used_now_are_shown_and_chosen(page: TestClient, header: str) -> None:
    upload(page, "reviews.csv", CSV.replace("review,sentiment", header))
    source, target = header.split(",")
    shown = page.get("/new/reviews/columns").text
    assert f"The task uses <b>{source}</b> as the input and <b>{target}</b> as the answer." in shown
    assert re.findall(r'<option value="(\w+)" selected>', shown) == [source, target]
    assert "known shape" not in shown


def test_a_sheet_is_to_be_saved_as_csv(page: TestClient) -> None:
    status, said = upload(page, "reviews.xlsx", b"PK")
    assert (status, "Save the sheet as CSV." in said) == (422, True)


def test_a_sentence_that_quotes_an_example_ends_once(page: TestClient) -> None:
    upload(page, "reviews.csv")
    said = page.post("/new/reviews/text", data={"text": "task: a\n"}).text
    assert "Route a support ticket to a team" in said
    assert ".." not in said.partition('id="fault"')[2].partition("</div>")[0]


def test_another_file_can_leave_out_rows_without_an_answer(page: TestClient, site: Site) -> None:
    upload(page, "reviews.csv")
    before = text_of(site, "reviews")
    rows = CSV.replace('bad, <b>really</b>",neg', 'bad, <b>really</b>",', 2)
    status, said = replace(page, "later.csv", rows)
    assert status == 422
    assert "Leave out 2 rows without an answer</button>" in said
    assert 'hx-include="#replaced, #text, #seen"' in said
    assert str(site.workspace.folder) not in said
    folder = site.workspace.tasks / "reviews"
    assert (text_of(site, "reviews"), sorted(path.name for path in folder.glob("*.csv"))) == (before, ["reviews.csv"])
    assert replace(page, "later.csv", rows, leave_out="yes") == (204, "/new/reviews")
    line = "# A copy of later.csv: it leaves out 2 rows without an answer.\n"
    assert f"{line}examples: later-complete.csv" in text_of(site, "reviews")
    assert len(read_rows(folder / "later-complete.csv")) == 198
    assert replace(page, "last.csv", CSV) == (204, "/new/reviews")
    assert "# A copy of" not in text_of(site, "reviews"), "it is no longer so"


def test_a_disk_that_is_full_leaves_the_task_with_the_file_that_it_reads(
    page: TestClient, site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    upload(page, "reviews.csv")
    folder, before = site.workspace.tasks / "reviews", text_of(site, "reviews")

    def full(*_: object) -> None:
        raise InfrastructureError("the disk is full", where="copies.yaml")

    monkeypatch.setattr(drafts, "keep_copied", full)
    rows = CSV.replace('bad, <b>really</b>",neg', 'bad, <b>really</b>",', 2)
    _, said = replace(page, "later.csv", rows, leave_out="yes")
    assert "the disk is full" in said
    assert (text_of(site, "reviews"), [path.name for path in folder.glob("*.csv")]) == (before, ["reviews.csv"])
