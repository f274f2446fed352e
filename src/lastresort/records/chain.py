"""What is read back from the tables of a record: rows of the right types, and the chain of hashes that shows a change.

Whatever is appended is entered into the table `chain` in the same transaction, with the sha256 of its content and of the entry
before. So an edited, deleted, added or reordered row shows. A record that ends early is whole: a crash leaves one, and the run goes
on from it. The chain guards against mistakes and careless edits. Whoever recomputes all hashes is not found out.
"""

from __future__ import annotations

import hashlib
import json
import math
import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from lastresort.foreign import DEEPEST, json_depth

Table = Literal["event", "measurement", "item", "curve", "chain", "stage"]
Columns = Mapping[str, tuple[type, ...]]

_NUMBER, _TEXT, _REAL = (int,), (str,), (float,)
COLUMNS: Mapping[Table, Columns] = {
    "event": {"id": _NUMBER, "at": _TEXT, "kind": _TEXT, "key": _TEXT, "body": _TEXT},
    "measurement": {
        "id": _NUMBER,
        "at": _TEXT,
        "rung": _TEXT,
        "candidate": _TEXT,
        "split": _TEXT,
        "n_available": _NUMBER,
    },
    "item": {
        "measurement": _NUMBER,
        "position": _NUMBER,
        "id": _TEXT,
        "score": _REAL,
        "answer": _TEXT,
        "expected": _TEXT,
        "input": _TEXT,
        "finish": _TEXT,
        "format_ok": (int, type(None)),
        "prompt_tokens": _NUMBER,
        "completion_tokens": _NUMBER,
        "seconds": _REAL,
        "usd": _REAL,
        "passages": _TEXT,
    },
    "curve": {"id": _NUMBER, "at": _TEXT, "candidate": _TEXT, "step": _NUMBER, "body": _TEXT},
    "chain": {"id": _NUMBER, "source": _TEXT, "row": _NUMBER, "sha256": _TEXT},
    "stage": {"id": _NUMBER, "body": _TEXT},
}


class NotAsWritten(ValueError):
    """A row that this program did not write so."""


def select(table: Table, rest: str) -> str:
    """The query for whole rows of a table, which `typed` checks."""
    return f"SELECT {', '.join(COLUMNS[table])} FROM {table} {rest}"


def typed(table: Table, row: sqlite3.Row) -> sqlite3.Row:
    """The row itself. Raises NotAsWritten where a value is of another type than its column has, or is not finite."""
    for value, (column, types) in zip(tuple(row), COLUMNS[table].items(), strict=True):
        if type(value) not in types or (types is _REAL and not math.isfinite(value)):
            raise NotAsWritten(f"{place_of(table, row)}, column {column}: {_shown(value)}")
    return row


def place_of(table: Table, row: sqlite3.Row) -> str:
    match table:
        case "event":
            return f"event {row['id']} ({row['kind']})"
        case "item":
            return f"item {row['position']} of measurement {row['measurement']}"
        case "measurement":
            return f"measurement {row['id']} ({row['rung']}, {row['candidate']}, {row['split']})"
        case "curve":
            return f"point {row['id']} of the training curves"
        case _:
            return f"entry {row['id']} of the table {table}"


