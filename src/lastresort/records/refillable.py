"""Databases that can always be filled again: a damaged one is moved aside with a warning and never stops anything."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from lastresort.errors import DataError
from lastresort.records.atomic import disk_error
from lastresort.records.database import Database, connect

log = logging.getLogger(__name__)


class Refillable:
    """A database that starts anew where its file is damaged or foreign. what: its name in the warning."""

    def __init__(self, path: Path, *, application: int, migrations: Sequence[str], what: str) -> None:
        self._path, self._application, self._migrations, self._what = path, application, migrations, what
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
        self._move_aside(damage)
        self.database = self._open()

    def close(self) -> None:
        self.database.close()

    def _insert(self, statement: str, rows: Sequence[Sequence[Any]]) -> None:
        with self.database.transaction() as connection:
            connection.executemany(statement, rows)

    def _open(self) -> Database:
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            return self._connected()
        except DataError as damage:
            self._move_aside(damage)
            return self._connected()
        except OSError as error:
            raise disk_error(error, self._path) from error

    def _connected(self) -> Database:
        return connect(self._path, application=self._application, migrations=self._migrations)

    def _move_aside(self, damage: Exception) -> None:
        """Rename the file to the next free `<name>.damaged-<n>`."""
        path = self._path
        aside = next(
            candidate
            for number in range(1, 1_000_000)
            if not (candidate := path.with_name(f"{path.name}.damaged-{number}")).exists()
        )
        for suffix in ("-wal", "-shm"):  # they belong to the damaged file and would spoil the new one
            path.with_name(path.name + suffix).unlink(missing_ok=True)
        path.replace(aside)
        log.warning("%s %s; the old file is kept as %s.", damage, self._what, aside.name)
