"""One process a folder."""

from __future__ import annotations

import fcntl
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from lastresort.errors import InputError
from lastresort.records.atomic import disk_errors

LOCK = "lock"


@contextmanager
def held(folder: Path, found: str, *, expected: str, remedy: str) -> Iterator[None]:
    """Hold the folder, which is there; the hold ends with the process, however it ends.

    Raises InputError, in these words, where another process holds it.
    """
    with disk_errors(folder):
        lock = (folder / LOCK).open("w")
    with lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise InputError(found, where=str(folder), expected=expected, remedy=remedy) from None
        yield
