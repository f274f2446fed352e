"""How often each test item has been used across runs: a test set that is looked at again and again wears out."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Self

from lastresort.records.atomic import disk_error
from lastresort.records.database import connect
from lastresort.types import Example

APPLICATION = 0x4C61724C  # "LarL"
MIGRATIONS = (
    """
    CREATE TABLE use (hash TEXT NOT NULL, run TEXT NOT NULL, at TEXT NOT NULL, PRIMARY KEY (hash, run)) WITHOUT ROWID;
    """,
)


def item_hash(example: Example) -> str:
    """Hash of the input; the label is left out, since correcting it does not make an item fresh."""
    turns = [message.as_dict() for message in example.input]
    return hashlib.sha256(json.dumps(turns, sort_keys=True).encode()).hexdigest()


@dataclass(frozen=True, slots=True)
class ItemReuse:
    """Of n test items, `used` were in the tests of earlier runs, one of them in `most` of these."""

    n: int
    used: int
    most: int


def reuse_of(uses: Sequence[int]) -> ItemReuse:
    """uses: for every test item the number of earlier runs that used it."""
    return ItemReuse(len(uses), sum(count > 0 for count in uses), max(uses, default=0))


class Ledger:
    """Uses of test items, by hash and run; one file for all runs of a workspace. Several processes may share it.

    A run is named by the id in its record, not by its folder, whose name the next run can have.
    """

    def __init__(self, path: Path) -> None:
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise disk_error(error, path) from error
        self._database = connect(path, application=APPLICATION, migrations=MIGRATIONS)

    def use(self, hashes: Iterable[str], run: str) -> None:
        """Enter that `run` tested on these items; entering them again changes nothing."""
        at = datetime.now(UTC).isoformat(timespec="seconds")
        with self._database.transaction() as connection:
            connection.executemany("INSERT OR IGNORE INTO use VALUES (?, ?, ?)", [(h, run, at) for h in hashes])

    def uses(self, hashes: Iterable[str], *without: str) -> dict[str, int]:
        """For each hash the number of runs that used it. without: runs that do not count."""
        counts = dict.fromkeys(hashes, 0)
        runs = ", ".join("?" * len(without))
        query = f"SELECT hash, count(*) AS n FROM use WHERE run NOT IN ({runs}) AND hash IN ({{keys}}) GROUP BY hash"
        rows = self._database.rows_of(query, list(counts), without)
        counts.update({row["hash"]: row["n"] for row in rows})
        return counts

    def reuse(self, hashes: Collection[str], *without: str) -> ItemReuse:
        """How many of these items earlier runs used, and how often at most. without: runs that do not count."""
        return reuse_of(list(self.uses(hashes, *without).values()))

    def close(self) -> None:
        self._database.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
