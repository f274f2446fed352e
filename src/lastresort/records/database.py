"""SQLite as this program uses it: one place for connecting, migrating, transactions and the sentences of its errors."""

from __future__ import annotations

import sqlite3
import stat
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, closing, contextmanager, suppress
from functools import cache
from pathlib import Path
from typing import Literal

from lastresort.errors import ContractError, DataError, DiskError, InfrastructureError, LastresortError

KEYS_A_QUERY = 500
BUSY_TIMEOUT_S = 60.0
SYNCHRONOUS = "FULL"  # what was committed survives a power cut
Journal = Literal["WAL", "DELETE"]
DAMAGES = (sqlite3.DatabaseError, UnicodeDecodeError)  # the second from SQLite's own names in a damaged file
_DISK_CODES = {"SQLITE_FULL", "SQLITE_IOERR", "SQLITE_READONLY", "SQLITE_CANTOPEN", "SQLITE_PERM"}


class DamagedError(DataError):
    """SQLite cannot read the file."""


class Database:
    """A connection that several threads may share and several processes may write to at once.

    migrations[i] brings the schema from version i to i+1 (PRAGMA user_version); application marks the file as ours.
    """

    def __init__(self, connection: sqlite3.Connection, path: Path) -> None:
        self._connection, self.path = connection, path
        self._lock = threading.RLock()

    @contextmanager
    def transaction(self) -> Iterator[sqlite3.Connection]:
        """All or nothing; takes the write lock at the start, so that it never fails half way for another writer."""
        with self._lock, _errors_in_words(self.path):
            self._connection.execute("BEGIN IMMEDIATE")
            try:
                yield self._connection
            except BaseException:
                if self._connection.in_transaction:
                    self._connection.execute("ROLLBACK")
                raise
            self._connection.execute("COMMIT")

    @contextmanager
    def snapshot(self) -> Iterator[sqlite3.Connection]:
        """For several queries that must see the same state, while another process may write."""
        with self._lock, _errors_in_words(self.path):
            self._connection.execute("BEGIN")
            try:
                yield self._connection
            finally:
                self._connection.execute("ROLLBACK")  # nothing was written

    def rows(self, query: str, values: Sequence[object] | Mapping[str, object] = ()) -> list[sqlite3.Row]:
        with self._lock, _errors_in_words(self.path):
            return self._connection.execute(query, values).fetchall()

    def rows_of(self, query: str, keys: Sequence[str], values: Sequence[object] = ()) -> Iterator[sqlite3.Row]:
        """Rows of a query with `({keys})` after its `values`, in pieces: SQLite limits the values of one query."""
        for start in range(0, len(keys), KEYS_A_QUERY):
            some = keys[start : start + KEYS_A_QUERY]
            yield from self.rows(query.format(keys=", ".join("?" * len(some))), (*values, *some))

    def close(self) -> None:
        with self._lock:
            self._connection.close()


def connect(path: Path, *, application: int, migrations: Sequence[str], journal: Journal = "WAL") -> Database:
    """Open or start the file for writing and bring its schema up to date.

    journal: DELETE if several machines may open the file, since WAL needs shared memory.
    Raises DataError for a file that is damaged, not ours, or newer than this program; InfrastructureError for the disk.
    """
    _refuse_other_companions(path)
    closed = _was_closed(path)
    with ExitStack() as opened, _errors_in_words(path):
        connection = opened.enter_context(closing(_open(f"{path.resolve().as_uri()}?mode=rwc")))
        check_ours(connection, path, application=application, migrations=migrations, whole=closed)
        connection.execute(f"PRAGMA journal_mode = {journal}")
        connection.execute(f"PRAGMA synchronous = {SYNCHRONOUS}")
        migrate(connection, application=application, migrations=migrations)
        opened.pop_all()  # it stays open: the caller closes it
        return Database(connection, path)


