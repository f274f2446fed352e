"""Killed writers, damaged files, many writers at once, read-only folders."""

from __future__ import annotations

import logging
import os
import signal
import sqlite3
import subprocess
import sys
import threading
from functools import partial
from pathlib import Path
from typing import Any, ClassVar

import pytest

from lastresort.errors import DataError
from lastresort.records.atomic import settle_folder
from lastresort.records.database import connect
from lastresort.records.events.run import ErrorShared, RunBegan, TaskRead
from lastresort.records.record import Record
from lastresort.records.responses import ResponseCache

TASK = TaskRead(task={"bar": 0.5})

WRITER = """
import sys
from pathlib import Path
from lastresort.records.events.run import ErrorShared
from lastresort.records.record import ItemScore, Measurement, Record
record = Record.open(Path(sys.argv[1]))
number = 0
while True:
    items = tuple(ItemScore(f"{number}-{i}", 1.0, "x" * 500, "y", "z", "stop", True, 1, 1, 0.0, 0.0) for i in range(50))
    record.add_measurement(Measurement("prompting", f"candidate-{number}", "dev", 50, items))
    record.append(ErrorShared(r=number))
    record.add_curve_point("a", number, {"loss": 1.0})
    print(number, flush=True)
    number += 1
"""

REPLACER = """
import sys
from pathlib import Path
from lastresort.records.atomic import replace_folder, write_atomically
folder = Path(sys.argv[1])
for number in range(10**9):
    write_atomically(folder / "file.json", str(number) * 20000)
    new = folder / "made"
    new.mkdir(exist_ok=True)
    (new / "system.yaml").write_text("whole")
    replace_folder(new, folder / "winner")
    print(number, flush=True)
"""

CACHE_WRITER = """
import sys
from pathlib import Path
from lastresort.records.responses import ResponseCache
with ResponseCache(Path(sys.argv[1])) as cache:
    for number in range(100):
        cache.put_many({f"{sys.argv[2]}-{number}": {"n": number}, f"shared-{number}": {"by": sys.argv[2]}})
"""


def killed_after(script: str, argument: Path, lines: int) -> int:
    """Run a writer, kill it (SIGKILL) after it has printed so many lines; return the last number that it printed."""
    writer = subprocess.Popen([sys.executable, "-c", script, str(argument)], stdout=subprocess.PIPE, text=True)
    assert writer.stdout is not None
    seen = [int(writer.stdout.readline()) for _ in range(lines)]
    writer.send_signal(signal.SIGKILL)
    rest = writer.stdout.read().split("\n")
    writer.wait()
    return max([*seen, *(int(line) for line in rest[:-1] if line)])


@pytest.mark.sampled(3)
@pytest.mark.parametrize("lines", [1, 4, 9])
def test_a_killed_writer_leaves_whole_measurements_and_loses_nothing_finished(tmp_path: Path, lines: int) -> None:
    Record.create(tmp_path).close()
    last = killed_after(WRITER, tmp_path, lines)
    for read_only in (True, False):
        with Record.open(tmp_path, read_only=read_only) as record:
            measurements = record.measurements()
            assert len(measurements) in (last + 1, last + 2)
            assert all(m.n == m.n_available == 50 for m in measurements)
            assert [shared.r for shared in record.all(ErrorShared)][: last + 1] == list(range(last + 1))
            assert len(record.curve("a")) >= last + 1
    with Record.open(tmp_path) as record:
        record.append(TASK)
        assert record.last(TaskRead) == TASK


def test_create_killed_half_way_can_be_done_again(tmp_path: Path) -> None:
    (tmp_path / "record.sqlite.new").write_bytes(b"half a file")
    (tmp_path / "record.sqlite.new-wal").write_bytes(b"half a log")
    with pytest.raises(DataError, match="found no record"):
        Record.open(tmp_path)
    with Record.create(tmp_path) as record:
        record.append(TASK)
    assert [path.name for path in tmp_path.iterdir()] == ["record.sqlite"]


