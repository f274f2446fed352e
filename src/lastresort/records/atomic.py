"""Files and folders that are either the old one or the new one, whenever the power goes.

One process a folder: locks that hold on every system and end with the process, however it ends.
"""

from __future__ import annotations

import errno
import os
import re
import secrets
import shutil
import sys
import threading
import time
from collections.abc import Collection, Iterator
from contextlib import ExitStack, contextmanager, suppress
from glob import escape
from pathlib import Path
from typing import BinaryIO

from filelock import FileLock, Timeout

from lastresort.errors import DiskError, InfrastructureError, InputError, LastresortError
from lastresort.foreign import printable
from lastresort.keys import without_keys

LOCK = "lock"
GRACE_S = 0.3
OWN_S = 24 * 3600.0  # a file that is written changes more often
_LOOKING = threading.Lock()


class LockHeld(Exception):
    """Another process holds the lock."""


@contextmanager
def held(folder: Path, found: str, *, expected: str, remedy: str) -> Iterator[None]:
    """Hold the folder, which is there; the hold ends with the process, however it ends.

    Raises InputError, in these words, where another process holds it, and as `locked` does.
    """
    with ExitStack() as stack:
        try:
            stack.enter_context(locked(folder / LOCK))
        except LockHeld:
            raise InputError(found, where=str(folder), expected=expected, remedy=remedy) from None
        yield


def is_held(folder: Path) -> bool:
    """Whether a process holds the folder. Whoever takes it waits for the moment that the look takes (GRACE_S).

    Nobody does where the lock is another file, or where nothing can be written.
    """
    path = folder / LOCK
    if not path.is_file() or _other_file(path) is not None:
        return False
    try:
        return _is_locked(path)
    except OSError:
        return False