def connect_read_only(path: Path, *, application: int, migrations: Sequence[str], looked_at: bool = True) -> Database:
    """Open an existing file without changing it, also on a read-only disk; an older schema is migrated in memory.

    looked_at: whether every page is looked at where a process may still write: not for who opens it again and again meanwhile.
    """
    _refuse_other_companions(path)
    closed = not looked_at or _was_closed(path)
    with ExitStack() as opened, _errors_in_words(path):
        connection = opened.enter_context(closing(_open_quietly(path)))
        check_ours(connection, path, application=application, migrations=migrations, whole=closed)
        if version(connection) < len(migrations):
            older, connection = connection, opened.enter_context(closing(_open(":memory:")))
            older.backup(connection)
            older.close()
            migrate(connection, application=application, migrations=migrations)
        connection.execute("PRAGMA query_only = ON")
        opened.pop_all()  # it stays open: the caller closes it
        return Database(connection, path)


@contextmanager
def _errors_in_words(path: Path) -> Iterator[None]:
    try:
        yield
    except DAMAGES as error:
        raise in_words(error, path) from error


def version(connection: sqlite3.Connection) -> int:
    return int(connection.execute("PRAGMA user_version").fetchone()[0])


def check_ours(
    connection: sqlite3.Connection, path: Path, *, application: int, migrations: Sequence[str], whole: bool
) -> None:
    """Raises DataError unless the file is empty, or ours, whole, and of a version that this program knows.

    whole: it is known to be; else every page is looked at. Its tables must be those of the migrations: in their place, a view or
    a trigger could do anything. All is read in one transaction, since another process may be starting the same file.
    """
    connection.execute("BEGIN")
    try:
        _check_ours(connection, path, application=application, migrations=migrations, whole=whole)
    finally:
        if connection.in_transaction:  # SQLite ends it itself after some errors
            connection.execute("ROLLBACK")


def _check_ours(
    connection: sqlite3.Connection, path: Path, *, application: int, migrations: Sequence[str], whole: bool
) -> None:
    found = version(connection)
    mark = int(connection.execute("PRAGMA application_id").fetchone()[0])
    empty = connection.execute("SELECT count(*) FROM sqlite_master").fetchone()[0] == 0
    if not (empty and mark in (0, application)) and mark != application:
        raise DataError(
            "found a database of another program", where=str(path), remedy="Name another file, or move this one away."
        )
    if found > len(migrations):
        raise DataError(
            f"found schema version {found}",
            where=str(path),
            expected=f"at most {len(migrations)}",
            remedy="It was written by a newer lastresort: upgrade this one.",
        )
    problem = "ok" if whole else connection.execute("PRAGMA quick_check(1)").fetchone()[0]
    if problem != "ok":
        raise sqlite3.DatabaseError(str(problem).replace("*** in database main ***", "").strip())
    _refuse_other_tables(connection, path, tuple(migrations[: max(0, found)]))


def _refuse_other_tables(connection: sqlite3.Connection, path: Path, migrations: tuple[str, ...]) -> None:
    here, expected = schema(connection), schema_of(migrations)
    for name in sorted(here.keys() | expected.keys()):
        if here.get(name) == expected.get(name):
            continue
        what = "missing" if name not in here else "changed" if name in expected else "added"
        raise DataError(
            f"found {name} {what}",
            where=str(path),
            expected="the tables of this version",
            remedy="Another version of lastresort wrote it, or it was changed: restore it from a copy, or start a new run.",
        )


def schema(connection: sqlite3.Connection) -> dict[str, str]:
    """The text of each table, view, index and trigger, by its type and name, without SQLite's own."""
    query = "SELECT type, name, sql FROM sqlite_master WHERE name NOT LIKE 'sqlite^_%' ESCAPE '^'"
    return {f"the {kind} {name}": str(sql) for kind, name, sql in connection.execute(query)}


@cache
def schema_of(migrations: tuple[str, ...]) -> dict[str, str]:
    with closing(sqlite3.connect(":memory:")) as connection:
        for script in migrations:
            connection.executescript(script)
        return schema(connection)


def migrate(connection: sqlite3.Connection, *, application: int, migrations: Sequence[str]) -> None:
    """Apply the missing migrations, each with its number in one transaction; two processes may try at once."""
    while version(connection) < len(migrations):
        connection.execute("BEGIN IMMEDIATE")
        now = version(connection)  # another process may have migrated while we waited for the lock
        if now < len(migrations):
            for statement in statements(migrations[now]):
                connection.execute(statement)
            connection.execute(f"PRAGMA user_version = {now + 1}")
            connection.execute(f"PRAGMA application_id = {application}")
        connection.execute("COMMIT")


