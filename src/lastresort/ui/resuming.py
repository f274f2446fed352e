"""Runs that go on from the page, alone or with uploaded items: one process at a time, and no file goes that a record names."""

from __future__ import annotations

import subprocess
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import BinaryIO

from lastresort.app.init import free_path
from lastresort.app.kept import writing
from lastresort.app.runs import has_items
from lastresort.errors import InputError, LastresortError
from lastresort.records.atomic import disk_errors, is_held
from lastresort.ui import jobs
from lastresort.ui.drafts import file_name_of, write_upload
from lastresort.ui.workspace import FRESH, NotThere, RunState, Workspace

SILENT = "the process ended before it read the items, and said nothing"
START_S = 15.0  # longer than that nobody waits for a page


@dataclass(frozen=True, slots=True)
class Resumption:
    """A process that takes up a run. fresh: the items that it adds. changed: when the record had last changed before. log_bytes: of
    the log before; what follows in it was printed by this process.
    """

    process: subprocess.Popen[bytes]
    fresh: Path | None
    changed: datetime | None
    log_bytes: int

    @property
    def works(self) -> bool:
        return self.process.poll() is None


class Resumptions(dict[str, Resumption]):
    """The last of each run that was resumed here, by run."""

    def is_starting(self, found: RunState) -> bool:
        """Whether a process was started for the run that has written nothing yet."""
        own = self._unheard(found)
        return own is not None and own.works

    def has_failed(self, found: RunState) -> bool:
        """Whether the process that was started last has failed before it wrote anything."""
        own = self._unheard(found)
        return own is not None and bool(own.process.poll())

    def _unheard(self, found: RunState) -> Resumption | None:
        own = self.get(found.name)
        return own if own is not None and found.state != "running" and own.changed == found.changed else None


def items_folder(run: Path) -> Path:
    """Where a run keeps its uploaded items; it may not be there yet. Raises InputError for a link, which leads elsewhere, and for a
    file of this name.
    """
    folder = run / FRESH
    if folder.is_symlink() or (folder.exists() and not folder.is_dir()):
        found = "a link" if folder.is_symlink() else "a file"
        raise InputError(
            f"found {found}", where=f"{run.name}/{FRESH}", expected="a folder, or none", remedy="Move it away."
        )
    return folder


def keep_items(run: Path, given_name: str, file: BinaryIO) -> Path:
    """Write uploaded items into the run. Raises as `items_folder`, `file_name_of` and `write_upload` do."""
    folder, (stem, suffix) = items_folder(run), file_name_of(given_name)
    with writing(folder), disk_errors(folder):
        folder.mkdir(exist_ok=True)
        return write_upload(folder, free_path(folder, stem, suffix).name, file)


def kept_items(run: Path, name: str) -> Path:
    """The file of items of this name that a run keeps. Raises NotThere, and as `items_folder` does."""
    path = items_folder(run) / name
    if path.name != name or path.is_symlink() or not path.is_file():
        raise NotThere("This run holds no such file of fresh items.")
    return path


def remove_refused(run: Path, path: Path) -> None:
    """Remove uploaded items that the run did not take. What its record names stays, by its path or its content."""
    if not has_items(run, path, by_content=True):
        path.unlink(missing_ok=True)


def remove_once_refused(run: Path, own: Resumption) -> None:
    """Remove the items of a process that still reads them, should it end without having added them."""

    def remove(fresh: Path) -> None:
        own.process.wait()
        with suppress(LastresortError):
            remove_refused(run, fresh)

    if own.fresh is not None and own.works and not has_items(run, own.fresh):
        threading.Thread(target=remove, args=(own.fresh,), name="refused-items", daemon=True).start()


def start(
    workspace: Workspace, found: RunState, arguments: Sequence[str], reaches: Sequence[str], fresh: Path | None
) -> Resumption:
    """Start the process that takes up a run. arguments: of `climb`. reaches: as in `jobs.start`."""
    run = workspace.run(found.name)
    more = () if fresh is None else ("--more", str(fresh))
    job = jobs.climb_job(workspace.runs, run, (*arguments, *more))
    jobs.withdraw_stop(run)
    size = job.log.stat().st_size if job.log.is_file() else 0
    return Resumption(jobs.start(job, reaches), fresh, found.changed, size)


def wait_until_taken_up(workspace: Workspace, name: str, own: Resumption) -> None:
    """Until the process is at work, or has added its items to the record, or has ended, or START_S is over.

    Raises InputError, in the words of the process, where it ended without adding its items.
    """
    run, fresh = workspace.run(name), own.fresh
    if fresh is None or has_items(run, fresh):
        _wait(own.process, lambda: is_held(run))
        return
    if _wait(own.process, lambda: has_items(run, fresh)) or not own.process.poll():
        return
    words = jobs.last_words(workspace.runs, run, after_bytes=own.log_bytes)
    said = jobs.last_error(workspace.runs, run) or (words[-1] if words else SILENT)
    raise InputError(said.replace(str(fresh), fresh.name).replace(f"{workspace.folder}/", "").rstrip("."))


def _wait(process: subprocess.Popen[bytes], is_so: Callable[[], bool]) -> bool:
    """Until it is so, the process has ended, or START_S is over; returns whether it was so."""
    end = time.monotonic() + START_S
    while time.monotonic() < end:
        ended = process.poll() is not None  # before the look, which then finds what the process did at its end
        if is_so():
            return True
        if ended:
            return False
        time.sleep(0.1)
    return False