@pytest.mark.parametrize("lines", [2, 5])
def test_killed_replacements_leave_one_whole_file_and_folder(tmp_path: Path, lines: int) -> None:
    killed_after(REPLACER, tmp_path, lines)
    content = (tmp_path / "file.json").read_text()
    assert len(content) % 20000 == 0
    assert content == content[: len(content) // 20000] * 20000
    settle_folder(tmp_path / "winner")
    assert (tmp_path / "winner" / "system.yaml").read_text() == "whole"


def damaged(folder: Path, how: str) -> None:
    path = folder / "record.sqlite"
    content = path.read_bytes()
    path.write_bytes(
        {
            "empty": b"",
            "text": b"this is no database, but it is long enough to hold a header" * 100,
            "cut": content[: len(content) // 2],
            "scrambled": content[:4096] + bytes(255 - byte for byte in content[4096:]),
        }[how]
    )


@pytest.mark.parametrize("read_only", [False, True])
@pytest.mark.parametrize("how", ["empty", "text", "cut", "scrambled"])
def test_a_damaged_record_is_one_sentence(tmp_path: Path, how: str, read_only: bool) -> None:
    with Record.create(tmp_path) as record:
        for number in range(200):
            record.append(TaskRead(task={"about": "x" * 300, "number": number}))
    damaged(tmp_path, how)
    """At the latest when what is damaged is read."""
    with (
        pytest.raises(DataError, match=r"record\.sqlite: found .*, expected an SQLite database written by lastresort"),
        Record.open(tmp_path, read_only=read_only) as record,
    ):
        record.all(TaskRead)


@pytest.mark.skipif(os.name == "nt", reason="permissions of folders are POSIX")
def test_a_run_in_a_read_only_folder_can_be_read(tmp_path: Path) -> None:
    with Record.create(tmp_path) as record:
        record.append(TASK)
    (tmp_path / "record.sqlite").chmod(0o444)
    tmp_path.chmod(0o555)
    try:
        with Record.open(tmp_path, read_only=True) as record:
            assert record.last(TaskRead) == TASK
    finally:
        tmp_path.chmod(0o755)


def test_several_processes_fill_one_cache(tmp_path: Path) -> None:
    path = tmp_path / "responses.sqlite"
    writers = [subprocess.Popen([sys.executable, "-c", CACHE_WRITER, str(path), str(n)]) for n in range(3)]
    assert [writer.wait() for writer in writers] == [0, 0, 0]
    with ResponseCache(path) as cache:
        for writer in range(3):
            keys = [f"{writer}-{number}" for number in range(100)]
            assert cache.get_many(keys) == {key: {"n": number} for number, key in enumerate(keys)}
        assert len(cache.get_many([f"shared-{number}" for number in range(100)])) == 100


class WatchedConnection(sqlite3.Connection):
    """Lets another connection start the same file once this one has read its version."""

    others: ClassVar[list[threading.Thread]] = []

    def execute(self, statement: str, *values: Any) -> sqlite3.Cursor:
        cursor = super().execute(statement, *values)
        if statement == "PRAGMA user_version" and self.others:
            other = self.others.pop()
            other.start()
            other.join(1)  # it may have to wait for this connection
        return cursor


@pytest.mark.slow
def test_a_cache_that_another_process_starts_meanwhile_is_not_taken_for_damaged(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "responses.sqlite"

    def fill() -> None:
        with ResponseCache(path) as cache:
            cache.put_many({"k": {"n": 1}})

    other = threading.Thread(target=fill)
    monkeypatch.setattr(WatchedConnection, "others", [other])
    monkeypatch.setattr(sqlite3, "connect", partial(sqlite3.connect, factory=WatchedConnection))
    with ResponseCache(path) as cache:
        other.join()
        assert cache.get_many(["k"]) == {"k": {"n": 1}}
    assert [one.name for one in tmp_path.iterdir()] == ["responses.sqlite"]


def test_a_damaged_cache_is_moved_aside_with_a_warning(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = tmp_path / "responses.sqlite"
    path.write_bytes(b"no database at all" * 50)
    with caplog.at_level(logging.WARNING), ResponseCache(path) as cache:
        assert cache.get_many(["k"]) == {}
        cache.put_many({"k": {"text": "x"}})
        assert cache.get_many(["k"]) == {"k": {"text": "x"}}
    assert "responses.sqlite.damaged-1" in caplog.text
    assert (tmp_path / "responses.sqlite.damaged-1").read_bytes() == b"no database at all" * 50


def test_a_cache_that_is_damaged_while_open_starts_anew(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = tmp_path / "responses.sqlite"
    with ResponseCache(path) as cache:
        cache.put_many({f"k{number}": {"text": "x" * 20_000} for number in range(300)})
    cache = ResponseCache(path)
    content = path.read_bytes()
    with path.open("r+b") as file:
        file.seek(4096)
        file.write(b"\xff" * (len(content) - 4096))
    with caplog.at_level(logging.WARNING):
        assert len(cache.get_many(f"k{number}" for number in range(300))) < 300
        cache.put_many({"k": {"text": "y"}})
        assert cache.get_many(["k"]) == {"k": {"text": "y"}}
    cache.close()
    assert "starts empty" in caplog.text


def test_a_new_record_is_whole_when_it_gets_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where the last connection to close does not put the log into the file: on a full disk, or while another one reads."""
    others: list[sqlite3.Connection] = []

    def read_beside(path: Path, **settings: Any) -> Any:
        database = connect(path, **settings)
        if path.name.endswith(".new"):
            others.append(sqlite3.connect(path))
            others[-1].execute("SELECT count(*) FROM sqlite_master").fetchone()
        return database

    monkeypatch.setattr("lastresort.records.record_file.connect", read_beside)
    Record.create(tmp_path).close()
    monkeypatch.undo()
    assert others
    with Record.open(tmp_path) as record:
        assert record.last(RunBegan) is not None
    for other in others:
        other.close()
