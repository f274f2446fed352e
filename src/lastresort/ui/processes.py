"""Processes of lastresort that the page starts: what each gets of its environment, where its words go, and with what it ends."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO, BinaryIO, Literal

from lastresort.errors import InputError

_SECRET = re.compile(
    r"secret|password|passwd|passphrase|credential|tokens?(?![a-z])|(?<![a-z])(api)?(keys?|pass|pat)(?![a-z])",
    re.IGNORECASE,
)
_ALWAYS = {
    "HF_TOKEN",
    "HF_TOKEN_PATH",
    "HUGGING_FACE_HUB_TOKEN",
}  # for a base model that is not open to all; they reach no endpoint
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
    with_keys: bool = False,
    more: Mapping[str, str] | None = None,
) -> subprocess.Popen[bytes]:
    """Start `lastresort` with these arguments in this folder.

    bound: whether it ends with the page, whose standard input it never reads. with_keys: whether it may see the keys in the page's
    environment, as it must to reach an endpoint. more: variables of its own.
    """
    return subprocess.Popen(
        # -P: the folder may be somebody else's, and no module of it is ours
        [sys.executable, "-P", *(("-c", BOUND) if bound else ("-m", "lastresort")), *arguments],
        cwd=folder,
        env={**environment(os.environ, with_keys=with_keys), **(more or {})},
        stdin=subprocess.PIPE if bound else subprocess.DEVNULL,
        stdout=out,
        stderr=faults,
        start_new_session=True,
    )


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
