"""A training on the page: its file as form and as text, started, followed, stopped, exported, and what it may not do."""

from __future__ import annotations

import html
import io
import json
import os
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs

import pytest
from starlette.testclient import TestClient

from lastresort.app import held_out
from lastresort.app.held_out import HeldOutRows, held_out_rows
from lastresort.app.train import train, training_from
from lastresort.app.watch import training_now, trainings_below
from lastresort.climb.prepare import prepare
from lastresort.errors import InputError
from lastresort.records.atomic import held
from lastresort.spec.document import parse_document
from lastresort.spec.training import TRAINING
from lastresort.stop import FILE_NAME as STOP
from lastresort.train.files.items import Conversation, read_units
from lastresort.train.settings import TrainingFile
from lastresort.types import SilentProgress
from lastresort.ui import jobs, trainings
from lastresort.ui.children import Children, CommandOutput
from lastresort.ui.drafts import DRAFT, task_from
from lastresort.ui.pages import train as train_page
from lastresort.ui.site import Site
from train_support import data_for, training_file
from ui_support import htmx_page_of, recorded_starts, until


@pytest.fixture
def opened(tmp_path: Path) -> tuple[Site, TestClient]:
    return htmx_page_of(tmp_path)


@pytest.fixture
def site(opened: tuple[Site, TestClient]) -> Site:
    return opened[0]


@pytest.fixture
def page(opened: tuple[Site, TestClient]) -> TestClient:
    return opened[1]


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch) -> list[tuple[jobs.Command, tuple[str, ...]]]:
    return recorded_starts(monkeypatch)


def upload(page: TestClient, rows: list[Any], name: str = "rows.jsonl") -> str:
    text = "".join(json.dumps(row) + "\n" for row in rows)
    return page.post("/train/upload", files={"file": (name, io.BytesIO(text.encode()))}).headers["hx-redirect"]


def text_of(site: Site, name: str = "rows") -> str:
    return (site.workspace.tasks / name / trainings.DRAFT).read_text()


def typed(page: TestClient, text: str, name: str = "rows") -> str:
    return page.post(f"/train/{name}/text", data={"text": text}).text


@pytest.mark.sampled(3)
@pytest.mark.parametrize(
    ("rows", "objective"),
    [
        (data_for("dpo"), "dpo"),
        (data_for("sft"), "sft"),
        (data_for("text"), "text"),
        (data_for("kto"), "kto"),
        ([{"<b>": "x"}], "sft"),
    ],
)
def test_an_upload_begins_with_the_objective_of_its_rows(
    page: TestClient, site: Site, rows: list[Any], objective: str
) -> None:
    assert upload(page, rows) == "/train/rows"
    assert f"objective: {objective}" in text_of(site)
    assert "The text is valid." in page.get("/train/rows").text
    assert '<a href="/train/rows">' in page.get("/train").text


def test_columns_of_other_names_are_found_and_can_be_changed(page: TestClient, site: Site) -> None:
    rows = [{"review": f"words of review {i}", "sentiment": "pos" if i % 2 else "neg"} for i in range(200)]
    upload(page, rows)
    text = text_of(site)
    assert "columns: {input: review, output: sentiment}" in text
    file = training_from(parse_document(text, "train.yaml", TRAINING), site.workspace.tasks / "rows" / "train.yaml")
    units = read_units(file, file.data.train)
    texts = [text for unit in units for text in unit.texts if isinstance(text, Conversation)]
    assert len(texts) == 200
    assert [message.content for message in texts[0].messages] == ["words of review 0", "neg"]
    shown = page.get("/train/rows").text
    assert 'name="columns.input" type="text" value="review"' in shown
    page.post("/train/rows/field?key=columns.output", data={"text": text, "columns.output": "other"})
    assert "output: other" in text_of(site)


def test_open_columns_are_said_in_the_draft_and_known_ones_are_not(page: TestClient, site: Site) -> None:
    upload(page, [{"alpha": f"some words {i}", "beta": i % 3, "gamma": f"{i % 4} apples"} for i in range(200)])
    assert "# columns: {input: …, output: …}" in text_of(site)
    upload(page, data_for("sft"))
    assert "columns" not in text_of(site, "rows-2")


