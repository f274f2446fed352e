"""One process holds a folder, on every system; a lock ends with its process and harms no file."""

from __future__ import annotations

import ast
import ctypes
import os
import re
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

import lastresort
from climb_support import scripted_task
from lastresort.app.climb import climb
from lastresort.climb.identity import machine
from lastresort.errors import InputError
from lastresort.hardware.memory import give_back_freed_memory
from lastresort.records.atomic import LOCK, LockHeld, held, is_held, locked
from lastresort.spec.task import load_task

SOURCE = Path(lastresort.__file__).parent
POSIX_ONLY = {"fcntl", "grp", "posix", "pty", "pwd", "resource", "syslog", "termios", "tty"}


def hold(folder: Path) -> None:
    with held(folder, "somebody writes here", expected="one process", remedy="Wait."):
        pass


def test_who_comes_second_is_told_who_holds_the_folder(tmp_path: Path) -> None:
    with (
        held(tmp_path, "somebody writes here", expected="one process", remedy="Wait."),
        pytest.raises(InputError, match=r"somebody writes here, expected one process\. Wait\.$"),
    ):
        hold(tmp_path)
    hold(tmp_path)


def test_a_lock_ends_with_its_process_however_it_ends(tmp_path: Path) -> None:
    code = (
        "import sys, time; from pathlib import Path; from lastresort.records.atomic import locked\n"
        "with locked(Path(sys.argv[1])): print('held', flush=True); time.sleep(600)"
    )
    path = tmp_path / "lock"
    process = subprocess.Popen([sys.executable, "-c", code, str(path)], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "held\n"
    with pytest.raises(LockHeld), locked(path):
        pass
    process.kill()
    process.communicate()
    with locked(path, wait_s=-1):
        pass


def test_a_climb_that_has_ended_holds_no_database_open(tmp_path: Path) -> None:
    """The log of SQLite goes with the last connection: a program that climbs, or studies, goes on for hours after a climb."""
    task = scripted_task(tmp_path / "task", quality=[{"right": 0.97}], task={"ladder": ["prompting"]})
    climb(load_task(task), tmp_path / "runs" / "r")
    assert sorted(path.name for path in (tmp_path / "runs" / ".lastresort").iterdir()) == [
        "ledger.sqlite",
        "responses.sqlite",
    ]
    assert not list((tmp_path / "runs").rglob("*-wal"))


def test_looks_at_one_moment_do_not_see_each_other_and_each_sees_an_owner(tmp_path: Path) -> None:
    hold(tmp_path)
    with ThreadPoolExecutor(4) as looking:
        assert not any(looking.map(lambda _: is_held(tmp_path), range(2000)))
        with held(tmp_path, "somebody writes here", expected="one process", remedy="Wait."):
            assert all(looking.map(lambda _: is_held(tmp_path), range(100)))
    assert not is_held(tmp_path)


@pytest.mark.skipif(sys.platform == "win32", reason="Windows shares no lock")
def test_a_look_of_another_process_is_no_owner(tmp_path: Path) -> None:
    import fcntl

    hold(tmp_path)
    with (tmp_path / LOCK).open("rb") as file:
        fcntl.flock(file, fcntl.LOCK_SH)
        assert not is_held(tmp_path)


def test_a_file_in_the_place_of_a_lock_keeps_its_content(tmp_path: Path) -> None:
    (tmp_path / LOCK).write_text("mine")
    with pytest.raises(InputError, match="a file with content"):
        hold(tmp_path)
    assert (tmp_path / LOCK).read_text() == "mine"


@pytest.mark.parametrize("content", ["mine", ""])
def test_a_link_in_the_place_of_a_lock_is_not_followed(content: str, tmp_path: Path) -> None:
    (tmp_path / "elsewhere").write_text(content)
    (tmp_path / LOCK).symlink_to(tmp_path / "elsewhere")
    with pytest.raises(InputError, match="found a link"):
        hold(tmp_path)
    assert (tmp_path / "elsewhere").read_text() == content


@pytest.mark.skipif(os.name != "posix", reason="FIFOs")
@pytest.mark.parametrize(("make", "found"), [(os.mkfifo, "not a file"), (os.mkdir, "found a folder")])
def test_a_fifo_or_a_folder_in_the_place_of_a_lock_is_refused(
    make: Callable[[Path], None], found: str, tmp_path: Path
) -> None:
    make(tmp_path / LOCK)
    with pytest.raises(InputError, match=found):
        hold(tmp_path)


def test_a_link_that_leads_nowhere_makes_no_file(tmp_path: Path) -> None:
    (tmp_path / LOCK).symlink_to(tmp_path / "nowhere")
    with pytest.raises(InputError, match="found a link"):
        hold(tmp_path)
    assert not (tmp_path / "nowhere").exists()


def test_no_module_needs_a_posix_library_to_be_imported() -> None:
    named = re.compile(rf"\b(?:{'|'.join(POSIX_ONLY)})\b")  # most files name none
    found = [
        f"{path.relative_to(SOURCE).as_posix()}: {name}"
        for path in sorted(SOURCE.rglob("*.py"))
        if named.search(text := path.read_text(encoding="utf-8"))
        for statement in ast.parse(text).body
        for name in _imported(statement)
        if name.partition(".")[0] in POSIX_ONLY
    ]
    assert found == []


def _imported(statement: ast.stmt) -> list[str]:
    if isinstance(statement, ast.Import):
        return [alias.name for alias in statement.names]
    return [statement.module or ""] if isinstance(statement, ast.ImportFrom) else []


def test_a_machine_that_does_not_tell_its_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(os, "sysconf")
    assert machine()["memory_bytes"] == 0


def test_freed_memory_is_no_matter_where_there_is_no_glibc(monkeypatch: pytest.MonkeyPatch) -> None:
    def no_such_library(_: object) -> object:
        raise TypeError("as on Windows")

    monkeypatch.setattr(ctypes, "CDLL", no_such_library)
    give_back_freed_memory()
