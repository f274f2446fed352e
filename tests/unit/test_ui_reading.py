"""Records are read no oftener than they change, and a page that starts again notices whatever changed meanwhile."""

from __future__ import annotations

import os
import shutil
import time
from pathlib import Path

import pytest

from lastresort.errors import DataError
from lastresort.records import record as record_module
from lastresort.records.atomic import held
from lastresort.records.events import ClimbResumed, Stage
from lastresort.records.record import FILE_NAME, Record
from lastresort.records.view import fold_of
from lastresort.ui import workspace as workspace_module
from lastresort.ui.workspace import FRESH_S, Workspace, signature
from record_support import edit
from ui_support import finished_run, page_of, served_page, until


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Of a user whose runs ended some time ago."""
    folder = tmp_path / "cache"
    monkeypatch.setenv("LASTRESORT_CACHE", str(folder))
    monkeypatch.setattr(workspace_module, "FRESH_S", 0.0)
    return folder


def test_a_record_that_was_checked_is_not_checked_by_the_next_page(
    tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    finished_run(tmp_path)
    before = Workspace(tmp_path).state("routing-1")
    monkeypatch.setattr(record_module, "changes", lambda connection: pytest.fail("checked again"))
    assert Workspace(tmp_path).state("routing-1") == before
    assert before.view is not None


def test_a_record_taken_as_whole_is_checked_in_the_background_and_what_is_found_is_shown(
    tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither size nor times show what a bad disk changed, nor what was written through mapped memory."""
    run = finished_run(tmp_path)
    at = signature(run)
    monkeypatch.setattr(workspace_module, "signature", lambda folder: at)
    assert Workspace(tmp_path).state("routing-1").fault == ""
    edit(run, "UPDATE item SET score = 1 - score WHERE position = 0")
    workspace = Workspace(tmp_path)
    assert workspace.state("routing-1").fault == ""
    first = workspace.mark("routing-1")
    workspace.read_ahead()
    assert "was changed" in workspace.state("routing-1").fault
    assert workspace.mark("routing-1") != first  # a page that is open is drawn again
    with pytest.raises(DataError, match="was changed"):
        workspace.record("routing-1")
    assert "was changed" in Workspace(tmp_path).state("routing-1").fault  # nor is it taken as whole again


def test_what_was_found_of_a_record_is_not_kept_where_a_change_would_leave_its_time(
    tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The clock of a disk may be as coarse as that, and what is kept of folders that are gone goes."""
    monkeypatch.setattr(workspace_module, "FRESH_S", 1000.0)
    finished_run(tmp_path)
    gone, known = cache / "checked" / "gone", cache / "checked" / "known"
    gone.parent.mkdir(parents=True)
    for path in (gone, known):
        path.write_text("1")
    os.utime(gone, (0, 0))
    Workspace(tmp_path).read_ahead()
    assert list((cache / "checked").iterdir()) == [known]


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


def test_a_change_that_hides_its_time_and_its_size_is_noticed_by_the_next_page(tmp_path: Path, cache: Path) -> None:
    path = finished_run(tmp_path) / FILE_NAME
    assert Workspace(tmp_path).state("routing-1").fault == ""
    before = path.stat()
    edit(path.parent, "UPDATE item SET score = 1 - score WHERE position = 0")
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert path.stat().st_size == before.st_size
    assert "was changed" in Workspace(tmp_path).state("routing-1").fault


def test_what_was_checked_says_nothing_of_a_copy_or_of_another_record(tmp_path: Path, cache: Path) -> None:
    run = finished_run(tmp_path)
    assert Workspace(tmp_path).state("routing-1").fault == ""
    shutil.copytree(run, run.with_name("routing-2"))
    edit(run.with_name("routing-2"), "UPDATE item SET score = 1 - score WHERE position = 0")
    assert "was changed" in Workspace(tmp_path).state("routing-2").fault
    shutil.copy2(run.with_name("routing-2") / FILE_NAME, run / FILE_NAME)
    assert "was changed" in Workspace(tmp_path).state("routing-1").fault


def test_a_record_that_was_changed_is_never_kept_as_whole(tmp_path: Path, cache: Path) -> None:
    edit(finished_run(tmp_path), "UPDATE item SET score = 1 - score WHERE position = 0")
    for _ in range(2):
        assert "was changed" in Workspace(tmp_path).state("routing-1").fault


def test_a_cache_that_cannot_be_written_only_costs_time(tmp_path: Path, cache: Path) -> None:
    finished_run(tmp_path)
    cache.write_text("no folder")
    for _ in range(2):
        assert Workspace(tmp_path).state("routing-1").fault == ""


def test_a_page_reads_its_runs_before_anybody_asks(tmp_path: Path, cache: Path) -> None:
    run = finished_run(tmp_path)
    until(lambda: time.time() - (run / FILE_NAME).stat().st_ctime > FRESH_S, "its time shows every change")
    with served_page(tmp_path):
        until(lambda: any((cache / "checked").glob("*")), "the record is checked")


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