def statements(script: str) -> Iterator[str]:
    """The statements of a script one by one: `executescript` would commit before each, outside our transaction."""
    statement = ""
    for line in script.splitlines(keepends=True):
        statement += line
        if sqlite3.complete_statement(statement):
            yield statement
            statement = ""


def in_words(error: sqlite3.DatabaseError | UnicodeDecodeError, path: Path) -> LastresortError:
    """Our sentence for SQLite's error: a wrong call, the disk, another writer, or damage."""
    if isinstance(error, sqlite3.IntegrityError | sqlite3.ProgrammingError):
        return ContractError(f"a statement was refused ({error})", where=str(path))
    name = getattr(error, "sqlite_errorname", "") or ""
    if name.startswith(("SQLITE_BUSY", "SQLITE_LOCKED")):
        return InfrastructureError(
            f"another process has been writing for more than {BUSY_TIMEOUT_S:.0f} s",
            where=str(path),
            remedy="Wait for it, or end it.",
        )
    if name == "SQLITE_READONLY_DBMOVED":
        return InfrastructureError(
            "the file was moved or deleted while it was open",
            where=str(path),
            remedy="Put it back.",
        )
    if any(name.startswith(code) for code in _DISK_CODES):
        if name.startswith("SQLITE_FULL"):
            return DiskError("the disk is full", where=str(path), remedy="Free some space; nothing finished is lost.")
        return InfrastructureError(
            f"the disk refused ({error})",
            where=str(path),
            remedy="Check the disk and the permissions of the folder.",
        )
    return DamagedError(
        f"found a damaged or foreign file ({error})",
        where=str(path),
        expected="an SQLite database written by lastresort",
        remedy="Restore it from a copy, or start a new run.",
    )


def companions(path: Path, *kinds: str) -> Iterator[tuple[Path, bool]]:
    """What lies in the place of SQLite's own files next to a database, and whether it is a file, and no link to one."""
    real = path.resolve()
    for kind in kinds or ("wal", "shm", "journal"):
        beside = real.with_name(f"{real.name}-{kind}")
        with suppress(OSError):
            yield beside, stat.S_ISREG(beside.lstat().st_mode)


def _refuse_other_companions(path: Path) -> None:
    """SQLite would wait for a FIFO without end, and takes a link for a fault of the disk."""
    for beside, is_file in companions(path):
        if not is_file:
            raise DataError(
                f"found {'a link' if beside.is_symlink() else 'something that is not a file'}",
                where=str(beside),
                expected="a file that SQLite made, or none",
                remedy="Remove it.",
            )


def _was_closed(path: Path) -> bool:
    """Whether the last process that wrote the file closed it: its log or journal is then gone."""
    return not any(_has_content(path.with_name(f"{path.name}-{kind}")) for kind in ("wal", "journal"))


def _has_content(path: Path) -> bool:
    try:
        return path.stat().st_size > 0
    except OSError:
        return False


def _open(uri: str) -> sqlite3.Connection:
    connection = sqlite3.connect(uri, uri=True, timeout=BUSY_TIMEOUT_S, isolation_level=None, check_same_thread=False)
    connection.row_factory = sqlite3.Row
    return connection


def _open_quietly(path: Path) -> sqlite3.Connection:
    """A connection for reading, the usual one where the folder may be written: closing it leaves no WAL file behind."""
    uri = path.resolve().as_uri()
    for mode in ("mode=rw", "mode=ro", "immutable=1"):
        connection = _open(f"{uri}?{mode}")
        try:
            connection.execute("PRAGMA query_only = ON")
            connection.execute("SELECT count(*) FROM sqlite_master").fetchone()
        except sqlite3.OperationalError as error:
            connection.close()
            refused = getattr(error, "sqlite_errorname", "").startswith(("SQLITE_READONLY", "SQLITE_CANTOPEN"))
            if mode == "immutable=1" or not refused:
                raise
        else:
            return connection
    raise AssertionError("the last mode returns or raises")
