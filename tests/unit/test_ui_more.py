"""On the page, a test that ended UNDECIDED goes on with uploaded items, or says why it does not."""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path
from typing import Any

import httpx
import pytest
from starlette.testclient import TestClient

from climb_support import rows, scripted_task
from lastresort.app.climb import climb
from lastresort.records.atomic import held, new_file
from lastresort.records.decision import RunView
from lastresort.records.events.run import ItemsAdded
from lastresort.records.record import Record
from lastresort.records.view import Fold
from lastresort.spec.task import load_task
from lastresort.types import JudgedBar
from lastresort.ui import jobs, resuming, workspace
from lastresort.ui.workspace import Workspace
from ui_support import Ended, Working, change_task, finished_run, htmx_page_of, recorded_starts, until

FRESH = rows(700)[260:560]


@pytest.fixture
def page(tmp_path: Path) -> TestClient:
    """Of a workspace with a run that ended UNDECIDED; its model knows the fresh rows, too."""
    path = scripted_task(
        tmp_path / "tasks" / "routing",
        quality=[{"right": 0.9}],
        task={"split": {"dev": 60, "test": 60}, "confidence": 0.99, "ladder": ["prompting"]},
        script={"answers_from": ["rows.jsonl", "known.jsonl"]},
    )
    (path.parent / "known.jsonl").write_bytes(lines(FRESH))
    assert climb(load_task(path), tmp_path / "runs" / "routing-1").decision.verdict == "UNDECIDED"
    return htmx_page_of(tmp_path)[1]


def lines(found: list[dict[str, Any]]) -> bytes:
    return "".join(json.dumps(row) + "\n" for row in found).encode()


def add(page: TestClient, found: list[dict[str, Any]], name: str = "more.jsonl") -> httpx.Response:
    return page.post("/runs/routing-1/more", files={"file": (name, lines(found))})


def added(tmp_path: Path) -> list[ItemsAdded]:
    with Record.open(tmp_path / "runs" / "routing-1", read_only=True) as record:
        return record.all(ItemsAdded)


@pytest.mark.slow
def test_uploaded_items_decide_what_was_undecided(page: TestClient, tmp_path: Path) -> None:
    shown = page.get("/runs/routing-1/now").text
    assert "Go on with more items" in shown
    assert "Prompting is undecided. " in shown
    assert add(page, FRESH).headers["hx-redirect"] == "/runs/routing-1"
    assert [(one.path, one.n) for one in added(tmp_path)] == [("fresh/more.jsonl", 300)]
    until(lambda: Workspace(tmp_path).state("routing-1").state == "finished", "it has decided again")
    view = Workspace(tmp_path).state("routing-1").view
    assert view is not None
    assert view.verdict == "MET"
    assert "Go on with more items" not in page.get("/runs/routing-1/now").text
    assert add(page, FRESH).status_code == 422, "nothing is left to decide"


@pytest.mark.sampled(3)
@pytest.mark.parametrize(
    ("found", "says"),
    [
        pytest.param(rows(260)[:60], "found the input of", id="known"),
        pytest.param(
            FRESH[:2], "decide nothing, even if all are right or all are wrong", marks=pytest.mark.slow, id="few"
        ),
        pytest.param(
            [{"input": "words", "output": "nobody"}], "found an output that is not among the choices", id="invalid"
        ),
    ],
)
def test_items_that_a_terminal_refuses_are_refused_alike(
    page: TestClient, tmp_path: Path, found: list[dict[str, Any]], says: str
) -> None:
    """The run is as it was, and the file is gone."""
    refused = add(page, found)
    assert refused.status_code == 422
    assert says in refused.text
    assert str(tmp_path) not in refused.text
    assert list((tmp_path / "runs" / "routing-1" / "fresh").iterdir()) == []
    assert added(tmp_path) == []
    assert Workspace(tmp_path).state("routing-1").state == "finished"


