"""The file of a record: one append-only SQLite database, begun whole, opened, checked, and read row by row.

A chain of hashes over all of it shows a change (chain.py).
"""

from __future__ import annotations

import shlex
import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager, suppress
from pathlib import Path

from lastresort.errors import DataError, InfrastructureError, InputError
from lastresort.foreign import DOCUMENT, read_json, read_text
from lastresort.records.atomic import disk_error
from lastresort.records.chain import SOURCES, NotAsWritten, Table, changes, select, typed
from lastresort.records.database import DamagedError, Database, Journal, connect, connect_read_only
from lastresort.records.decision import FILE_NAME as DECISION

MOST_NAMED = 5  # runs in a folder of runs
FILE_NAME = "record.sqlite"
REPORT = "report.html"
APPLICATION = 0x4C617374  # "Last"

MIGRATIONS = (
    """
    CREATE TABLE event (
        id INTEGER PRIMARY KEY, at TEXT NOT NULL, kind TEXT NOT NULL, key TEXT NOT NULL, body TEXT NOT NULL
    );
    CREATE INDEX event_by_key ON event (kind, key, id);
    CREATE INDEX event_by_kind ON event (kind, id);
    CREATE TABLE measurement (
        id INTEGER PRIMARY KEY, at TEXT NOT NULL, rung TEXT NOT NULL, candidate TEXT NOT NULL, split TEXT NOT NULL,
        n_available INTEGER NOT NULL
    );
    CREATE INDEX measurement_by_name ON measurement (rung, candidate, split, id);
    CREATE TABLE item (
        measurement INTEGER NOT NULL REFERENCES measurement (id), position INTEGER NOT NULL, id TEXT NOT NULL,
        score REAL NOT NULL, answer TEXT NOT NULL, expected TEXT NOT NULL, input TEXT NOT NULL, finish TEXT NOT NULL,
        format_ok INTEGER, prompt_tokens INTEGER NOT NULL, completion_tokens INTEGER NOT NULL, seconds REAL NOT NULL,
        usd REAL NOT NULL, passages TEXT NOT NULL, PRIMARY KEY (measurement, position)
    ) WITHOUT ROWID;
    CREATE TABLE curve (
        id INTEGER PRIMARY KEY, at TEXT NOT NULL, candidate TEXT NOT NULL, step INTEGER NOT NULL, body TEXT NOT NULL
    );
    CREATE INDEX curve_by_candidate ON curve (candidate, id);
    CREATE TABLE chain (id INTEGER PRIMARY KEY, source TEXT NOT NULL, row INTEGER NOT NULL, sha256 TEXT NOT NULL);
    CREATE TABLE stage (id INTEGER PRIMARY KEY CHECK (id = 1), body TEXT NOT NULL);
    """
    + "".join(
        f"""
    CREATE TRIGGER {table}_keeps_{change.lower()} BEFORE {change} ON {table}
    BEGIN SELECT RAISE(ABORT, 'the record is append-only'); END;
    """
        for table in ("event", "measurement", "item", "curve", "chain")
        for change in ("UPDATE", "DELETE")
    ),
)


class RecordGoneError(InfrastructureError):
    """The file is no longer where it was opened."""


def _file_at(place: Path) -> tuple[int, int] | None:
    """Which file that is; None where none can be seen."""
    try:
        found = place.stat()
    except OSError:
        return None
    return found.st_dev, found.st_ino


