"""What is whole of a damaged or changed record. Each row is read and checked on its own, so one that is lost costs no other."""

from __future__ import annotations

import shutil
import sqlite3
import tempfile
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path

from pydantic import ValidationError

from lastresort.records.atomic import disk_errors
from lastresort.records.chain import (
    SOURCES,
    NotAsWritten,
    Table,
    body_of,
    curve_point,
    entry_sha256,
    place_of,
    select,
    typed,
)
from lastresort.records.database import DAMAGES, companions, schema, schema_of
from lastresort.records.events import KINDS, Event
from lastresort.records.items import item_of
from lastresort.records.record_file import FILE_NAME, MIGRATIONS, damaged, no_record

GAP = 10_000  # rows in a row that cannot be read, after which nothing more is looked for


@dataclass
class Salvaged:
    """events: those that are whole. whole, of: rows by table. damage: what is not whole, in words."""

    events: list[Event] = field(default_factory=list)
    whole: dict[Table, int] = field(default_factory=dict)
    of: dict[Table, int] = field(default_factory=dict)
    damage: list[str] = field(default_factory=list)


def salvage(folder: Path) -> Salvaged:
    """Reads a copy, and changes nothing. Raises DataError where there is no record, or nothing can be read of it."""
    path = folder / FILE_NAME
    if not path.is_file():
        raise no_record(folder)
    with tempfile.TemporaryDirectory() as place, disk_errors(Path(place)):
        copy = Path(place) / FILE_NAME
        shutil.copyfile(path, copy)
        for beside, is_file in companions(path, "wal"):
            if is_file:
                shutil.copyfile(beside, copy.with_name(f"{FILE_NAME}-wal"))
        with closing(sqlite3.connect(copy, isolation_level=None)) as connection:
            connection.row_factory = sqlite3.Row
            connection.text_factory = lambda data: data.decode("utf-8", "backslashreplace")
            try:
                return _salvaged(connection)
            except DAMAGES as error:
                raise damaged(f"found nothing that can be read ({error})", folder, salvageable=False) from error


def _salvaged(connection: sqlite3.Connection) -> Salvaged:
    found, here = Salvaged(), schema(connection)
    tables = {table for table in (*SOURCES, "item", "chain") if _as_made(here, table)}
    entries = list(_rows(connection, "chain", found)) if "chain" in tables else []
    before = {entry["id"] + 1: entry["sha256"] for entry in entries} | {1: ""}
    sealed = {(entry["source"], entry["row"]): (before.get(entry["id"]), entry["sha256"]) for entry in entries}
    if not entries:
        found.damage.append("the chain of hashes is missing, so that an edit cannot be seen")
    for table in SOURCES:
        there = set()
        found.whole[table] = 0
        if table not in tables:
            found.damage.append(f"the table {table} is missing or was changed")
        for row in _rows(connection, table, found) if table in tables else ():
            there.add(row["id"])
            try:
                items = _items(connection, row["id"]) if table == "measurement" else []
                event = _CHECKS[table](row, items)
                _refuse_changed(table, row, items, sealed, whole=bool(entries))
            except NotAsWritten as error:
                found.damage.append(str(error))
                continue
            found.whole[table] += 1
            if event is not None:
                found.events.append(event)
        gone = sorted(number for source, number in sealed if source == table and number not in there)
        found.damage += [f"{table} {number} is missing" for number in gone]
        found.of[table] = len(there) + len(gone)
    return found


def _as_made(here: dict[str, str], table: str) -> bool:
    """Not, say, a view in its place."""
    name = f"the table {table}"
    return here.get(name) == schema_of(MIGRATIONS)[name]


def _rows(connection: sqlite3.Connection, table: Table, found: Salvaged) -> Iterator[sqlite3.Row]:
    """Rows by their number; those on a damaged page are passed over."""
    last, failed = 0, 0
    while failed < GAP:
        try:
            for row in connection.execute(select(table, "WHERE id > ? ORDER BY id"), (last,)):
                yield row
                last, failed = row["id"], 0
            return
        except DAMAGES as error:
            if not failed:
                found.damage.append(f"rows of the table {table} after {last} cannot be read ({error})")
            last, failed = last + 1, failed + 1


def _items(connection: sqlite3.Connection, measurement: int) -> list[sqlite3.Row]:
    try:
        return connection.execute(select("item", "WHERE measurement = ? ORDER BY position"), (measurement,)).fetchall()
    except DAMAGES as error:
        raise NotAsWritten(f"the items of measurement {measurement} cannot be read ({error})") from error


def _refuse_changed(
    table: Table,
    row: sqlite3.Row,
    items: list[sqlite3.Row],
    sealed: dict[tuple[str, int], tuple[str | None, str]],
    *,
    whole: bool,
) -> None:
    """Raises NotAsWritten where the chain knows the row as another, or not at all. whole: whether there is a chain."""
    before, sha256 = sealed.get((table, row["id"]), (None, ""))
    if not sha256 and whole:
        raise NotAsWritten(f"{place_of(table, row)} was added")
    if before is not None and entry_sha256(before, table, row, items) != sha256:
        raise NotAsWritten(f"{place_of(table, row)} was changed")


def _event(row: sqlite3.Row, _: list[sqlite3.Row]) -> Event:
    kind = KINDS.get(typed("event", row)["kind"])
    if kind is None:
        raise NotAsWritten(f"{place_of('event', row)} is of a kind that this version does not know")
    try:
        return kind.model_validate(body_of("event", row))
    except ValidationError as error:
        raise NotAsWritten(f"{place_of('event', row)}: {error.errors()[0]['msg']}") from error


def _measurement(row: sqlite3.Row, items: list[sqlite3.Row]) -> None:
    typed("measurement", row)
    for item in items:
        item_of(typed("item", item))


def _curve(row: sqlite3.Row, _: list[sqlite3.Row]) -> None:
    curve_point(typed("curve", row))


_CHECKS: dict[Table, Callable[[sqlite3.Row, list[sqlite3.Row]], Event | None]] = {
    "event": _event,
    "measurement": _measurement,
    "curve": _curve,
}