def _shown(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 40 else f"{text[:40]}…"


def body_of(table: Table, row: sqlite3.Row, column: str = "body") -> Any:
    """The JSON value in a column of a row. Numbers may be NaN or infinite, as losses are. Raises NotAsWritten."""
    try:
        value = json.loads(row[column])
    except (ValueError, RecursionError) as error:
        raise NotAsWritten(f"{place_of(table, row)}: no JSON ({error})") from error
    text: str = row[column]
    if (
        text.count("{") + text.count("[") > DEEPEST and json_depth(value) > DEEPEST
    ):  # else it cannot be, and is not walked
        raise NotAsWritten(f"{place_of(table, row)}: JSON of more than {DEEPEST} levels")
    return value


def curve_point(row: sqlite3.Row) -> dict[str, float]:
    """{step, …values} of a row of `curve`. Raises NotAsWritten."""
    values = body_of("curve", row)
    if not isinstance(values, dict) or not all(type(value) in (int, float) for value in values.values()):
        raise NotAsWritten(f"{place_of('curve', row)}: {_shown(values)}, which are no numbers by name")
    return {"step": row["step"], **{name: float(value) for name, value in values.items() if name != "step"}}


SOURCES: tuple[Table, ...] = ("event", "measurement", "curve")
_AS_TEXT = json.JSONEncoder(default=repr).encode  # one for all rows: `json.dumps` makes one for each


def seal(connection: sqlite3.Connection, source: Table, number: int) -> None:
    """Enter the row of that number, and its items where it is a measurement, into the chain. It is read back for that: SQLite may
    have stored another type than it was given.
    """
    [row] = connection.execute(select(source, "WHERE id = ?"), (number,))
    items: list[sqlite3.Row] = []
    if source == "measurement":
        items = connection.execute(select("item", "WHERE measurement = ? ORDER BY position"), (number,)).fetchall()
    last = connection.execute("SELECT sha256 FROM chain ORDER BY id DESC LIMIT 1").fetchone()
    sha256 = entry_sha256("" if last is None else last["sha256"], source, row, items)
    connection.execute("INSERT INTO chain (source, row, sha256) VALUES (?, ?, ?)", (source, number, sha256))


def entry_sha256(before: str, source: str, row: sqlite3.Row, items: list[sqlite3.Row]) -> str:
    digest = hashlib.sha256(f"{before} {source}".encode())
    for one in (row, *items):
        digest.update(_AS_TEXT(tuple(one)).encode())
    return digest.hexdigest()


@dataclass(frozen=True, slots=True)
class Changed:
    """what: is not as the run wrote it, in words. row: which of `table`, None where the chain itself was changed."""

    what: str
    table: Table | None = None
    row: int | None = None


def changes(connection: sqlite3.Connection, sources: Sequence[Table] = SOURCES) -> Iterator[Changed]:
    """Whatever is not as the run wrote it, in the order of the chain. Each table is read once. sources: what is checked. Most of a
    record are the items of its measurements.
    """
    rows = {table: _Ahead(connection.execute(select(table, "ORDER BY id")), "id") for table in sources}
    measured_items = "ORDER BY measurement, position" if "measurement" in sources else "WHERE 0"
    items = _Ahead(connection.execute(select("item", measured_items)), "measurement")
    before, expected = "", 1
    for entry in connection.execute(select("chain", "ORDER BY id")):
        source, number, sha256 = entry["source"], entry["row"], entry["sha256"]
        if entry["id"] != expected or source not in SOURCES or type(number) is not int:
            yield Changed(f"entry {expected} of the chain of hashes is missing or was changed")
            return
        last, before, expected = before, sha256, expected + 1
        if source not in rows:
            continue
        found = rows[source].up_to(number)
        row = found.pop() if found and found[-1]["id"] == number else None
        yield from (_added(source, other) for other in found)
        measured = items.up_to(number) if source == "measurement" else []
        if row is None:
            yield Changed(f"{source} {number} was deleted", source, number)
        elif entry_sha256(last, source, row, measured) != sha256:
            yield Changed(f"{place_of(source, row)} was changed", source, number)
    for table in sources:
        yield from (_added(table, row) for row in rows[table].rest())
    if items.rest():
        yield Changed("items were added that belong to no measurement")


def _added(table: Table, row: sqlite3.Row) -> Changed:
    return Changed(f"{place_of(table, row)} was added", table, row["id"])


class _Ahead:
    """Rows in the order of a column, which are taken up to a number."""

    def __init__(self, rows: sqlite3.Cursor, column: str) -> None:
        self._rows, self._column = rows, column
        self._head = rows.fetchone()

    def up_to(self, number: int) -> list[sqlite3.Row]:
        found = []
        while self._head is not None and type(self._head[self._column]) is int and self._head[self._column] <= number:
            found.append(self._head)
            self._head = self._rows.fetchone()
        return found

    def rest(self) -> list[sqlite3.Row]:
        return [] if self._head is None else [self._head, *self._rows.fetchall()]
