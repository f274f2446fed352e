"""A page that starts again reads quickly what an earlier one found whole, and notices whatever changed since."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from lastresort.records import record as record_module
from lastresort.records.record import FILE_NAME, Record
from lastresort.ui.workspace import Workspace
from record_support import edit
from ui_support import finished_run, page_of, served_page, until


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "cache"
    monkeypatch.setenv("LASTRESORT_CACHE", str(folder))
    return folder


def test_a_record_that_was_checked_is_not_checked_by_the_next_page(
    tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    finished_run(tmp_path)
    before = Workspace(tmp_path).state("routing-1")
    monkeypatch.setattr(record_module, "changes", lambda connection: pytest.fail("checked again"))
    assert Workspace(tmp_path).state("routing-1") == before
    assert before.view is not None


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
    finished_run(tmp_path)
    with served_page(tmp_path):
        until(lambda: any((cache / "checked").glob("*")), "the record is checked")


def test_what_is_prepared_is_not_read_again_for_the_first_request(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    finished_run(tmp_path)
    site, client = page_of(tmp_path)
    site.prepare()
    monkeypatch.setattr(Record, "open", lambda *arguments, **more: pytest.fail("read again"))
    assert "routing-1" in client.get("/").text


def test_a_link_among_the_runs_hides_none_of_them(tmp_path: Path) -> None:
    run = finished_run(tmp_path)
    (run.parent / "linked-1").symlink_to(run)
    _, client = page_of(tmp_path)
    text = client.get("/").text
    assert "routing-1" in text
    assert "linked-1" not in text
