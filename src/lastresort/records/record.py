"""The record of a run: everything that was measured, append-only, in one SQLite file.

Events are JSON bodies under a kind and a key. The first is run, with the run's id. The climb writes: task, files, place,
documents, data, sizes, too_long, judge, agreement, judged, spent, store, retrieval, ceiling, replay, race, training, search,
frozen, given_up, rewarded, skip, saving, verdict, base_answers, base_sums, gate_mode, gate, repairs, repair, repair_plan,
repair_test, compare_asked, compare_rate, compare_trained, compared, comparison, not_compared, decision; a recheck writes
recheck. Measurements are kept item by item, curves step by step.
"""

from __future__ import annotations

import dataclasses
import json
import uuid
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from lastresort.errors import ContractError, DataError
from lastresort.records.atomic import disk_error
from lastresort.records.database import Database, connect, connect_read_only
from lastresort.records.measurement import ItemScore, Measurement

__all__ = ["FILE_NAME", "ItemScore", "Measurement", "Record"]

FILE_NAME = "record.sqlite"
APPLICATION = 0x4C617374  # "Last"

MIGRATIONS = (
    """
    CREATE TABLE event (
        id INTEGER PRIMARY KEY, at TEXT NOT NULL, kind TEXT NOT NULL, key TEXT NOT NULL, body TEXT NOT NULL
    );
    CREATE INDEX event_by_kind ON event (kind, key, id);
    CREATE TABLE measurement (
        id INTEGER PRIMARY KEY, at TEXT NOT NULL, rung TEXT NOT NULL, candidate TEXT NOT NULL, split TEXT NOT NULL,
        n_available INTEGER NOT NULL
    );
    CREATE INDEX measurement_by_name ON measurement (rung, candidate, split, id);
    CREATE TABLE item (
        measurement INTEGER NOT NULL REFERENCES measurement (id), position INTEGER NOT NULL, id TEXT NOT NULL,
        score REAL NOT NULL, answer TEXT NOT NULL, expected TEXT NOT NULL, input TEXT NOT NULL, finish TEXT NOT NULL,
        format_ok INTEGER, prompt_tokens INTEGER NOT NULL, completion_tokens INTEGER NOT NULL, seconds REAL NOT NULL,
        usd REAL NOT NULL, PRIMARY KEY (measurement, position)
    ) WITHOUT ROWID;
    CREATE TABLE curve (
        id INTEGER PRIMARY KEY, at TEXT NOT NULL, candidate TEXT NOT NULL, step INTEGER NOT NULL, body TEXT NOT NULL
    );
    CREATE INDEX curve_by_candidate ON curve (candidate, id);
    """
    + "".join(
        f"""
    CREATE TRIGGER {table}_keeps_{change.lower()} BEFORE {change} ON {table}
    BEGIN SELECT RAISE(ABORT, 'the record is append-only'); END;
    """
        for table in ("event", "measurement", "item", "curve")
        for change in ("UPDATE", "DELETE")
    ),
    "ALTER TABLE item ADD COLUMN passages TEXT NOT NULL DEFAULT '[]';",
)

_ITEM_FIELDS = tuple(field.name for field in dataclasses.fields(ItemScore))
_ADD_ITEM = (
    f"INSERT INTO item (measurement, position, {', '.join(_ITEM_FIELDS)}) "
    f"VALUES (?, ?, {', '.join('?' * len(_ITEM_FIELDS))})"
)


