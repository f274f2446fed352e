"""Climbs and trainings as processes of their own: they outlive the page, and the page outlives them."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Literal

from lastresort.errors import InputError
from lastresort.foreign import escaped
from lastresort.keys import without_keys
from lastresort.stop import FILE_NAME as STOP
from lastresort.ui.workspace import HIDDEN

LAST_WORDS = 12  # lines
_MOST_BYTES = 16_384
LOGS = f"{HIDDEN}/jobs"  # below the folder of the runs
_NO_LINK = os.O_NOFOLLOW if os.name == "posix" else 0
_SECRET = re.compile(
    r"secret|password|passwd|passphrase|credential|tokens?(?![a-z])|(?<![a-z])(api)?(keys?|pass|pat)(?![a-z])",
    re.IGNORECASE,
)
_ALWAYS = {
    "HF_TOKEN",
    "HF_TOKEN_PATH",
    "HUGGING_FACE_HUB_TOKEN",
}  # for a base model that is not open to all; they reach no endpoint


@dataclass(frozen=True, slots=True)
class Command:
    """What a process does. log: gets all that it prints; the newest is read again for its last words."""

    arguments: tuple[str, ...]
    folder: Path
    log: Path


def start(job: Command, *, with_keys: bool = False) -> subprocess.Popen[bytes]:
    """Start `lastresort` with these arguments. It reads nothing from the page's standard input, and goes on when the page ends.

    with_keys: whether it may see the keys in this environment, as it must to reach an endpoint.
    """
    with open_log(job.log, "ab") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "lastresort", *job.arguments],
            cwd=job.folder,
            env=environment(os.environ, with_keys=with_keys),
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    threading.Thread(target=process.wait, name="job", daemon=True).start()  # so that it does not stay as a zombie
    return process


def environment(own: Mapping[str, str], *, with_keys: bool) -> dict[str, str]:
    """What a process gets of the page's own environment: without keys, nothing whose name says that it is one."""
    return {name: value for name, value in own.items() if with_keys or name in _ALWAYS or not _SECRET.search(name)}


def open_log(path: Path, mode: Literal["ab", "wb"]) -> BinaryIO:
    """A log to write. Raises InputError where a link stands in its way: a workspace may be somebody else's."""
    links = [one for one in (*reversed(path.parents[:3]), path) if one.is_symlink()]  # runs, .lastresort, jobs
    if links:
        raise InputError("found a link", where=str(links[0]), expected="what lastresort made", remedy="Remove it.")
    path.parent.mkdir(parents=True, exist_ok=True)
    how = os.O_WRONLY | os.O_CREAT | (os.O_APPEND if mode == "ab" else os.O_TRUNC)
    try:
        return os.fdopen(os.open(path, how | _NO_LINK, 0o600), mode)
    except OSError as error:
        raise InputError(f"cannot be written ({error.strerror})", where=str(path)) from error


def climb_job(runs: Path, run: Path, arguments: Sequence[str]) -> Command:
    """The climb of a run. Tasks name their files from their own folder, so that it may start in that of the runs."""
    return Command(("climb", *arguments), runs.parent, runs / LOGS / f"{run.name}.log")


def ask_to_stop(run: Path) -> None:
    """The run ends at its next check, wherever its process runs."""
    (run / STOP).touch()


def withdraw_stop(run: Path) -> None:
    (run / STOP).unlink(missing_ok=True)


def last_words(runs: Path, run: Path) -> tuple[str, ...]:
    """The last lines that its process printed, where the page started it; else of the run's own log."""
    for path in (runs / LOGS / f"{run.name}.log", run / "log.txt"):
        if lines := words_in(path):
            return lines
    return ()


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