def labelled_rows(page: TestClient, name: str = "mine.jsonl") -> list[dict[str, str]]:
    """Uploaded as a task, some of them twice."""
    rows = [{"input": f"question {i} of {i * 7}", "output": "b" if i % 2 else "c"} for i in range(200)]
    data = "".join(json.dumps(row) + "\n" for row in rows).encode()
    page.post("/new/upload", files={"file": (name, io.BytesIO(data))})
    return rows


def training_in(site: Site, name: str) -> TrainingFile:
    text = text_of(site, name)
    return training_from(parse_document(text, "train.yaml", TRAINING), site.workspace.tasks / name / "train.yaml")


def test_a_training_on_a_task_reads_its_train_split_alone(
    page: TestClient, site: Site, started: list[tuple[jobs.Command, tuple[str, ...]]]
) -> None:
    """The rows that a climb of it trains on, with their counts; nothing that it is tested on."""
    rows = labelled_rows(page)
    page.post("/train/on", data={"data": "mine/mine.jsonl"})
    folder = site.workspace.tasks / "mine"
    split = prepare(task_from((folder / DRAFT).read_text(), folder)).split
    kept = [json.loads(line) for line in (folder / "mine.train.jsonl").read_text().splitlines()]
    assert [row["input"] for row in rows if row in kept] == [row["input"] for row in kept]
    assert {row["input"] for row in kept} == {example.input_text for example in split.train}
    said = f"# {len(split.train)} of the 200 rows of mine.jsonl: the train split of its task."
    assert said in text_of(site, "mine")
    assert f"Its {len(split.dev)} dev and {len(split.test)} test items stay held out." in text_of(site, "mine")
    assert held_out_rows(training_in(site, "mine")) == [HeldOutRows(DRAFT, len(kept), 0, 0)]
    shown = page.get("/train/mine").text
    assert f"None of the {len(kept)} training rows has the same input as a dev or test item" in shown.replace(
        "\u00a0", " "
    )
    assert page.post("/train/mine/start").status_code == 204
    assert len(started) == 1
    assert "mine/mine.jsonl" in page.get("/train").text, "the file of the split is no data of its own"
    assert "mine.train.jsonl" not in page.get("/train").text
    page.post("/train/on", data={"data": "mine/mine.jsonl"})
    assert len(list(folder.glob("*.train*.jsonl"))) == 1


def test_the_train_split_of_a_file_with_a_dot_in_its_name_is_named_after_all_of_it(
    page: TestClient, site: Site
) -> None:
    labelled_rows(page, "mine.2026.jsonl")
    (data,) = site.workspace.tasks.glob("*/*.2026.jsonl")
    page.post("/train/on", data={"data": data.relative_to(site.workspace.tasks).as_posix()})
    assert data.with_name("mine.2026.train.jsonl").is_file()


def test_a_training_on_what_a_task_holds_out_does_not_start_here(
    page: TestClient, site: Site, started: list[tuple[jobs.Command, tuple[str, ...]]]
) -> None:
    labelled_rows(page)
    page.post("/train/on", data={"data": "mine/mine.jsonl"})
    leaky = text_of(site, "mine").replace("data: mine.train.jsonl", "data: mine.jsonl")
    typed(page, leaky, "mine")
    (found,) = held_out_rows(training_in(site, "mine"))
    assert (found.rows, found.dev + found.test > 50) == (200, True)
    assert "would test what was trained on" in page.get("/train/mine").text
    refused = page.post("/train/mine/start")
    assert (refused.status_code, started) == (422, [])
    assert (
        f"found {found.dev} dev items and {found.test} test items of {DRAFT} among the 200 training rows"
        in refused.text
    )
    assert "Write data: mine.train.jsonl" in refused.text


