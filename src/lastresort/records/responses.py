"""Answers that were paid for once: a repeated or resumed climb finds them here.

Databases that can always be filled again: a damaged one is moved aside with a warning and never stops anything.

What models said to the items of the gate's suites: a base is asked once, whatever is tuned from it.
"""

from __future__ import annotations

import json
import logging
import math
import sqlite3
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self, TypeVar

from lastresort.errors import DataError, InfrastructureError
from lastresort.foreign import NotJson, parse_json
from lastresort.records.atomic import disk_error
from lastresort.records.database import Database, Journal, connect

log = logging.getLogger(__name__)
_T = TypeVar("_T")


class Refillable:
    """A database that starts empty where its file is damaged or foreign. what: its name in the warning. private: whether a new file
    can be read by the user alone.
    """

    def __init__(
        self,
        path: Path,
        *,
        application: int,
        migrations: Sequence[str],
        what: str,
        journal: Journal = "WAL",
        private: bool = False,
    ) -> None:
        self.path, self._application, self._migrations, self._what = path, application, migrations, what
        self._journal: Journal = journal
        self._private = private
        self.database = self._open()

    def insert(self, statement: str, rows: Sequence[Sequence[Any]]) -> None:
        """All or none, into a new file where this one is damaged."""
        try:
            self._insert(statement, rows)
        except DataError as damage:
            self.start_anew(damage)
            self._insert(statement, rows)

    def start_anew(self, damage: Exception) -> None:
        """Move the damaged file aside and open an empty one."""
        self.close()
        with _disk_in_words(self.path):
            self._move_aside(damage)
        self.database = self._open()

    def close(self) -> None:
        self.database.close()

    def _insert(self, statement: str, rows: Sequence[Sequence[Any]]) -> None:
        with self.database.transaction() as connection:
            connection.executemany(statement, rows)

    def _open(self) -> Database:
        with _disk_in_words(self.path):
            self.path.parent.mkdir(parents=True, exist_ok=True)
            try:
                return self._connected()
            except DataError as damage:
                self._move_aside(damage)
                return self._connected()

    def _connected(self) -> Database:
        if self._private and not self.path.exists():
            self.path.touch(mode=0o600)  # SQLite gives its journal the same mode
        return connect(self.path, application=self._application, migrations=self._migrations, journal=self._journal)

    def _move_aside(self, damage: Exception) -> None:
        """Rename the file to the next free `<name>.damaged-<n>`."""
        path = self.path
        aside = next(
            candidate
            for number in range(1, 1_000_000)
            if not (candidate := path.with_name(f"{path.name}.damaged-{number}")).exists()
        )
        for suffix in ("-wal", "-shm", "-journal"):  # they belong to the damaged file and would spoil the new one
            path.with_name(path.name + suffix).unlink(missing_ok=True)
        path.replace(aside)
        log.warning("%s %s; the old file is kept as %s.", damage, self._what, aside.name)


