"""On the page, a test that ended UNDECIDED goes on with uploaded items, or says why it does not."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import httpx
import pytest
from starlette.testclient import TestClient

from climb_support import rows, scripted_task
from lastresort.app.climb import climb
from lastresort.records.atomic import held
from lastresort.records.events import ItemsAdded
from lastresort.records.record import Record
from lastresort.spec.task import load_task
from lastresort.ui.workspace import Workspace
from ui_support import change_task, finished_run, htmx_page_of, recorded_starts, until

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


@pytest.mark.parametrize(
    ("found", "says"),
    [
        (rows(260)[:60], "found the input of"),
        (FRESH[:2], "decide nothing, even if all are right or all are wrong"),
        ([{"input": "words", "output": "nobody"}], "found an output that is not among the choices"),
    ],
    ids=["known", "few", "invalid"],
)
def test_items_that_a_terminal_refuses_are_refused_alike(
    page: TestClient, tmp_path: Path, found: list[dict[str, Any]], says: str
) -> None:
    """The run is as it was, and the file is gone."""
    refused = add(page, found)
    assert refused.status_code == 422
    assert says in refused.text
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