def _is_locked(path: Path) -> bool:
    """Two that look at once do not see each other: the lock of a look is shared, that of an owner is not."""
    if sys.platform == "win32":
        # It shares no lock: another process that looks at this very moment is taken for an owner.
        with _LOOKING:
            return _is_locked_alone(path)
    import fcntl

    handle = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    try:
        fcntl.flock(handle, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError as error:
        if error.errno != errno.ENOSYS:
            raise
        return _is_locked_alone(path)
    finally:
        os.close(handle)
    return False


def _is_locked_alone(path: Path) -> bool:
    lock = FileLock(path, timeout=0)
    try:
        lock.acquire()
    except Timeout:
        return True
    lock.release()
    return False


@contextmanager
def locked(path: Path, *, wait_s: float = GRACE_S) -> Iterator[None]:
    """Hold the lock at `path`, an empty file that is made where there is none; the hold ends with the process.

    wait_s: for whoever holds it to let go, -1 without limit. Raises LockHeld where somebody still does then, InputError for
    another file in the lock's place, InfrastructureError where the disk refuses.
    """
    _refuse_other_file(path)
    lock = FileLock(path, timeout=wait_s)
    with disk_errors(path.parent):
        try:
            lock.acquire()
        except Timeout:
            raise LockHeld from None
    try:
        yield
    finally:
        lock.release()


def _refuse_other_file(path: Path) -> None:
    found = _other_file(path)
    if found is not None:
        raise InputError(found, where=str(path), expected="an empty lock file, or none", remedy="Move it away.")


def _other_file(path: Path) -> str | None:
    """What stands in the place of a lock. Older versions of filelock follow a link and empty the file that they lock."""
    if path.is_symlink():
        return "found a link"
    if not path.exists():
        return None
    if not path.is_file():
        return "found a folder" if path.is_dir() else "found something that is not a file"
    return "found a file with content" if path.stat().st_size else None


def check_new_folder(folder: Path, own: Collection[str] = ()) -> None:
    """Raises InputError unless a command may write this folder: it is new, empty, or holds files of its `own` alone.

    A link is refused, since it would be replaced and not what it leads to.
    """
    if folder.name in ("", ".."):
        raise InputError(f'found "{folder}"', expected="the name of a new or empty folder", remedy="Name one.")
    if folder.is_symlink():
        raise InputError("found a link", where=str(folder), expected="a folder", remedy="Name the folder itself.")
    if not folder.exists():
        return
    if not folder.is_dir():
        raise InputError("found a file", where=str(folder), expected="a new or empty folder", remedy="Name another.")
    others = sorted(path.name for path in folder.iterdir() if path.name not in own)
    if others:
        raise InputError(
            f"the folder holds something else ({printable(others[0])})",
            where=str(folder),
            expected=f"a new or empty folder{', or what the same command wrote' if own else ''}",
            remedy="Name another, or empty it.",
        )


def refuse_links_out(folder: Path) -> None:
    """Raises InputError for a link that leads out of a folder which is to be copied, since the copy would hold what it leads to,
    and for what is neither file nor folder.

    A snapshot in the cache of a hub links to the blobs of the same model.
    """
    top = Path(os.path.realpath(folder))
    top = top.parents[1] if top.parent.name == "snapshots" else top
    for place, folders, files in os.walk(folder):
        for path in (Path(place, name) for name in (*folders, *files)):
            target = Path(os.path.realpath(path))
            if path.is_symlink() and top not in target.parents:
                found = f"found a link to {printable(target)}"
            elif target.exists() and not (target.is_file() or target.is_dir()):
                found = "found something that is not a file"
            else:
                continue
            raise InputError(
                found,
                where=printable(path),
                expected="files of the folder itself",
                remedy="Copy the file into the folder, if it belongs there, or remove it.",
            )


FULL = {errno.ENOSPC, errno.EDQUOT}


def disk_error(error: OSError, path: Path) -> InfrastructureError:
    """The sentence for a disk that will not take what we write; a DiskError where it is full."""
    if error.errno in FULL:
        return DiskError(
            "the disk is full",
            where=str(path),
            remedy="Free some space; nothing finished is lost.",
        )
    return InfrastructureError(
        f"could not be written ({error.strerror or error})",
        where=str(path),
        remedy="Check the disk and the permissions of the folder.",
    )


@contextmanager
def disk_errors(path: Path) -> Iterator[None]:
    """Whatever the disk refuses inside, while `path` is written, becomes an InfrastructureError.

    The writer of safetensors, which is not Python, reports the disk by a type of its own that is no OSError; a copied folder
    reports its files together, their errors as text.
    """
    from safetensors import SafetensorError

    try:
        yield
    except (SafetensorError, shutil.Error) as error:
        number = re.search(r"(?:os error |\[Errno )(\d+)", str(error))
        code = int(number[1]) if number else errno.EIO
        raise disk_error(OSError(code, os.strerror(code)), path) from error
    except OSError as error:
        raise disk_error(error, path) from error


def write_atomically(path: Path, content: str | bytes, *, private: bool = False) -> None:
    """Replace the file by `content` (text as UTF-8): a reader finds the old or the new content, never a part.

    No key of the environment is written with a text: reports and records are shared.
    Half of a surrogate pair, which UTF-8 cannot hold and a file's name may, is written as JSON escapes it (\\udcff). private: for
    the user alone.

    Raises InfrastructureError when the disk is full or refuses; the old file is then untouched.
    """
    data = without_keys(content).encode(errors="backslashreplace") if isinstance(content, str) else content
    new = _unfinished(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        remove_left_over(path.parent, path.name)
        _write_through(new, data, private)
        new.replace(path)
        _sync_folder(path.parent)
    except OSError as error:
        with suppress(OSError):  # where the folder is a file, there is nothing to remove
            new.unlink()
        raise disk_error(error, path) from error


@contextmanager
def new_file(path: Path, *, private: bool = True) -> Iterator[BinaryIO]:
    """A file to write, which stands at `path` once it is whole and on the disk: never over another there.

    private: for the user alone. Raises FileExistsError where another is there, and OSError where the disk refuses.
    """
    if os.path.lexists(path):
        raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), str(path))
    new = _unfinished(path)
    try:
        with _made(new, private) as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        _place_new(new, path)
        _sync_folder(path.parent)
    finally:
        new.unlink(missing_ok=True)