class RecordFile:
    """An open file. Whatever was written when `writing` ends is on the disk, and survives a kill at any moment."""

    def __init__(self, folder: Path, database: Database) -> None:
        self.folder, self._place = folder, database.path.absolute()  # whatever folder the process goes to
        self._seen, self._database = _file_at(self._place), database

    @classmethod
    @contextmanager
    def begun(cls, folder: Path) -> Iterator[RecordFile]:
        """A new file in `folder`, which is made if it is missing. It has its name once what is written into it here is whole.

        Raises DataError if the folder holds a record already, InfrastructureError if the disk refuses.
        """
        path = folder / FILE_NAME
        if path.exists():
            raise DataError(
                "found a record of an earlier run",
                where=str(path),
                expected="a new folder",
                remedy="Go on with --resume, or name another folder with --run.",
            )
        # Made under another name first: record.sqlite is whole from its first moment on. Without a WAL, whose content a full disk
        # may keep out of the file that is renamed.
        new = folder / f"{FILE_NAME}.new"
        try:
            folder.mkdir(parents=True, exist_ok=True)
            for rest in folder.glob(f"{new.name}*"):
                rest.unlink()
            with closing(
                cls(folder, connect(new, application=APPLICATION, migrations=MIGRATIONS, journal="DELETE"))
            ) as file:
                yield file
            new.replace(path)
        except OSError as error:
            raise disk_error(error, path) from error

    @classmethod
    def open(
        cls,
        folder: Path,
        read_only: bool = False,
        checked: bool = True,
        sources: Sequence[Table] = SOURCES,
        journal: Journal = "WAL",
    ) -> RecordFile:
        """checked: read it once, to see whether it was changed. sources: all of it, or less. journal: as of `connect`.

        Raises DataError if it is missing, damaged, changed or newer than this program.
        """
        path = folder / FILE_NAME
        if not path.is_file():
            raise no_record(folder)
        if path.is_symlink() and not read_only:
            raise DataError(
                "found a link",
                where=str(path),
                expected="the record itself, to write into it",
                remedy="Copy the file there.",
            )
        if path.stat().st_size == 0:
            raise damaged("found an empty file", folder, salvageable=False)
        try:
            if read_only:
                whole = checked and len(sources) == len(SOURCES)
                database = connect_read_only(path, application=APPLICATION, migrations=MIGRATIONS, looked_at=whole)
            else:
                database = connect(path, application=APPLICATION, migrations=MIGRATIONS, journal=journal)
        except DamagedError as error:
            raise damaged(error.found, folder) from error
        file = cls(folder, database)
        if checked:
            try:
                file._refuse_changed(sources)
            except BaseException:
                file.close()
                raise
        return file

    def _refuse_changed(self, sources: Sequence[Table]) -> None:
        with self.damage_in_words(), self._database.snapshot() as connection:
            found = next(changes(connection, sources), None)
        if found is not None:
            raise DataError(
                found.what,
                where=str(self.folder / FILE_NAME),
                expected="the record as the run wrote it",
                remedy=f"Restore it from a copy, or climb again. {_salvaging(self.folder)}",
            )

    def close(self) -> None:
        self._database.close()

    @contextmanager
    def writing(self) -> Iterator[sqlite3.Connection]:
        """Raises RecordGoneError where the file is gone: SQLite would go on writing into what was deleted."""
        found = _file_at(self._place)
        if found is None or found != self._seen:
            alone = found is None and _file_at(self._place.parent) is not None
            raise RecordGoneError(
                "moved or deleted while the run was at work",
                where=str(self.folder / FILE_NAME if alone else self.folder),
                remedy="Put it back and resume the run, or start a new one."
                if found is None
                else "Another file is in its place: resume the run if that is a copy of its record, or start a new one.",
            )
        with self._database.transaction() as connection:
            yield connection

    def rows(self, table: Table, rest: str, *values: object) -> list[sqlite3.Row]:
        """Whole rows, as all of a record but counts is read. Raises DataError for a row that this program did not write so."""
        with self.damage_in_words():
            return [typed(table, row) for row in self._database.rows(select(table, rest), values)]

    @contextmanager
    def damage_in_words(self) -> Iterator[None]:
        try:
            yield
        except NotAsWritten as error:
            raise self.damaged(f"found at {error}") from error
        except DamagedError as error:
            raise self.damaged(error.found) from error

    def query(self, query: str, values: Sequence[object] | Mapping[str, object]) -> list[sqlite3.Row]:
        """Other columns than those of a table: counts, places, names."""
        with self.damage_in_words():
            return self._database.rows(query, values)

    def newer(self, found: str) -> DataError:
        return DataError(
            found,
            where=str(self.folder / FILE_NAME),
            expected="events that this version knows",
            remedy="Another lastresort wrote it: use that one, or start a new run.",
        )

    def damaged(self, found: str) -> DataError:
        return damaged(found, self.folder)


def _runs_in(folder: Path) -> str:
    """Which runs it holds, where it is a folder of runs; "" where it holds none."""
    with suppress(OSError):
        runs = sorted(folder.glob(f"*/{FILE_NAME}"), key=lambda path: path.stat().st_mtime, reverse=True)
        if runs:
            return f"Name a run in it, the newest first: {', '.join(str(path.parent) for path in runs[:MOST_NAMED])}."
    return ""


def no_record(folder: Path) -> DataError:
    """What to say where the folder of a run was expected."""
    remedy = _runs_in(folder) or "Name a folder that `lastresort climb` has written, such as runs/<task>-1."
    if left := _what_is_left(folder):
        remedy = f"{left} Restore {FILE_NAME} from a copy to see the rest."
    return DataError(f"found no {FILE_NAME}", where=str(folder), expected="the folder of a run", remedy=remedy)


def damaged(found: str, folder: Path, *, salvageable: bool = True) -> DataError:
    """What to say of a record that cannot be read. salvageable: whether a part of it may be."""
    looked = _salvaging(folder) if salvageable else ""
    remedies = ("Restore it from a copy, or start a new run.", looked, _what_is_left(folder))
    return DataError(
        found,
        where=str(folder / FILE_NAME),
        expected="an SQLite database written by lastresort",
        remedy=" ".join(filter(None, remedies)),
    )


def _salvaging(folder: Path) -> str:
    return f"`{shlex.join(['lastresort', 'report', str(folder), '--salvage'])}` shows what is whole."


def _what_is_left(folder: Path) -> str:
    """A sentence on the files that hold a run's result without its record; "" where none is whole."""
    names = []
    with suppress(InputError, OSError):
        read_json(folder / DECISION, DOCUMENT)
        names.append(DECISION)
    with suppress(InputError, OSError):
        if read_text(folder / REPORT, DOCUMENT).rstrip().endswith("</html>"):
            names.append(REPORT)
    still = "is still whole and holds" if len(names) == 1 else "are still whole and hold"
    return f"{' and '.join(names)} {still} what the run found." if names else ""