@contextmanager
def _disk_in_words(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise disk_error(error, path) from error


class _Closing:
    """Closes its file at the end of a `with` block."""

    _file: Refillable

    def close(self) -> None:
        self._file.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


APPLICATION = 0x4C617243  # "LarC"
MIGRATIONS = ("CREATE TABLE response (key TEXT PRIMARY KEY, body TEXT NOT NULL) WITHOUT ROWID;",)


class ResponseCache(_Closing):
    """Answers by key. Several processes may share the file.

    It can always be refilled, so a damaged file is moved aside with a warning and never stops a run.
    """

    def __init__(self, path: Path) -> None:
        self._file = Refillable(
            path, application=APPLICATION, migrations=MIGRATIONS, what="The response cache starts empty"
        )

    def get_many(self, keys: Iterable[str]) -> dict[str, dict[str, Any]]:
        """The bodies of those keys that are known. A row that holds no JSON object is dropped."""
        found: dict[str, dict[str, Any]] = {}
        foreign: list[str] = []
        query = f"SELECT key, {_fitting('body')} AS body FROM response WHERE key IN ({{keys}})"
        try:
            for row in self._file.database.rows_of(query, list(keys)):
                body = _object(row["body"])
                if body is None:
                    foreign.append(row["key"])
                else:
                    found[row["key"]] = body
        except DataError as damage:
            self._file.start_anew(damage)
        if foreign:
            self.drop_many(foreign)
        return found

    def drop_many(self, keys: Sequence[str]) -> None:
        """Forget what was found to be no answer."""
        log.warning(
            "%s: %d of the kept answers cannot be read. Their prompts are answered again.", self._file.path, len(keys)
        )
        self.forget_many(keys)

    def forget_many(self, keys: Sequence[str]) -> None:
        """Forget answers that were kept for a time."""
        with self._file.database.transaction() as connection:
            connection.executemany("DELETE FROM response WHERE key = ?", [(key,) for key in keys])

    def put_many(self, bodies: Mapping[str, Mapping[str, Any]]) -> None:
        """Store all or none. Of two bodies for one key the first stays: a replay must not change its answer."""
        rows = [(key, json.dumps(body)) for key, body in bodies.items()]
        self._file.insert("INSERT OR IGNORE INTO response (key, body) VALUES (?, ?)", rows)


_LONGEST_BODY = 64 * 2**20  # no answer of an endpoint is longer, escaped


def _fitting(column: str) -> str:
    """The column, or NULL where it holds no text or too much of it."""
    return f"CASE WHEN typeof({column}) = 'text' AND length({column}) <= {_LONGEST_BODY} THEN {column} END"


def _object(body: str | None) -> dict[str, Any] | None:
    """The JSON object of a row. None for anything else."""
    try:
        found = None if body is None else parse_json(body, lenient=True)
    except NotJson:
        return None
    return found if isinstance(found, dict) else None


SUITE_APPLICATION = 0x4C617247  # "LarG"
SUITE_MIGRATIONS = (
    """
    CREATE TABLE answer (
        model TEXT NOT NULL, suite TEXT NOT NULL, version INTEGER NOT NULL, mode TEXT NOT NULL, item TEXT NOT NULL,
        opening TEXT NOT NULL, said TEXT NOT NULL, seconds REAL NOT NULL, tokens_in INTEGER NOT NULL,
        tokens_out INTEGER NOT NULL,
        PRIMARY KEY (model, suite, version, mode, item, opening)
    ) WITHOUT ROWID;
    """,
)


@dataclass(frozen=True, slots=True)
class Asking:
    """Who was asked what. model: its fingerprint and what computes it. mode: how the suite asks, where it has several ways."""

    model: str
    suite: str
    version: int
    mode: str = ""


@dataclass(frozen=True, slots=True)
class KeptAnswer:
    """said: what was said, JSON-able; None where the model's context cannot hold the item. seconds: its share of its batch.
    tokens_in, tokens_out: read and said for it.
    """

    said: dict[str, Any] | None
    seconds: float = 0.0
    tokens_in: int = 0
    tokens_out: int = 0


class SuiteAnswers(_Closing):
    """Answers by who was asked what, and the item. Several processes may share the file; it can always be refilled.

    opening: hash of what an item asks first, and of its facts, by which it asks on. An item of the same name that asks something
    else is another one, also where a suite's version was not raised.

    instead: used from the first disk error on, with a warning. Only the file shared by all projects has one.
    """

    def __init__(
        self, path: Path, *, journal: Journal = "WAL", private: bool = False, instead: SuiteAnswers | None = None
    ) -> None:
        self._instead = instead
        try:
            self._file = Refillable(
                path,
                application=SUITE_APPLICATION,
                migrations=SUITE_MIGRATIONS,
                what="The kept answers of the gate start empty",
                journal=journal,
                private=private,
            )
        except InfrastructureError as refusal:
            self._file = self._taken_over(refusal)

    def known(self, asking: Asking, openings: Mapping[str, str]) -> dict[str, KeptAnswer]:
        """Those of these items that are known. openings: by item id."""
        return self._by_file(lambda file: _known(file, asking, openings))

    def put(self, asking: Asking, openings: Mapping[str, str], answers: Mapping[str, KeptAnswer]) -> None:
        """Store all or none. Of two answers of one item the first stays."""
        rows = [
            (
                *_values(asking),
                item,
                openings[item],
                json.dumps(kept.said),
                kept.seconds,
                kept.tokens_in,
                kept.tokens_out,
            )
            for item, kept in answers.items()
        ]
        self._by_file(lambda file: file.insert(_INSERT, rows))

    def _by_file(self, use: Callable[[Refillable], _T]) -> _T:
        try:
            return use(self._file)
        except InfrastructureError as refusal:
            refused, self._file = self._file, self._taken_over(refusal)
            refused.close()
            return use(self._file)

    def _taken_over(self, refusal: InfrastructureError) -> Refillable:
        """The file of `instead`. Raises the refusal where there is none or it was used before."""
        if self._instead is None:
            raise refusal
        file, self._instead = self._instead._file, None
        log.warning(
            "%s: %s. The base's answers are kept in %s instead, for this workspace alone. "
            "If this happens again, set LASTRESORT_CACHE to another folder.",
            refusal.where,
            refusal.found,
            file.path,
        )
        return file


_INSERT = "INSERT OR IGNORE INTO answer VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"


def _known(file: Refillable, asking: Asking, openings: Mapping[str, str]) -> dict[str, KeptAnswer]:
    found: dict[str, KeptAnswer] = {}
    query = (
        f"SELECT item, opening, {_fitting('said')} AS said, seconds, tokens_in, tokens_out FROM answer "
        "WHERE model = ? AND suite = ? AND version = ? AND mode = ? AND item IN ({keys})"
    )
    try:
        for row in file.database.rows_of(query, list(openings), _values(asking)):
            if row["opening"] == openings[row["item"]]:
                found[row["item"]] = _kept(row, file.path)
    except DataError as damage:
        file.start_anew(damage)
        return {}
    return found


def _kept(row: sqlite3.Row, path: Path) -> KeptAnswer:
    """Raises DataError for what `put` has not written."""
    said = None if row["said"] == "null" else _object(row["said"])
    counts, seconds = (row["tokens_in"], row["tokens_out"]), row["seconds"]
    if (said is None and row["said"] != "null") or not (
        all(type(count) is int and count >= 0 for count in counts)
        and type(seconds) is float
        and 0 <= seconds < math.inf
    ):
        raise DataError("found a row that is no answer", where=str(path), expected="an answer that lastresort kept")
    return KeptAnswer(said, seconds, *counts)


def _values(asking: Asking) -> tuple[Any, ...]:
    """In the order of the columns."""
    return (asking.model, asking.suite, asking.version, asking.mode)
