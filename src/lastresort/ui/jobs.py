"""Climbs and trainings as processes of their own: they outlive the page, and the page outlives them."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
import threading
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from pydantic import ValidationError

from lastresort.app.child_environment import places_of
from lastresort.app.runtime import ERROR_FILE, JOB_FOLDER, JOB_PID
from lastresort.errors import InputError
from lastresort.foreign import escaped, read_text
from lastresort.keys import without_keys
from lastresort.records.atomic import disk_errors, is_running
from lastresort.stop import FILE_NAME as STOP
from lastresort.ui.processes import PrintedError, link_to, open_log, start_process
from lastresort.ui.workspace import HIDDEN

LAST_WORDS = 12  # lines
_MOST_BYTES = 16_384
LOGS = f"{HIDDEN}/jobs"  # below the folder of the runs


@dataclass(frozen=True, slots=True)
class Command:
    """What a process does. log: gets all that it prints; the newest is read again for its last words."""

    arguments: tuple[str, ...]
    folder: Path
    log: Path

    @property
    def error(self) -> Path:
        """The file that gets its error, if it ends with one."""
        return error_of(self.log)


def error_of(log: Path) -> Path:
    return log.with_suffix(".error.json")


def start(job: Command, reaches: Sequence[str] = ()) -> subprocess.Popen[bytes]:
    """Start it. It goes on when the page ends. reaches: as in `start_process`."""
    remove_left_over()
    with disk_errors(Path(tempfile.gettempdir())):
        own = Path(tempfile.mkdtemp(prefix=JOB_FOLDER))
    try:
        with open_log(job.log, "ab") as log:
            job.error.unlink(missing_ok=True)
            process = start_process(
                job.arguments, folder=job.folder, out=log, faults=subprocess.STDOUT, bound=False, reaches=reaches,
                more={**places_of(own, os.environ), ERROR_FILE: str(job.error.absolute())},
            )  # fmt: skip
        (own / JOB_PID).write_text(str(process.pid), "ascii")
    except BaseException:
        shutil.rmtree(own, ignore_errors=True)
        raise
    threading.Thread(target=_end, args=(process, own), name="job", daemon=True).start()
    return process


def _end(process: subprocess.Popen[bytes], own: Path) -> None:
    process.wait()  # so that it does not stay as a zombie
    shutil.rmtree(own, ignore_errors=True)


def remove_left_over() -> None:
    """Remove the folders of jobs that ended after their page did, and could not remove them (on Windows, or killed with it)."""
    for own in Path(tempfile.gettempdir()).glob(f"{JOB_FOLDER}*"):
        with suppress(OSError, ValueError):
            if not is_running(int((own / JOB_PID).read_text("ascii"))):
                shutil.rmtree(own, ignore_errors=True)


def climb_job(runs: Path, run: Path, arguments: Sequence[str]) -> Command:
    """The climb of a run. Tasks name their files from their own folder, so that it may start in that of the runs."""
    return Command(("climb", *arguments), runs.parent, runs / LOGS / f"{run.name}.log")


def ask_to_stop(run: Path) -> None:
    """The run ends at its next check, wherever its process runs."""
    (run / STOP).touch()


def withdraw_stop(run: Path) -> None:
    (run / STOP).unlink(missing_ok=True)


def last_words(runs: Path, run: Path, since: datetime | None = None, *, after_bytes: int = 0) -> tuple[str, ...]:
    """The last lines that its process printed, where the page started it. since: when its record last changed; what was printed
    before that says nothing of its end, and may be another process's. after_bytes: as in `words_in`.
    """
    path = runs / LOGS / f"{run.name}.log"
    if since is not None and path.is_file() and path.stat().st_mtime < since.timestamp():
        return ()
    return words_in(path, after_bytes)


def last_error(runs: Path, run: Path) -> str:
    """What ended the last process that the page started for a run, "" where nothing says so."""
    path = error_of(runs / LOGS / f"{run.name}.log")
    if link_to(path) is not None or not path.is_file():
        return ""
    with suppress(InputError, ValidationError):
        return escaped(PrintedError.model_validate_json(read_text(path)).error)
    return ""


def words_in(path: Path, after_bytes: int = 0) -> tuple[str, ...]:
    """The last lines of a log. after_bytes: of these, which an earlier process wrote, none."""
    if link_to(path) is not None or not path.is_file():
        return ()
    try:
        with path.open("rb") as file:
            file.seek(max(after_bytes, path.stat().st_size - _MOST_BYTES))
            text = file.read(_MOST_BYTES).decode("utf-8", "replace")
    except OSError as error:
        raise InputError(f"cannot be read ({error.strerror})", where=str(path)) from error
    lines = [line.rstrip() for line in escaped(without_keys(text)).splitlines()]
    return tuple(line for line in lines if line)[-LAST_WORDS:]
