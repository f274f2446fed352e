"""Numbered migrations: an old file is brought up to date in place for writing, and in memory for reading."""

from __future__ import annotations

import importlib.util
import sqlite3
from pathlib import Path

import pytest

from lastresort.errors import InfrastructureError
from lastresort.records import database

FIRST = "CREATE TABLE a (x);\nINSERT INTO a VALUES (1);"
SECOND = """
ALTER TABLE a ADD COLUMN y DEFAULT 7;
CREATE TRIGGER t BEFORE DELETE ON a
BEGIN SELECT RAISE(ABORT, 'no;no'); END;
"""


def test_statements_keep_triggers_whole() -> None:
    assert [s.strip().split()[0] for s in database.statements(SECOND)] == ["ALTER", "CREATE"]


def test_migrations_run_once_each(tmp_path: Path) -> None:
    path = tmp_path / "db"
    database.connect(path, application=5, migrations=(FIRST,)).close()
    for _ in range(2):
        opened = database.connect(path, application=5, migrations=(FIRST, SECOND))
        assert [tuple(row) for row in opened.rows("SELECT x, y FROM a")] == [(1, 7)]
        opened.close()


def test_what_was_committed_is_on_the_disk(tmp_path: Path) -> None:
    """By a fresh copy of the module: tests in general do not wait for the disk (conftest.py)."""
    spec = importlib.util.spec_from_file_location("fresh_database", database.__file__)
    assert spec is not None
    assert spec.loader is not None
    fresh = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(fresh)
    opened = fresh.connect(tmp_path / "db", application=5, migrations=(FIRST,))
    assert [tuple(row) for row in opened.rows("PRAGMA synchronous")] == [(2,)]
    opened.close()


def test_reading_an_older_file_migrates_a_copy_in_memory(tmp_path: Path) -> None:
    path = tmp_path / "db"
    database.connect(path, application=5, migrations=(FIRST,)).close()
    before = path.read_bytes()
    opened = database.connect_read_only(path, application=5, migrations=(FIRST, SECOND))
    assert [tuple(row) for row in opened.rows("SELECT x, y FROM a")] == [(1, 7)]
    opened.close()
    assert path.read_bytes() == before


def test_a_failing_migration_leaves_the_old_version(tmp_path: Path) -> None:
    path = tmp_path / "db"
    database.connect(path, application=5, migrations=(FIRST,)).close()
    with pytest.raises(Exception, match="no such table"):
        database.connect(path, application=5, migrations=(FIRST, "INSERT INTO a VALUES (2);\nDROP TABLE missing;"))
    with sqlite3.connect(path) as raw:
        assert raw.execute("SELECT x FROM a").fetchall() == [(1,)]
        assert raw.execute("PRAGMA user_version").fetchone() == (1,)


def test_rows_of_asks_in_pieces(tmp_path: Path) -> None:
    opened = database.connect(tmp_path / "db", application=5, migrations=("CREATE TABLE k (key TEXT);",))
    keys = [str(number) for number in range(2 * database.KEYS_A_QUERY + 3)]
    with opened.transaction() as connection:
        connection.executemany("INSERT INTO k VALUES (?)", [(key,) for key in keys])
    query = "SELECT key FROM k WHERE key <> ? AND key IN ({keys})"
    assert sorted(row["key"] for row in opened.rows_of(query, keys, ("7",))) == sorted(set(keys) - {"7"})
    opened.close()


@pytest.mark.parametrize(
    ("code", "sentence"),
    [("SQLITE_FULL", "the disk is full"), ("SQLITE_BUSY", "another process"), ("SQLITE_IOERR_WRITE", "disk refused")],
)
def test_the_disk_and_other_writers_are_infrastructure(code: str, sentence: str) -> None:
    error = sqlite3.OperationalError("words")
    error.sqlite_errorname = code
    found = database.in_words(error, Path("record.sqlite"))
    assert isinstance(found, InfrastructureError)
    assert sentence in str(found)
    assert found.resume == "", "the command says how to go on"
