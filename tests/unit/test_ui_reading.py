"""Records are read no oftener than they change, and a page that starts again notices whatever changed meanwhile."""

from __future__ import annotations

import shutil
import sqlite3
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path

import httpx
import pytest

from lastresort.errors import DataError
from lastresort.records import record_file
from lastresort.records.atomic import held
from lastresort.records.chain import SOURCES, Changed, Table, changes
from lastresort.records.events.base import Stage
from lastresort.records.events.run import ClimbResumed
from lastresort.records.record import Record
from lastresort.records.view import fold_of
from lastresort.ui import workspace as workspace_module
from lastresort.ui.start import serve_page
from lastresort.ui.workspace import Workspace
from record_support import edit
from ui_support import finished_run, page_of, served_page, until


def checked_tables(monkeypatch: pytest.MonkeyPatch) -> list[Sequence[str]]:
    """While the test lasts: of each check of a record what it covers."""
    found = list[Sequence[str]]()

    def seen(connection: sqlite3.Connection, sources: Sequence[Table] = SOURCES) -> Iterator[Changed]:
        found.append(sources)
        return changes(connection, sources)

    monkeypatch.setattr(record_file, "changes", seen)
    return found


def test_a_page_that_starts_waits_for_the_check_of_events_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Most of a record are its answers, and each is read and hashed for the check: ten times the rest of a long run."""
    run = finished_run(tmp_path)
    checked, workspace = checked_tables(monkeypatch), Workspace(tmp_path, checks_later=True)
    workspace.read_ahead()
    assert workspace.state("routing-1").view is not None
    assert checked == [("event",)]
    workspace.check_next()
    assert checked == [("event",), SOURCES]
    with Record.open(run) as record:
        checked.clear()
        for stage in ("testing", "deciding"):
            record.now(Stage(label=stage))
            workspace.state("routing-1")
        for _ in tuple(checked):
            workspace.check_next()
    assert checked.count(SOURCES) == 1, "not again for every time that it was read"
    edit(run, "UPDATE event SET key = 'x' WHERE id = 2")
    assert "was changed" in workspace.state("routing-1").fault, "at once"


def test_answers_are_checked_in_the_background_and_what_is_found_is_shown(tmp_path: Path) -> None:
    run = finished_run(tmp_path)
    edit(run, "UPDATE item SET score = 1 - score WHERE position = 0")
    assert "was changed" in Workspace(tmp_path).state("routing-1").fault
    workspace = Workspace(tmp_path, checks_later=True)
    assert workspace.state("routing-1").fault == ""
    first = workspace.mark("routing-1")
    workspace.check_next()
    assert "was changed" in workspace.state("routing-1").fault
    assert workspace.mark("routing-1") != first  # a page that is open is drawn again
    with pytest.raises(DataError, match="was changed"):
        workspace.record("routing-1")


@pytest.mark.sampled(4)
@pytest.mark.parametrize(
    "at", ["/items", "/items?system=zero-shot", "/items/1/0", "/items/labels", "/items/gate", "/rate"]
)
def test_a_page_that_shows_answers_notices_that_they_were_changed(tmp_path: Path, at: str) -> None:
    """An open page asks whether they are still as they were recorded, and is loaded again where they are not."""
    run = finished_run(tmp_path)
    edit(run, "UPDATE item SET score = 1 - score WHERE position = 0")
    site, page = page_of(tmp_path)
    site.workspace.checks_later = True
    url, asks = f"/runs/routing-1{at}", "/answers?of=routing-1"
    shown = page.get(url)
    assert (shown.status_code, f'hx-get="{asks}"' in shown.text) == (200, True)
    line = page.get(asks)
    assert ("Checking the answers." in line.text, "hx-refresh" in line.headers) == (True, False)
    mark = page.get("/answers/mark?of=routing-1").text
    assert (mark.startswith("running"), f'data-mark="{mark}"' in line.text) == (True, True)
    site.workspace.check_next()
    assert page.get("/answers/mark?of=routing-1").text != mark
    assert page.get(asks).headers["hx-refresh"] == "true"
    again = page.get(url)
    assert "was changed" in again.text
    assert asks not in again.text, "else it is loaded again and again"


def test_runs_that_are_compared_are_followed_as_far_as_they_can_be_read(tmp_path: Path) -> None:
    run = finished_run(tmp_path)
    shutil.copytree(run, run.with_name("routing-2"))
    edit(run, "UPDATE item SET score = 1 - score WHERE position = 0")
    site, page = page_of(tmp_path)
    site.workspace.checks_later = True
    url = "/compare?run=routing-1&run=routing-2"
    assert 'hx-get="/answers?of=routing-1&amp;of=routing-2"' in page.get(url).text
    site.workspace.check_next()
    site.workspace.check_next()
    assert page.get("/answers?of=routing-1&of=routing-2").headers["hx-refresh"] == "true"
    again = page.get(url).text
    assert ("was changed" in again, 'hx-get="/answers?of=routing-2"' in again) == (True, True)


def test_a_page_says_that_answers_are_checked(tmp_path: Path) -> None:
    finished_run(tmp_path)
    site, page = page_of(tmp_path)
    site.workspace.checks_later = True
    assert "Checking the answers." in page.get("/answers?of=routing-1").text
    site.workspace.check_next()
    line = page.get("/answers?of=routing-1").text
    assert ("Answers checked." in line, 'data-mark="idle' in line) == (True, True)


def test_a_check_that_a_disk_broke_off_says_so_and_is_made_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    finished_run(tmp_path)
    site, page = page_of(tmp_path)
    now_s = [0.0]
    site.workspace.checks_later, site.workspace.clock = True, lambda: now_s[0]
    shown, asks = "/answers?of=routing-1", "/answers/mark?of=routing-1"
    assert "Checking the answers." in page.get(shown).text
    mark = page.get(asks).text
    with monkeypatch.context() as broken:
        broken.setattr(workspace_module, "signature", lambda folder: (_ for _ in ()).throw(OSError(5, "I/O error")))
        site.workspace.check_next()
    assert page.get(asks).text != mark, "an open page is drawn again"
    assert "could not be checked" in page.get(shown).text
    now_s[0] = workspace_module.AGAIN_S
    assert "Checking the answers." in page.get(shown).text
    site.workspace.check_next()
    assert "Answers checked." in page.get(shown).text


def test_a_run_that_cannot_be_looked_at_hides_no_other(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = finished_run(tmp_path)
    shutil.copytree(run, run.with_name("routing-2"))
    at = workspace_module.is_held

    def fails(folder: Path) -> bool:
        if folder.name == "routing-1":
            raise OSError(5, "Input/output error")
        return at(folder)

    monkeypatch.setattr(workspace_module, "is_held", fails)
    workspace = Workspace(tmp_path, checks_later=True)
    workspace.read_ahead()
    assert [state.name for state in workspace.states()] == ["routing-2"]


def test_a_record_at_work_is_read_again_only_once_it_has_changed(tmp_path: Path) -> None:
    """Its log has content then, which SQLite touches whenever somebody reads it."""
    run = finished_run(tmp_path)
    workspace = Workspace(tmp_path)
    with Record.open(run) as record:
        record.now(Stage(label="testing"))
        before = workspace.state("routing-1")
        assert workspace.state("routing-1") is before
        record.append(ClimbResumed())
        assert workspace.state("routing-1") is not before


def test_of_a_run_at_work_only_the_stage_is_read_while_no_event_comes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run, folds = finished_run(tmp_path), list[Record]()
    monkeypatch.setattr(workspace_module, "fold_of", lambda record: folds.append(record) or fold_of(record))
    workspace = Workspace(tmp_path)
    with held(run, "somebody works on it", expected="nobody", remedy="Wait."), Record.open(run) as record:
        for done in (1, 2):
            record.now(Stage(label=f"test {done}"))
            assert workspace.state("routing-1").stage == Stage(label=f"test {done}")
        assert len(folds) == 1
        record.append(ClimbResumed())
        assert workspace.state("routing-1").extent == record.newest()
        assert len(folds) == 2
    assert workspace.state("routing-1").state == "finished"
    assert len(folds) == 3


@pytest.mark.sampled(2)
@pytest.mark.parametrize("ends", [True, False])
def test_the_link_is_there_once_the_runs_are_read_or_after_a_moment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ends: bool
) -> None:
    class Opened(Exception):
        pass

    done, never = list[str](), threading.Event()

    def read(workspace: Workspace) -> None:
        never.wait(0.2 if ends else None)
        done.append("read")

    def open_it(link: str) -> None:
        raise Opened(*done)

    monkeypatch.setattr(Workspace, "read_ahead", read)
    with pytest.raises(Opened) as opened:
        serve_page(tmp_path, "127.0.0.1", 0, on_ready=open_it)
    assert opened.value.args == (("read",) if ends else ())
    never.set()


@pytest.mark.slow
def test_the_process_of_a_page_checks_what_it_has_shown(tmp_path: Path) -> None:
    edit(finished_run(tmp_path), "UPDATE item SET score = 1 - score WHERE position = 0")
    with served_page(tmp_path) as (link, _):
        assert "was changed" not in httpx.get(f"{link}runs/routing-1").text
        until(lambda: "was changed" in httpx.get(f"{link}runs/routing-1").text, "its answers are checked")


def test_a_folder_of_runs_that_is_a_link_is_named(tmp_path: Path) -> None:
    finished_run(tmp_path / "elsewhere")
    (tmp_path / "runs").symlink_to(tmp_path / "elsewhere" / "runs")
    site, client = page_of(tmp_path)
    site.workspace.read_ahead()
    answer = client.get("/")
    assert (answer.status_code, "&#34;runs&#34; is a link" in answer.text) == (404, True)


def test_a_link_among_the_runs_hides_none_of_them(tmp_path: Path) -> None:
    run = finished_run(tmp_path)
    (run.parent / "linked-1").symlink_to(run)
    _, client = page_of(tmp_path)
    text = client.get("/").text
    assert "routing-1" in text
    assert "linked-1" not in text