class Record:
    """An open record. Whatever a call wrote is on the disk when the call returns, and survives a kill at any moment."""

    def __init__(self, folder: Path, database: Database) -> None:
        self.folder = folder
        self._database = database

    @classmethod
    def create(cls, folder: Path) -> Record:
        """Start the record of a new run in `folder`, which is made if it is missing.

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
        # Made under another name first: record.sqlite is whole from its first moment on.
        new = folder / f"{FILE_NAME}.new"
        try:
            folder.mkdir(parents=True, exist_ok=True)
            for rest in folder.glob(f"{new.name}*"):
                rest.unlink()
            with cls(folder, connect(new, application=APPLICATION, migrations=MIGRATIONS)) as record:
                record.note("run", {"id": uuid.uuid4().hex})
            new.replace(path)
        except OSError as error:
            raise disk_error(error, path) from error
        return cls.open(folder)

    @classmethod
    def open(cls, folder: Path, read_only: bool = False) -> Record:
        """Open the record of an existing run. Raises DataError if it is missing, damaged or newer than this program."""
        path = folder / FILE_NAME
        if not path.is_file():
            raise DataError(
                f"found no {FILE_NAME}",
                where=str(folder),
                expected="the folder of a run",
                remedy="Name a folder that `lastresort climb` has written, such as runs/<task>-1.",
            )
        if path.stat().st_size == 0:
            raise DataError(
                "found an empty file",
                where=str(path),
                expected="an SQLite database written by lastresort",
                remedy="Restore it from a copy, or start a new run.",
            )
        way = connect_read_only if read_only else connect
        return cls(folder, way(path, application=APPLICATION, migrations=MIGRATIONS))

    @property
    def run_id(self) -> str:
        """Which run this is, wherever its folder is moved; a record of an older version has its folder's name."""
        noted = self.last("run")
        return str(noted["id"]) if noted is not None else self.folder.name

    @property
    def lacking_knowledge(self) -> frozenset[str] | None:
        """Ids of the dev items that were wrong closed book and right with the right passage; None where that is not measured."""
        noted = self.last("ceiling")
        return frozenset(noted["knowledge"]) if noted is not None and noted["systems"] else None

    def close(self) -> None:
        self._database.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def note(self, kind: str, body: Mapping[str, Any], key: str = "") -> None:
        """Append an event. body: JSON values; dataclasses become objects, paths and dates text.

        Raises ContractError for anything else.
        """
        text = _json(body, what=f"the {kind} event")
        with self._database.transaction() as connection:
            connection.execute("INSERT INTO event (at, kind, key, body) VALUES (?, ?, ?, ?)", (_now(), kind, key, text))

    def notes(self, kind: str, key: str | None = None) -> list[dict[str, Any]]:
        """Bodies of the events of this kind, oldest first; of one key where it is given."""
        return [event["body"] for event in self.events(kind) if key is None or event["key"] == key]

    def last(self, kind: str, key: str = "") -> dict[str, Any] | None:
        """Body of the newest event of this kind and key; without a key, of this kind whatever its key."""
        bodies = self.notes(kind, key or None)
        return bodies[-1] if bodies else None

    def events(self, kind: str | None = None) -> list[dict[str, Any]]:
        """Whole events {id, at, kind, key, body}, oldest first. at: UTC, ISO 8601."""
        rows = self._database.rows(
            "SELECT id, at, kind, key, body FROM event WHERE ?1 IS NULL OR kind = ?1 ORDER BY id", (kind,)
        )
        return [{**dict(row), "body": json.loads(row["body"])} for row in rows]

    def add_measurement(self, measurement: Measurement) -> None:
        """Append a measurement with all its items, or nothing of it."""
        m = measurement
        with self._database.transaction() as connection:
            number = connection.execute(
                "INSERT INTO measurement (at, rung, candidate, split, n_available) VALUES (?, ?, ?, ?, ?)",
                (_now(), m.rung, m.candidate, m.split, m.n_available),
            ).lastrowid
            connection.executemany(
                _ADD_ITEM,
                [
                    (number, position, *(_storable(getattr(item, field)) for field in _ITEM_FIELDS))
                    for position, item in enumerate(m.items)
                ],
            )

    def measurement(self, rung: str, candidate: str, split: str) -> Measurement | None:
        """The newest measurement of this candidate on this split: one completed later replaces an early stop."""
        rows = self._database.rows(
            "SELECT * FROM measurement WHERE rung = ? AND candidate = ? AND split = ? ORDER BY id DESC LIMIT 1",
            (rung, candidate, split),
        )
        return self._with_items(rows[0]) if rows else None

    def measurements(self) -> list[Measurement]:
        """The newest measurement of every candidate and split, in the order they were written."""
        rows = self._database.rows(
            "SELECT * FROM measurement WHERE id IN (SELECT max(id) FROM measurement GROUP BY rung, candidate, split) "
            "ORDER BY id"
        )
        return [self._with_items(row) for row in rows]

    def dev_items(self, rung: str, candidate: str | None) -> dict[str, ItemScore]:
        """What a candidate of a search answered on dev, by item; it is measured in stretches, so in several measurements."""
        own = [
            m for m in self.measurements() if (m.rung, m.candidate) == (rung, candidate) and m.split.startswith("dev[")
        ]
        return {item.id: item for measurement in own for item in measurement.items}

    def add_curve_point(self, candidate: str, step: int, values: Mapping[str, float]) -> None:
        """Append what was seen at one training step: loss, learning_rate, dev_score …; not-finite numbers are kept."""
        text = _json({name: float(value) for name, value in values.items()}, what="a curve point")
        with self._database.transaction() as connection:
            connection.execute(
                "INSERT INTO curve (at, candidate, step, body) VALUES (?, ?, ?, ?)", (_now(), candidate, step, text)
            )

    def curve(self, candidate: str) -> list[dict[str, float]]:
        """Points {step, …values} of one candidate by step; of a step written twice (a resumed run) the newer values."""
        points: dict[int, dict[str, float]] = {}
        for row in self._database.rows("SELECT step, body FROM curve WHERE candidate = ? ORDER BY id", (candidate,)):
            points.setdefault(row["step"], {"step": row["step"]}).update(json.loads(row["body"]))
        return [points[step] for step in sorted(points)]

    def curves(self) -> dict[str, list[dict[str, float]]]:
        """Every candidate's curve, in the order of first appearance."""
        rows = self._database.rows("SELECT candidate FROM curve GROUP BY candidate ORDER BY min(id)")
        return {row["candidate"]: self.curve(row["candidate"]) for row in rows}

    def _with_items(self, row: Any) -> Measurement:
        found = self._database.rows(
            f"SELECT {', '.join(_ITEM_FIELDS)} FROM item WHERE measurement = ? ORDER BY position", (row["id"],)
        )
        return Measurement(row["rung"], row["candidate"], row["split"], row["n_available"], tuple(map(_item, found)))


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds")


def _item(row: Any) -> ItemScore:
    format_ok = None if row["format_ok"] is None else bool(row["format_ok"])
    return ItemScore(**{**dict(row), "format_ok": format_ok, "passages": tuple(json.loads(row["passages"]))})


def _storable(value: Any) -> Any:
    """Half of a surrogate pair, which JSON files can hold and SQLite's text cannot, is kept in its escaped form."""
    if isinstance(value, tuple):
        return json.dumps(value)
    return value.encode("utf-8", "backslashreplace").decode() if isinstance(value, str) else value


def _json(body: Mapping[str, Any], *, what: str) -> str:
    try:
        return json.dumps(body, default=_plain)  # ASCII, so that any text can be stored
    except (TypeError, ValueError) as error:
        raise ContractError(f"{what} cannot be written as JSON ({error})") from error


def _plain(value: Any) -> Any:
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return dataclasses.asdict(value)
    if isinstance(value, Path | datetime):
        return str(value)
    raise TypeError(f"found a {type(value).__name__}")
