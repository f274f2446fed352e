"""Answers that were paid for once: a repeated or resumed climb finds them here."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Self

from lastresort.errors import DataError
from lastresort.records.refillable import Refillable

APPLICATION = 0x4C617243  # "LarC"
MIGRATIONS = ("CREATE TABLE response (key TEXT PRIMARY KEY, body TEXT NOT NULL) WITHOUT ROWID;",)


class ResponseCache:
    """Answers by key. Several processes may share the file.

    It can always be refilled, so a damaged file is moved aside with a warning and never stops a run.
    """

    def __init__(self, path: Path) -> None:
        self._file = Refillable(
            path, application=APPLICATION, migrations=MIGRATIONS, what="The response cache starts anew"
        )

    def get_many(self, keys: Iterable[str]) -> dict[str, dict[str, Any]]:
        """The bodies of those keys that are known."""
        found: dict[str, dict[str, Any]] = {}
        try:
            query = "SELECT key, body FROM response WHERE key IN ({keys})"
            for row in self._file.database.rows_of(query, list(keys)):
                found[row["key"]] = json.loads(row["body"])
        except (DataError, json.JSONDecodeError) as damage:
            self._file.start_anew(damage)
        return found

    def put_many(self, bodies: Mapping[str, Mapping[str, Any]]) -> None:
        """Store all or none. Of two bodies for one key the first stays: a replay must not change its answer."""
        rows = [(key, json.dumps(body)) for key, body in bodies.items()]
        self._file.insert("INSERT OR IGNORE INTO response (key, body) VALUES (?, ?)", rows)

    def close(self) -> None:
        self._file.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