def test_what_the_task_would_run_is_asked_before_it_goes_on(
    page: TestClient, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    started = recorded_starts(monkeypatch)
    task = tmp_path / "tasks" / "routing" / "task.yaml"
    (task.parent / "score.py").write_text("def score(answer, expected): return answer == expected\n")
    change_task(task, score={"python": "score.py:score"})
    assert add(page, FRESH).headers["hx-redirect"] == "/runs/routing-1/confirm?more=more.jsonl"
    assert started == []
    asked = page.get("/runs/routing-1/confirm?more=more.jsonl").text
    assert '<input type="hidden" name="more" value="more.jsonl">' in asked
    yes = asked.partition('name="yes" value="')[2].partition('"')[0]
    page.post("/runs/routing-1/resume", data={"yes": yes, "more": "more.jsonl"})
    ((job, _),) = started
    assert job.arguments[-2:] == ("--more", str(tmp_path / "runs" / "routing-1" / "fresh" / "more.jsonl"))
    assert in_fresh(tmp_path) == ["more.jsonl"]
    for _ in range(2):
        no = page.post("/runs/routing-1/withdraw", data={"more": "more.jsonl"})
        assert no.headers["hx-redirect"] == "/runs/routing-1"
        assert in_fresh(tmp_path) == [], "who says no leaves no file behind"


@pytest.mark.parametrize("name", ["../record.sqlite", "none.jsonl", "/etc/passwd"])
def test_only_items_that_were_added_here_are_named(page: TestClient, name: str) -> None:
    assert page.post("/runs/routing-1/resume", data={"more": name}).status_code == 404


def test_nothing_is_added_to_a_run_at_work_or_without_an_open_test(page: TestClient, tmp_path: Path) -> None:
    with held(tmp_path / "runs" / "routing-1", "held", expected="", remedy=""):
        assert "Go on with more items" not in page.get("/runs/routing-1/now").text
        assert add(page, FRESH).status_code == 422
    other = tmp_path / "other"
    finished_run(other)
    client = htmx_page_of(other)[1]
    assert "Go on with more items" not in client.get("/runs/routing-1/now").text
    assert add(client, FRESH).status_code == 422
    assert not (other / "runs" / "routing-1" / "fresh").exists()
    assert add(page, FRESH, "more.exe").status_code == 422


@pytest.mark.slow
def test_a_file_that_the_record_names_stays_when_the_run_cannot_go_on(page: TestClient, tmp_path: Path) -> None:
    """A yes that is said once more adds nothing, and a process that fails then has not refused these items."""
    run = tmp_path / "runs" / "routing-1"
    path = run / "fresh" / "more.jsonl"
    path.parent.mkdir()
    path.write_bytes(lines(FRESH))
    with Record.open(run) as record:
        record.append(ItemsAdded(path="fresh/more.jsonl", sha256=hashlib.sha256(lines(FRESH)).hexdigest(), n=300))
    with (tmp_path / "tasks" / "routing" / "rows.jsonl").open("a") as rows_of_task:
        rows_of_task.write("broken\n")
    page.post("/runs/routing-1/resume", data={"more": "more.jsonl"})
    until(lambda: "This run did not go on" in page.get("/runs/routing-1/now").text, "the process has failed")
    assert path.is_file()


def test_of_uploads_that_are_refused_those_stay_whose_content_the_record_names(
    page: TestClient, tmp_path: Path
) -> None:
    run = tmp_path / "runs" / "routing-1"
    (run / "fresh").mkdir()
    with Record.open(run) as record:
        record.append(ItemsAdded(path="../gone.jsonl", sha256=hashlib.sha256(b"{}\n").hexdigest(), n=1))
    for name, content in (("again.jsonl", b"{}\n"), ("other.jsonl", b"{}\n{}\n")):
        (run / "fresh" / name).write_bytes(content)
        resuming.remove_refused(run, run / "fresh" / name)
    assert in_fresh(tmp_path) == ["again.jsonl"]


def working(monkeypatch: pytest.MonkeyPatch) -> None:
    """While the test lasts, a process that is started works for ever and holds nothing, and nobody waits for it."""
    monkeypatch.setattr(resuming, "START_S", 0.0)
    monkeypatch.setattr(jobs, "start", lambda *_: Working())


def in_fresh(tmp_path: Path) -> list[str]:
    return sorted(path.name for path in (tmp_path / "runs" / "routing-1" / "fresh").iterdir())


def test_of_two_that_add_items_at_once_one_is_refused(
    page: TestClient, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    working(monkeypatch)
    monkeypatch.setattr(resuming, "remove_once_refused", lambda *_: None)  # the process does not end
    assert add(page, FRESH[:150], "a.jsonl").status_code == 204
    refused = add(page, FRESH[150:], "b.jsonl")
    assert refused.status_code == 422
    assert "a process works on this run already" in refused.text
    assert in_fresh(tmp_path) == ["a.jsonl"]


def test_items_of_another_in_the_record_are_not_taken_for_these(
    page: TestClient, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def other_adds(*_: object) -> Ended:
        with Record.open(tmp_path / "runs" / "routing-1") as record:
            record.append(ItemsAdded(path="fresh/other.jsonl", sha256="0" * 64, n=3))
        return Ended()

    monkeypatch.setattr(jobs, "start", other_adds)
    assert add(page, FRESH).status_code == 422
    assert in_fresh(tmp_path) == []


class Slow(Working):
    """Ends once it is told to."""

    code: int | None = None

    def poll(self) -> int | None:  # type: ignore[override]
        return self.code

    def wait(self) -> int:
        return until(lambda: self.code, "the process is told to end")


def test_a_refusal_that_comes_late_is_shown_and_its_file_goes(
    page: TestClient, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    process = Slow()
    working(monkeypatch)
    log = tmp_path / "runs" / ".lastresort" / "jobs" / "routing-1.log"
    log.parent.mkdir(parents=True)
    log.write_text("Error: of an earlier process\n")
    monkeypatch.setattr(jobs, "start", lambda *_: process)
    assert add(page, FRESH).status_code == 204
    starting = page.get("/runs/routing-1/now").text
    assert "every 1s" in starting
    assert "Go on with more items" not in starting
    with log.open("a") as file:
        file.write("Error: row 3 is known\n")
    process.code = 2
    shown = page.get("/runs/routing-1/now").text
    assert "This run did not go on" in shown
    assert "row 3 is known" in shown
    assert "of an earlier process" not in shown
    assert "Go on with more items" in shown
    until(lambda: in_fresh(tmp_path) == [], "the refused file is gone")


def test_a_process_that_says_nothing_does_not_fail_with_the_words_of_an_earlier_one(
    page: TestClient, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recorded_starts(monkeypatch)
    log = tmp_path / "runs" / ".lastresort" / "jobs" / "routing-1.log"
    log.parent.mkdir(parents=True)
    log.write_text("Error: of an earlier process\n")
    refused = add(page, FRESH)
    assert refused.status_code == 422
    assert "of an earlier process" not in refused.text
    assert "ended before it read the items" in refused.text


def test_a_refusal_is_read_from_what_the_process_left_and_not_from_its_log(
    page: TestClient, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recorded_starts(monkeypatch)
    left = tmp_path / "runs" / ".lastresort" / "jobs" / "routing-1.error.json"
    left.parent.mkdir(parents=True)
    left.write_text(json.dumps({"error": "row 3 is known, \x07expected others. Send others."}))
    refused = add(page, FRESH)
    assert refused.status_code == 422
    assert "row 3 is known, \\x07expected others. Send others." in refused.text


@pytest.mark.parametrize("kind", ["link", "file"])
def test_items_are_written_into_a_folder_of_the_run_alone(page: TestClient, tmp_path: Path, kind: str) -> None:
    elsewhere, fresh = tmp_path / "elsewhere", tmp_path / "runs" / "routing-1" / "fresh"
    elsewhere.mkdir()
    (elsewhere / "more.jsonl").write_bytes(lines(FRESH))
    if kind == "link":
        fresh.symlink_to(elsewhere)
    else:
        fresh.write_text("")
    for refused in (add(page, FRESH), page.post("/runs/routing-1/resume", data={"more": "more.jsonl"})):
        assert refused.status_code == 422
        assert f"routing-1/fresh: found a {kind}" in refused.text
    assert [path.name for path in elsewhere.iterdir()] == ["more.jsonl"]


def test_what_a_killed_page_left_of_an_upload_of_items_goes(
    page: TestClient, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fresh = tmp_path / "runs" / "routing-1" / "fresh"
    fresh.mkdir()
    (fresh / "more.jsonl").write_text("whole")
    with monkeypatch.context() as killed:
        killed.setattr(os, "getpid", lambda: 2**22 + 1)  # that no process has
        half = new_file(fresh / "half.jsonl")
        half.__enter__()
    assert len(in_fresh(tmp_path)) == 2
    Workspace(tmp_path).remove_left_over()
    assert in_fresh(tmp_path) == ["more.jsonl"]
    with pytest.raises(FileNotFoundError):
        half.__exit__(None, None, None)


@pytest.mark.sampled(2)
@pytest.mark.parametrize("needed", [40, None])
def test_items_are_not_asked_for_where_only_labels_decide(
    page: TestClient, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, needed: int | None
) -> None:
    read = workspace.view_of
    judged = JudgedBar(0.8, (0.7, 0.9), 1.0, 0.0, labels_needed=needed)

    def with_judge(fold: Fold) -> RunView | None:
        view = read(fold)
        assert view is not None
        tested = view.rungs[0]
        assert tested.test is not None
        test = tested.test.replaced(judged=judged, n_needed=None)
        return view.replaced(rungs=(tested.replaced(test=test), *view.rungs[1:]))

    monkeypatch.setattr(workspace, "view_of", with_judge)
    shown = htmx_page_of(tmp_path)[1].get("/runs/routing-1/now").text
    assert "Go on with more items" not in shown
    assert ("40 labelled cases are needed" if needed else "the labels leave open") in shown.replace(
        "\u00a0", " "
    ).lower()
    assert 'href="/runs/routing-1/rate">Mark answers' in shown
    assert add(page, FRESH).status_code == 422
