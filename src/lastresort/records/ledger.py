"""How often each test item has been used across runs: a test set that is looked at again and again wears out."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection, Iterable, Sequence
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
    """Hash of what the model is asked; the label is left out, since correcting it does not make an item fresh."""
    turns = [message.as_dict() for message in example.input]
    return hashlib.sha256(json.dumps(turns, sort_keys=True).encode()).hexdigest()


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

    def uses(self, hashes: Iterable[str], excluding_run: str = "") -> dict[str, int]:
        """For each hash the number of runs that used it, without `excluding_run`."""
        counts = dict.fromkeys(hashes, 0)
        query = "SELECT hash, count(*) AS n FROM use WHERE run <> ? AND hash IN ({keys}) GROUP BY hash"
        rows = self._database.rows_of(query, list(counts), (excluding_run,))
        counts.update({row["hash"]: row["n"] for row in rows})
        return counts

    def reuse_summary(self, hashes: Collection[str], excluding_run: str = "") -> str:
        """One sentence or two for the report: how many of these items earlier runs used, and what to do about it."""
        return reuse_sentence(list(self.uses(hashes, excluding_run).values()))

    def close(self) -> None:
        self._database.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def speaks_of_reuse(sentence: str) -> bool:
    """Whether a sentence of `reuse_sentence` has to be heeded."""
    return bool(sentence) and not sentence.startswith(("None of ", "There is no "))


def reuse_sentence(uses: Sequence[int]) -> str:
    """uses: for every test item the number of earlier runs that used it."""
    used, most = sum(count > 0 for count in uses), max(uses, default=0)
    if not uses:
        return "There is no test set."
    if used == 0:
        return f"None of the {len(uses):,} test items was used by an earlier run in this workspace."
    items = f"All {used:,}" if used == len(uses) else f"{used:,} of {len(uses):,}"
    times = "once" if most == 1 else f"up to {most} times"
    return (
        f"{items} test items were used by earlier runs, {times}. Whatever was changed after seeing those results is "
        "fitted to these items, so the stated confidence is too high: hold out fresh items before the next decision."
    )
