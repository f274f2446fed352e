"""Climbs and trainings as processes of their own: they outlive the page, and the page outlives them."""

from __future__ import annotations

import subprocess
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from lastresort.errors import InputError
from lastresort.foreign import escaped
from lastresort.keys import without_keys
from lastresort.stop import FILE_NAME as STOP
from lastresort.ui.processes import open_log, start_process
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


def start(job: Command, reaches: Sequence[str] = ()) -> subprocess.Popen[bytes]:
    """Start it. It goes on when the page ends. reaches: as in `start_process`."""
    with open_log(job.log, "ab") as log:
        process = start_process(
            job.arguments, folder=job.folder, out=log, faults=subprocess.STDOUT, bound=False, reaches=reaches
        )
    threading.Thread(target=process.wait, name="job", daemon=True).start()  # so that it does not stay as a zombie
    return process


def climb_job(runs: Path, run: Path, arguments: Sequence[str]) -> Command:
    """The climb of a run. Tasks name their files from their own folder, so that it may start in that of the runs."""
    return Command(("climb", *arguments), runs.parent, runs / LOGS / f"{run.name}.log")


def ask_to_stop(run: Path) -> None:
    """The run ends at its next check, wherever its process runs."""
    (run / STOP).touch()


def withdraw_stop(run: Path) -> None:
    (run / STOP).unlink(missing_ok=True)


def last_words(runs: Path, run: Path, since: datetime | None = None) -> tuple[str, ...]:
    """The last lines that its process printed, where the page started it. since: when its record last changed; what was printed
    before that says nothing of its end, and may be another process's.
    """
    path = runs / LOGS / f"{run.name}.log"
    if since is not None and path.is_file() and path.stat().st_mtime < since.timestamp():
        return ()
    return words_in(path)


def words_in(path: Path) -> tuple[str, ...]:
    if path.is_symlink() or not path.is_file():
        return ()
    try:
        with path.open("rb") as file:
            file.seek(max(0, path.stat().st_size - _MOST_BYTES))
            text = file.read(_MOST_BYTES).decode("utf-8", "replace")
    except OSError as error:
        raise InputError(f"cannot be read ({error.strerror})", where=str(path)) from error
    lines = [line.rstrip() for line in escaped(without_keys(text)).splitlines()]
    return tuple(line for line in lines if line)[-LAST_WORDS:]