@contextmanager
def new_folder(final: Path) -> Iterator[Path]:
    """A folder beside `final` to be filled, for the user alone, until `replace_folder` takes it; else it is removed, and so is what
    killed processes have left of theirs. Paths relative to it stay true when it moves.

    Raises InfrastructureError where the disk refuses to make it. What is wrong inside is named as it would lie in `final`.
    """
    new = _unfinished(final)
    with disk_errors(final):
        final.parent.mkdir(parents=True, exist_ok=True)
        remove_left_over(final.parent, final.name)
        new.mkdir(mode=0o700)
    try:
        yield new
    except LastresortError as error:
        raise error.elsewhere(error.where.replace(str(new), str(final))) from error
    finally:
        shutil.rmtree(new, ignore_errors=True)


def _place_new(new: Path, path: Path) -> None:
    try:
        os.link(new, path)
    except FileExistsError:
        raise
    except OSError:  # a disk without hard links
        if os.path.lexists(path):
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), str(path)) from None
        new.rename(path)


def _unfinished(path: Path) -> Path:
    """Of this one write: other threads write the same file at once, and processes of another container have equal numbers."""
    return path.with_name(f".{path.name}.{os.getpid()}.{secrets.token_hex(4)}.new")


def remove_left_over(folder: Path, name: str | None = None) -> None:
    """Remove what processes that were killed in the midst of writing have left in a folder: of the file `name`, None for any."""
    for new in folder.glob(f".{'*' if name is None else escape(name)}.*.*.new"):
        writer = new.name.split(".")[-3]
        if writer.isdecimal() and not _still_writes(int(writer), new):
            _remove(new)


def _still_writes(process: int, new: Path) -> bool:
    """Whether this process writes it cannot be seen: an earlier one may have had the same number, as in a container."""
    if process != os.getpid():
        return is_running(process)
    with suppress(OSError):
        return time.time() - new.lstat().st_mtime < OWN_S
    return True


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)


def is_running(process: int) -> bool:
    if os.name != "posix":  # there, to ask is to end it
        return True
    try:
        os.kill(process, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except PermissionError:
        return True
    return True


def replace_file(new: Path, final: Path) -> None:
    """Put the finished file `new`, which others wrote, in the place of `final` in the same folder. It is on disk before it moves.

    Raises InfrastructureError when the disk refuses.
    """
    try:
        sync_file(new)
        new.replace(final)
        _sync_folder(final.parent)
    except OSError as error:
        raise disk_error(error, final) from error


def replace_folder(new: Path, final: Path) -> None:
    """Put the finished folder `new` in the place of `final`; both lie on one disk. Its files are on the disk before it moves.

    A folder cannot be swapped in one step: in between, the old one waits as `.NAME.old`, from where `settle_folder`
    brings it back. Raises InfrastructureError when the disk refuses.
    """
    old = _old(final)
    try:
        settle_folder(final)
        final.parent.mkdir(parents=True, exist_ok=True)
        sync_below(new)
        if final.exists():
            final.rename(old)
        new.rename(final)
        _sync_folder(final.parent)
        shutil.rmtree(old, ignore_errors=True)
    except OSError as error:
        raise disk_error(error, final) from error


def settle_folder(final: Path) -> None:
    """End a `replace_folder` that was killed half way: the old folder comes back, or goes if the new one is there."""
    old = _old(final)
    if not old.exists():
        return
    if final.exists():
        shutil.rmtree(old, ignore_errors=True)
    else:
        old.rename(final)


def _old(final: Path) -> Path:
    return final.with_name(f".{final.name}.old")


def _made(path: Path, private: bool) -> BinaryIO:
    how = os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0)
    return os.fdopen(os.open(path, how, 0o600 if private else 0o666), "wb")


def _write_through(path: Path, data: bytes, private: bool) -> None:
    with _made(path, private) as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


def sync_below(folder: Path) -> None:
    """Wait until all that is in a folder is on the disk, so that it may take the name by which it is whole. Raises OSError."""
    for path in sorted(folder.rglob("*")):
        if path.is_dir():
            _sync_folder(path)
        else:
            sync_file(path)
    _sync_folder(folder)


def sync_file(path: Path) -> None:
    """Wait until it is on the disk. Raises OSError."""
    with path.open("rb+") as file:
        os.fsync(file.fileno())


def _sync_folder(folder: Path) -> None:
    """A rename is durable only once its folder is; systems without folder handles do this by themselves."""
    if os.name == "nt":
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