def test_a_system_turn_turns_before_it_and_slips_of_the_pen_hide_no_held_out_item(
    page: TestClient, site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Slips of the pen, only where there are not too many rows."""
    rows = [
        {"input": f"customer {i} of branch {i * 7} complains about a delivered parcel", "output": "b" if i % 2 else "c"}
        for i in range(200)
    ]
    data = "".join(json.dumps(row) + "\n" for row in rows).encode()
    page.post("/new/upload", files={"file": ("mine.jsonl", io.BytesIO(data))})
    folder = site.workspace.tasks / "mine"
    split = prepare(task_from((folder / DRAFT).read_text(), folder)).split
    system = {"role": "system", "content": "You sort mail."}
    shot = [{"role": "user", "content": "An example?"}, {"role": "assistant", "content": "b"}]

    def repeated(before: list[dict[str, str]], word: str = "complains") -> tuple[int, int]:
        chats = []
        for row in rows:
            asked = {"role": "user", "content": row["input"].replace("complains", word)}
            chats.append({"messages": [*before, asked, {"role": "assistant", "content": row["output"]}]})
        (folder / "chats.jsonl").write_text("".join(json.dumps(chat) + "\n" for chat in chats))
        (folder / trainings.DRAFT).write_text("model: embedded\ndata: chats.jsonl\n")
        (found,) = held_out_rows(training_in(site, "mine"))
        return found.dev, found.test

    held = len(split.dev), len(split.test)
    assert repeated([]) == held
    assert repeated([system]) == held
    assert repeated([system, *shot]) == held
    assert repeated([], "complaims") == held
    monkeypatch.setattr(held_out, "MOST_NEAR", 100)
    assert repeated([system, *shot]) == held
    assert repeated([], "complaims") == (0, 0)


def test_a_training_that_stopped_is_not_started_again_on_what_a_task_holds_out(
    page: TestClient, site: Site, started: list[tuple[jobs.Command, tuple[str, ...]]]
) -> None:
    labelled_rows(page)
    folder = site.workspace.tasks / "mine"
    (folder / "train.yaml").write_text("model: embedded\ndata: mine.jsonl\n")
    refused = page.post("/train/mine/train/resume")
    assert (refused.status_code, started) == (422, [])
    assert "among the 200 training rows" in refused.text
    (folder / DRAFT).unlink()
    assert page.post("/train/mine/train/resume").status_code == 204
    assert len(started) == 1


@pytest.mark.parametrize("name", ["task.yaml", "task.yml"])
def test_every_task_next_to_a_training_is_read_however_many_other_files_lie_there(
    page: TestClient, site: Site, name: str
) -> None:
    labelled_rows(page)
    folder = site.workspace.tasks / "mine"
    (folder / DRAFT).rename(folder / name)
    for number in range(25):
        (folder / f"a{number}.yaml").write_text("services: [")
    (folder / ".checked.yaml").write_text((folder / name).read_text())  # of the page, while it checks the data
    (folder / trainings.DRAFT).write_text("model: embedded\ndata: mine.jsonl\n")
    (found,) = held_out_rows(training_in(site, "mine"))
    assert (found.task, found.leaks) == (name, True)


@pytest.mark.sampled(3)
@pytest.mark.parametrize(
    ("broken", "said"),
    [
        (lambda text: text + "bar: [\n", "not YAML"),
        (lambda text: text.replace("bar: 0.85", "bar: 3"), "bar"),
        (lambda text: text.replace("mine.jsonl", "gone.jsonl"), "gone.jsonl"),
    ],
)
def test_a_training_next_to_a_task_that_cannot_be_read_does_not_start(
    page: TestClient,
    site: Site,
    started: list[tuple[jobs.Command, tuple[str, ...]]],
    broken: Callable[[str], str],
    said: str,
) -> None:
    """What it holds out is not known."""
    labelled_rows(page)
    folder = site.workspace.tasks / "mine"
    (folder / "other.yaml").write_text(broken((folder / DRAFT).read_text()))
    (folder / DRAFT).unlink()
    (folder / trainings.DRAFT).write_text("model: embedded\ndata: mine.jsonl\n")
    assert "Which rows other.yaml holds out is not known" in page.get("/train/mine").text
    refused = page.post("/train/mine/start")
    assert (refused.status_code, started) == (422, [])
    assert "other.yaml" in refused.text
    assert said in refused.text


def test_what_a_task_holds_out_is_read_again_once_its_rows_change_and_not_for_other_settings(
    page: TestClient, site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    labelled_rows(page)
    folder = site.workspace.tasks / "mine"
    (folder / "own.jsonl").write_text(json.dumps({"input": "a row of my own", "output": "b"}) + "\n")
    text = "model: embedded\ndata: own.jsonl\nepochs: 1\n"
    (folder / trainings.DRAFT).write_text(text)
    calls: list[TrainingFile] = []
    monkeypatch.setattr(train_page, "held_out_rows", lambda file: calls.append(file) or held_out_rows(file))
    assert "None of the 1 training row" in page.get("/train/mine").text.replace("\u00a0", " ")
    typed(page, text.replace("epochs: 1", "epochs: 2"), "mine")
    page.get("/train/mine")
    assert len(calls) == 1
    with (folder / "mine.jsonl").open("a") as file:
        file.write(json.dumps({"input": "one more question", "output": "b"}) + "\n")
    page.get("/train/mine")
    assert len(calls) == 2


def test_preferences_that_ask_what_a_task_holds_out_are_found(page: TestClient, site: Site) -> None:
    rows = labelled_rows(page)
    folder = site.workspace.tasks / "mine"
    pairs = "".join(json.dumps({"prompt": row["input"], "chosen": "b", "rejected": "c"}) + "\n" for row in rows)
    (folder / "pairs.jsonl").write_text(pairs)
    (folder / trainings.DRAFT).write_text("model: embedded\nobjective: dpo\ndata: pairs.jsonl\n")
    (found,) = held_out_rows(training_in(site, "mine"))
    split = prepare(task_from((folder / DRAFT).read_text(), folder)).split
    assert (found.dev, found.test) == (len(split.dev), len(split.test))


def test_a_terminal_warns_of_rows_that_a_task_next_to_it_holds_out(
    page: TestClient, site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    labelled_rows(page)
    path = site.workspace.tasks / "mine" / "train.yaml"
    path.write_text("model: embedded\ndata: mine.jsonl\n")
    monkeypatch.setattr("lastresort.train.files.run.run_training", lambda *_, **__: None)
    said: list[str] = []
    progress = SilentProgress()
    monkeypatch.setattr(SilentProgress, "say", lambda _, text: said.append(text))
    train(path, progress)
    assert len(said) == 1
    assert said[0].startswith("warning: Of the 200 training rows, ")


def test_a_task_that_cannot_be_read_says_so_instead_of_being_trained_on(page: TestClient, site: Site) -> None:
    labelled_rows(page)
    folder = site.workspace.tasks / "mine"
    (folder / DRAFT).write_text((folder / DRAFT).read_text().replace("bar: 0.85", "bar: 3"))
    refused = page.post("/train/on", data={"data": "mine/mine.jsonl"})
    assert (refused.status_code, "bar" in refused.text) == (422, True)
    assert not (folder / trainings.DRAFT).exists()


def test_rows_of_a_task_can_be_trained_on(page: TestClient, site: Site) -> None:
    rows = [{"input": f"a {i}", "output": "b" if i % 2 else "c"} for i in range(200)]
    data = "".join(json.dumps(row) + "\n" for row in rows).encode()
    page.post("/new/upload", files={"file": ("mine.jsonl", io.BytesIO(data))})
    assert "mine/mine.jsonl" in page.get("/train").text
    assert page.post("/train/on", data={"data": "mine/mine.jsonl"}).headers["hx-redirect"] == "/train/mine"
    assert page.post("/train/on", data={"data": "../../etc/passwd"}).status_code == 404
    assert page.get("/train/mine").status_code == 200
    assert "The text is valid." in page.get("/new/mine").text


def test_fields_and_text_are_one(page: TestClient, site: Site) -> None:
    upload(page, data_for("dpo"))
    for key, value in (("adapter.r", "8"), ("data.eval", "0.2"), ("adapter.kind", "rslora"), ("learning_rate", "1e-4")):
        page.post(f"/train/rows/field?key={key}", data={"text": text_of(site), key: value})
    text = text_of(site)
    assert "adapter: {kind: rslora, r: 8}" in text
    assert "data: {train: rows.jsonl, eval: 0.2}" in text
    assert "learning_rate: 1e-4" in text
    shown = typed(page, text.replace("r: 8", "r: 12"))
    assert 'name="adapter.r" type="text" value="12"' in shown


@pytest.mark.sampled(5)
@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("data: rows.jsonl\nlora_r: 8\n", "adapter: {r: …}"),
        ("data: rows.jsonl\nepochs: none\n", "epochs"),
        ("data: ../../../etc/passwd\nobjective: sft\nlearning_rate: [\n", "not YAML"),
        ("data: rows.jsonl\noutput: /tmp/elsewhere\n", "a folder next to the file"),
        ("data: rows.jsonl\noutput: ../other\n", "a folder next to the file"),
        ("data: rows.jsonl\noutput: .\n", "a folder next to the file"),
        ("a: &a [x]\nb: [*a, *a]\n", "alias"),
        ("", "no keys"),
    ],
)
def test_what_is_typed_is_checked_and_not_started(
    page: TestClient, started: list[tuple[jobs.Command, tuple[str, ...]]], text: str, said: str
) -> None:
    upload(page, data_for("sft"))
    assert said in typed(page, text)
    assert page.post("/train/rows/start").status_code == 422
    assert page.get("/train/rows").status_code == 200
    assert started == []


def test_a_start_writes_the_file_and_goes_to_the_training(
    page: TestClient, site: Site, started: list[tuple[jobs.Command, tuple[str, ...]]]
) -> None:
    upload(page, data_for("dpo"))
    assert page.post("/train/rows/start").headers["hx-redirect"] == "/train/rows/train"
    job, reaches = started[0]
    assert (job.arguments, job.folder, reaches) == (
        ("train", "tasks/rows/train.yaml"), site.workspace.folder, (),
    )  # fmt: skip
    job.log.parent.mkdir(parents=True)
    job.log.write_text("Error: <b>no</b> rows\n")
    shown = page.get("/train/rows/train").text
    assert "It did not start." in shown
    assert "&lt;b&gt;no&lt;/b&gt; rows" in shown
    typed(page, text_of(site).replace("epochs: 3", "epochs: 4"))
    assert page.post("/train/rows/start").headers["hx-redirect"] == "/train/rows/train-2"
    assert "epochs: 3" in (site.workspace.tasks / "rows" / "train.yaml").read_text()


def test_reward_code_runs_only_after_a_yes_to_what_was_shown(
    page: TestClient, site: Site, started: list[tuple[jobs.Command, tuple[str, ...]]]
) -> None:
    upload(page, data_for("sft"))
    folder = site.workspace.tasks / "rows"
    (folder / "reward.py").write_text("def score(answer): return '<b>' in answer\n")
    text = "data: rows.jsonl\nobjective: grpo\nreward: [{python: reward.py:score}]\n"
    assert "The text is valid." in typed(page, text)
    assert page.post("/train/rows/start", data={"yes": "x"}).headers["hx-redirect"] == "/train/rows/confirm"
    shown = page.get("/train/rows/confirm").text
    assert "&#39;&lt;b&gt;&#39; in answer" in shown
    assert started == []
    mark = shown.partition('name="yes" value="')[2].partition('"')[0]
    assert page.post("/train/rows/start", data={"yes": mark}).headers["hx-redirect"] == "/train/rows/train"
    (folder / "reward.py").write_text("def score(answer): return 1\n")
    again = page.post("/train/rows/train/resume").headers["hx-redirect"]
    assert again == "/train/rows/confirm?stem=train"
    assert len(started) == 1


def test_trackers_and_judges_elsewhere_are_asked_about_and_get_keys(
    page: TestClient, started: list[tuple[jobs.Command, tuple[str, ...]]]
) -> None:
    upload(page, data_for("sft"))
    typed(page, "data: rows.jsonl\ntrack: [wandb]\n")
    assert page.post("/train/rows/start").headers["hx-redirect"] == "/train/rows/confirm"
    shown = page.get("/train/rows/confirm").text
    assert "<code>wandb</code>" in shown
    mark = shown.partition('name="yes" value="')[2].partition('"')[0]
    page.post("/train/rows/start", data={"yes": mark})
    assert started[0][1] == ("wandb",)


def test_a_training_at_work_is_followed_and_stopped(page: TestClient, site: Site) -> None:
    path = training_file(site.workspace.tasks / "rows", "sft")
    output = path.parent / "out"
    output.mkdir()
    (output / "begun.json").write_text("{}")
    lines = [{"step": i, "loss": 2.0 / i, "learning_rate": 1e-4, "seconds": 0.1} for i in range(1, 30)]
    lines[9]["eval_loss"], lines[-1]["eval_loss"] = 1.5, 1.25
    (output / "log.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines) + '{"step": 30, "lo')
    with held(output, "held", expected="x", remedy="x"):
        shown = page.get("/train/rows/train/now").text
        assert "state running" in shown
        assert "step 29 · loss 0.06897 · held out 1.25 · learning rate" in shown
        assert 'data-every-ms="2000"' in shown
        assert shown.count("<circle") == 2, "of what is held out"
        assert " style=" not in shown
        stopping = page.post("/train/rows/train/stop")
        assert "Stopping at the next step" in stopping.text
        assert stopping.headers["hx-retarget"] == "#now"
        assert (output / STOP).is_file()
    shown = page.get("/train/rows/train/now").text
    assert "It stopped before it finished." in shown
    assert "--resume" in shown


def test_a_linked_folder_is_no_task_and_nothing_is_written_there(page: TestClient, site: Site, tmp_path: Path) -> None:
    upload(page, data_for("sft"))
    elsewhere = tmp_path / "elsewhere"
    shutil.copytree(site.workspace.tasks / "rows", elsewhere)
    (elsewhere / "train-draft.yaml").unlink()
    (site.workspace.tasks / "linked").symlink_to(elsewhere)
    assert "linked" not in page.get("/train").text + page.get("/new").text
    before = list(elsewhere.iterdir())
    assert page.post("/train/on", data={"data": f"linked/{before[0].name}"}).status_code == 404
    assert list(elsewhere.iterdir()) == before


def test_a_page_hears_of_a_training_that_goes_on_in_a_terminal(page: TestClient, site: Site) -> None:
    """By its mark, which the page asks for while somebody may look."""
    path = training_file(site.workspace.tasks / "rows", "sft")
    output = path.parent / "out"
    output.mkdir()
    (output / "begun.json").write_text("{}")
    marks = [page.get("/train/rows/train/mark").text]
    assert f'data-asks="/train/rows/train/mark" data-mark="{marks[0]}"' in page.get("/train/rows/train").text
    with held(output, "held", expected="x", remedy="x"):
        marks.append(page.get("/train/rows/train/mark").text)
        (output / "log.jsonl").write_text('{"step": 1, "loss": 1.0}\n')
        marks += [page.get("/train/rows/train/mark").text for _ in range(2)]
    marks.append(page.get("/train/rows/train/mark").text)
    assert [mark.partition("-")[0] for mark in marks] == ["idle", "running", "running", "running", "idle"]
    assert (len(set(marks)), marks[2]) == (4, marks[3])
    path.write_text("objective: none\n")
    assert page.get("/train/rows/train/mark").text.startswith("idle")


def test_no_training_outside_of_the_workspace_is_shown(page: TestClient, site: Site, tmp_path: Path) -> None:
    upload(page, data_for("sft"))
    folder = site.workspace.tasks / "rows"
    (folder / "train-2.yaml").write_text("data: rows.jsonl\noutput: /etc\n")
    for address in ("/train/rows/train-2", "/train/rows/confirm?stem=train-2"):
        shown = html.unescape(page.get(address).text)
        assert 'train-2.yaml, key "output": found the output "/etc", expected a folder next to the file' in shown
    for name in ("../x", "%2e%2e%2ftrain", "draft", "train-draft", "rows"):
        assert page.get(f"/train/rows/{name}").status_code == 404
    assert page.get("/train/nothing").status_code == 404


def test_what_a_terminal_trained_in_the_folder_is_listed(page: TestClient, site: Site, tmp_path: Path) -> None:
    folder = site.workspace.folder
    assert "Started in a terminal" not in page.get("/train").text
    (elsewhere := tmp_path / "elsewhere").mkdir()
    for output in (folder / "sft-out", folder / "dpo-out", folder / "<b>", elsewhere / "out"):
        output.mkdir()
        (output / "begun.json").write_text("{}")
    (folder / "linked").symlink_to(elsewhere / "out")
    (folder / "other").mkdir()
    (folder / "sft-out" / "log.jsonl").write_text('{"step": 18, "loss": 0.41236}\n')
    (folder / "<b>" / "training.json").write_text("not JSON")
    with held(folder / "dpo-out", "held", expected="x", remedy="x"):
        shown = page.get("/train").text
    rows = re.findall(r"<td><b>(.*?)</b></td><td>.*?>(\w+)</span></td><td>(.*?)</td>", shown)
    found = {name: (state, last) for name, state, last in rows}
    assert set(found) == {"sft-out", "dpo-out", "&lt;b&gt;"}
    assert found["sft-out"] == ("stopped", "18 · loss 0.4124")
    assert found["dpo-out"] == ("running", "none yet")
    assert found["&lt;b&gt;"][0] == "stopped"
    assert "training.json" in found["&lt;b&gt;"][1]


def test_a_folder_of_another_user_hides_no_training(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("lost+found", "out"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "begun.json").write_text("{}")
    stat = Path.stat

    def refused(path: Path, **given: bool) -> os.stat_result:
        if path.parent.name == "lost+found":
            raise PermissionError(13, "Permission denied", str(path))
        return stat(path, **given)

    monkeypatch.setattr(Path, "stat", refused)
    assert [one.stem for one in trainings_below(tmp_path)] == ["out"]


@pytest.mark.parametrize("output", [".", "x/..", "../rows"])
def test_no_training_writes_into_the_folder_of_its_task(output: str, tmp_path: Path) -> None:
    """Also where that is reached by a link."""
    (tmp_path / "rows").mkdir()
    (tmp_path / "rows" / "rows.jsonl").write_text('{"input": "a", "output": "b"}\n')
    (tmp_path / "link").symlink_to("rows")
    document = parse_document(f"data: rows.jsonl\noutput: {output}\n", "train.yaml", TRAINING)
    for folder in ("rows", "link"):
        with pytest.raises(InputError, match="expected a folder next to the file"):
            training_from(document, tmp_path / folder / "train.yaml")


@pytest.mark.slow
def test_a_training_trains_to_its_end_on_the_page(
    page: TestClient, site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The process itself, on the tiny model; then its export, by what the command would be asked."""
    path = training_file(site.workspace.tasks / "rows", "sft", output=None, data={"train": "rows.jsonl", "eval": 0.2})
    assert page.post("/train/rows/start").headers["hx-redirect"] == "/train/rows/train"
    until(lambda: "state running" not in page.get("/train/rows/train/now").text, "the training ends")
    shown = page.get("/train/rows/train").text
    assert "adapter: tasks/rows/train-out/adapter" in shown, shown
    assert training_now(path).state == "finished"
    asked: list[Any] = []

    def printed(self: Children, question: object, state: object, arguments: list[str]) -> CommandOutput:
        asked.append(arguments)
        return CommandOutput("written: <b>")

    monkeypatch.setattr(Children, "printed", printed)
    assert "written: &lt;b&gt;" in page.post("/train/rows/train/export", data={"to": "trl"}).text
    assert asked == [["export", "tasks/rows/train-out", "--to", "trl"]]
    refused = page.get("/train/rows/train/export?to=trl")
    assert (refused.status_code, len(asked)) == (404, 1), "only a POST starts it"
    assert page.post("/train/rows/train/export", data={"to": "--out"}).status_code == 422
    page.post("/train/rows/train/export", data={"to": "trl", "base": "--out"})
    assert asked[-1][-1] == "--base=--out", "a name is no option"


def test_its_memory_is_planned_with_what_its_text_says(page: TestClient, site: Site) -> None:
    address = upload(page, data_for("dpo"))
    assert 'href="/train/rows/plan">Plan its memory' in page.get(address).text
    typed(
        page,
        text_of(site)
        .replace("adapter: lora ", "adapter: {kind: full}")
        .replace("epochs: 3", "epochs: 2\nmax_tokens: 700"),
    )
    to = page.get("/train/rows/plan").headers["location"]
    query = parse_qs(to.removeprefix("/plan?"))
    expected = {"model": "embedded", "method": "full", "objective": "dpo", "epochs": "2", "tokens": "700"}
    assert {name: query[name][0] for name in expected} == expected
    assert query["rows"] == [str(len(data_for("dpo")))]
    shown = page.get(f"{to}&gpu=l40s", headers={"hx-request": ""}).text
    assert "<option selected>full</option>" in shown
    assert "refusal" not in shown
    typed(page, "epochs: many")
    assert page.get("/train/rows/plan").status_code == 422
