"""Processes of lastresort that the page starts: what each gets of its environment, where its words go, and with what it ends."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO, BinaryIO, Literal

from lastresort.app.child_environment import environment
from lastresort.errors import InputError
from lastresort.records.document import JsonDocument


class PrintedError(JsonDocument):
    """What `app.terminal.print_error` gives a page."""

    error: str


_NO_LINK = os.O_NOFOLLOW if os.name == "posix" else 0
# Ends when its standard input does, so with the page however that ends, and gives what it starts none of it.
BOUND = """
import os, signal, sys, threading
page = os.dup(0)
os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
def watch():
    os.read(page, 1)
    os.kill(os.getpid(), signal.SIGTERM)
threading.Thread(target=watch, daemon=True).start()
from lastresort.cli.main import run
run()
"""


def start_process(
    arguments: Sequence[str],
    *,
    folder: Path,
    out: IO[bytes] | int,
    faults: IO[bytes] | int,
    bound: bool,
    reaches: Sequence[str] = (),
    more: Mapping[str, str] | None = None,
) -> subprocess.Popen[bytes]:
    """Start `lastresort` with these arguments in this folder.

    bound: whether it ends with the page, whose standard input it never reads. reaches: what keys it gets, see
    `environment`. more: variables of its own.
    """
    return subprocess.Popen(
        # -P: the folder may be somebody else's, and no module of it is ours
        [sys.executable, "-P", *(("-c", BOUND) if bound else ("-m", "lastresort")), *arguments],
        cwd=folder,
        env={**environment(os.environ, reaches), **(more or {})},
        stdin=subprocess.PIPE if bound else subprocess.DEVNULL,
        stdout=out,
        stderr=faults,
        start_new_session=True,
    )


def link_to(log: Path) -> Path | None:
    """A link that stands in the way of a log: a workspace may be somebody else's."""
    return next((one for one in (*reversed(log.parents[:3]), log) if one.is_symlink()), None)  # runs, .lastresort, jobs


def open_log(path: Path, mode: Literal["ab", "wb"]) -> BinaryIO:
    """A log to write. Raises InputError where a link stands in its way."""
    link = link_to(path)
    if link is not None:
        raise InputError("found a link", where=str(link), expected="what lastresort made", remedy="Remove it.")
    path.parent.mkdir(parents=True, exist_ok=True)
    how = os.O_WRONLY | os.O_CREAT | (os.O_APPEND if mode == "ab" else os.O_TRUNC)
    try:
        return os.fdopen(os.open(path, how | _NO_LINK, 0o600), mode)
    except OSError as error:
        raise InputError(f"cannot be written ({error.strerror})", where=str(path)) from error
