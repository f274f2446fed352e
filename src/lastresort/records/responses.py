"""Answers that were paid for once: a repeated or resumed climb finds them here."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Self

from lastresort.errors import DataError
from lastresort.records.atomic import disk_error
from lastresort.records.database import Database, connect

APPLICATION = 0x4C617243  # "LarC"
MIGRATIONS = ("CREATE TABLE response (key TEXT PRIMARY KEY, body TEXT NOT NULL) WITHOUT ROWID;",)

log = logging.getLogger(__name__)


class ResponseCache:
    """Answers by key. Several processes may share the file.

    It can always be refilled, so a damaged file is moved aside with a warning and never stops a run.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._database = self._open()

    def get_many(self, keys: Iterable[str]) -> dict[str, dict[str, Any]]:
        """The bodies of those keys that are known."""
        found: dict[str, dict[str, Any]] = {}
        try:
            query = "SELECT key, body FROM response WHERE key IN ({keys})"
            for row in self._database.rows_of(query, list(keys)):
                found[row["key"]] = json.loads(row["body"])
        except (DataError, json.JSONDecodeError) as damage:
            self._start_anew(damage)
        return found

    def put_many(self, bodies: Mapping[str, Mapping[str, Any]]) -> None:
        """Store all or none. Of two bodies for one key the first stays: a replay must not change its answer."""
        rows = [(key, json.dumps(body)) for key, body in bodies.items()]
        try:
            self._insert(rows)
        except DataError as damage:
            self._start_anew(damage)
            self._insert(rows)

    def close(self) -> None:
        self._database.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _insert(self, rows: list[tuple[str, str]]) -> None:
        with self._database.transaction() as connection:
            connection.executemany("INSERT OR IGNORE INTO response (key, body) VALUES (?, ?)", rows)

    def _open(self) -> Database:
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            return connect(self._path, application=APPLICATION, migrations=MIGRATIONS)
        except DataError as damage:
            self._move_aside(damage)
            return connect(self._path, application=APPLICATION, migrations=MIGRATIONS)
        except OSError as error:
            raise disk_error(error, self._path) from error

    def _start_anew(self, damage: Exception) -> None:
        self._database.close()
        self._move_aside(damage)
        self._database = connect(self._path, application=APPLICATION, migrations=MIGRATIONS)

    def _move_aside(self, damage: Exception) -> None:
        aside = next(
            candidate
            for number in range(1, 1_000_000)
            if not (candidate := self._path.with_name(f"{self._path.name}.damaged-{number}")).exists()
        )
        for suffix in ("-wal", "-shm"):  # they belong to the damaged file and would spoil the new one
            self._path.with_name(self._path.name + suffix).unlink(missing_ok=True)
        self._path.replace(aside)
        log.warning("%s The response cache starts anew; the old file is kept as %s.", damage, aside.name)
