"""One process a folder: locks that hold on every system and end with the process, however it ends."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from lastresort.errors import InputError
from lastresort.records.atomic import disk_errors

LOCK = "lock"


class Busy(Exception):
    """Another process holds the lock."""


@contextmanager
def held(folder: Path, found: str, *, expected: str, remedy: str) -> Iterator[None]:
    """Hold the folder, which is there; the hold ends with the process, however it ends.

    Raises InputError, in these words, where another process holds it, and as `locked` does.
    """
    with ExitStack() as stack:
        try:
            stack.enter_context(locked(folder / LOCK))
        except Busy:
            raise InputError(found, where=str(folder), expected=expected, remedy=remedy) from None
        yield


@contextmanager
def locked(path: Path, *, wait: bool = False) -> Iterator[None]:
    """Hold the lock at `path`, an empty file that is made where there is none; the hold ends with the process.

    wait: until whoever holds it lets go. Raises Busy where somebody does and `wait` is False, InputError for another file in the
    lock's place, InfrastructureError where the disk refuses.
    """
    _refuse_other_file(path)
    lock = FileLock(path, timeout=-1 if wait else 0)
    with disk_errors(path.parent):
        try:
            lock.acquire()
        except Timeout:
            raise Busy from None
    try:
        yield
    finally:
        lock.release()


def _refuse_other_file(path: Path) -> None:
    """Older versions of filelock follow a link and empty the file that they lock."""
    if path.is_symlink() or path.is_dir():
        found = "found a link" if path.is_symlink() else "found a folder"
    elif path.exists() and path.stat().st_size:
        found = "found a file with content"
    else:
        return
    raise InputError(found, where=str(path), expected="an empty lock file, or none", remedy="Move it away.")
