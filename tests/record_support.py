"""Records that somebody changed behind the program's back."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from contextlib import closing, suppress
from pathlib import Path

from lastresort.records.chain import SOURCES, seal

Edit = str | Callable[[sqlite3.Connection], object]


def edit(run: Path, *edits: Edit, rechain: bool = False) -> None:
    """Change the record of a run as somebody with an SQLite browser would. rechain: and compute all hashes again."""
    with closing(sqlite3.connect(run / "record.sqlite", isolation_level=None)) as raw:
        raw.row_factory = sqlite3.Row
        raw.execute("PRAGMA synchronous = OFF")
        triggers = raw.execute("SELECT name, sql FROM sqlite_master WHERE type = 'trigger'").fetchall()
        for name, _ in triggers:
            raw.execute(f"DROP TRIGGER {name}")
        for one in edits:
            raw.execute(one) if isinstance(one, str) else one(raw)
        if rechain:
            _rechain(raw)
        for _, sql in triggers:
            with suppress(sqlite3.OperationalError):  # its table is gone, or is none any more
                raw.execute(sql)


def _rechain(raw: sqlite3.Connection) -> None:
    order = [(entry["source"], entry["row"]) for entry in raw.execute("SELECT source, row FROM chain ORDER BY id")]
    there = {
        (table, row["id"]): None for table in SOURCES for row in raw.execute(f"SELECT id FROM {table} ORDER BY id")
    }
    raw.execute("DELETE FROM chain")
    raw.text_factory = lambda data: data.decode("utf-8", "replace")
    for table, number in [*(entry for entry in order if entry in there), *(there.keys() - set(order))]:
        seal(raw, table, number)
