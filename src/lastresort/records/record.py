"""The record of a run: every event in order, items of what was measured, curves of what was trained (in a file: record_file.py).

Besides them one row that is replaced says what the run is at. Whoever follows a run reads `since` and `stage`.
"""

from __future__ import annotations

import json
import os
import sqlite3
import time
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Self, TypeVar

from pydantic import ValidationError

from lastresort.errors import ContractError
from lastresort.keys import known_keys, without_keys
from lastresort.records.chain import SOURCES, Table, body_of, curve_point, place_of, seal
from lastresort.records.database import Journal
from lastresort.records.events import KINDS, Event
from lastresort.records.events.base import BaseEvent, E, EventValue, Stage
from lastresort.records.events.run import AnswersJudged, RunBegan
from lastresort.records.events.search import CandidateMeasured, CeilingMeasured
from lastresort.records.items import (
    ADD_ITEM,
    AnswerGroup,
    ItemCounts,
    ItemPlace,
    ItemQuery,
    ItemsWanted,
    MeasuredPart,
    RecordedItem,
    counts_by_events,
    counts_of,
    item_of,
    query_of,
    stored_item,
)
from lastresort.records.measurement import DEV, ItemScore, Measurement, whole_of
from lastresort.records.record_file import FILE_NAME, RecordFile
from lastresort.types import JsonObject

__all__ = ["FILE_NAME", "ItemScore", "Measurement", "Record"]

STAGE_EVERY_S = 0.5
V = TypeVar("V", bound=EventValue)


class Record:
    """An open record. Whatever a call appended is on the disk when the call returns, and survives a kill at any moment."""

    def __init__(self, file: RecordFile, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._file, self._clock = file, clock
        self._at: Stage | None = None
        self._unwritten: Stage | None = None
        self._stage_at = -STAGE_EVERY_S

    @classmethod
    def create(cls, folder: Path, first: Event | None = None, journal: Journal = "WAL") -> Record:
        """Start the record of a new run in `folder`, which is made if it is missing. first: an event of its first moment.
        journal: as of `connect`.

        Raises DataError if the folder holds a record already, InfrastructureError if the disk refuses.
        """
        with RecordFile.begun(folder) as file:
            record = cls(file)
            record.append(RunBegan(id=uuid.uuid4().hex))
            if first is not None:
                record.append(first)
        return cls.open(folder, journal=journal)

    @classmethod
    def open(
        cls,
        folder: Path,
        read_only: bool = False,
        checked: bool = True,
        sources: Sequence[Table] = SOURCES,
        journal: Journal = "WAL",
    ) -> Record:
        """Open the record of an existing run. The arguments are those of `RecordFile.open`, and so is what it raises."""
        record = cls(RecordFile.open(folder, read_only, checked, sources, journal))
        try:
            record.run_id  # noqa: B018  a file that lost its first event is damaged
        except BaseException:
            record.close()
            raise
        return record

    @property
    def folder(self) -> Path:
        return self._file.folder

    @property
    def run_id(self) -> str:
        """Which run this is, wherever its folder is moved. Raises DataError where the record does not say."""
        began = self.last(RunBegan)
        if began is None:
            raise self._file.damaged("found no beginning of a run")
        return began.id

    @property
    def lacking_knowledge(self) -> frozenset[str] | None:
        """Ids of the dev items that were wrong closed book and right with the right passage; None where that is not measured."""
        measured = self.last(CeilingMeasured)
        return frozenset(measured.knowledge) if measured is not None and measured.systems else None

    def close(self) -> None:
        try:
            if self._unwritten is not None:
                with self._file.writing() as connection:
                    self._write_stage(connection)
        finally:
            self._file.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def append(self, event: Event) -> int:
        """Append an event; returns its number."""
        with self._file.writing() as connection:
            return self._append(connection, event)

    def last(self, kind: type[E], key: str = "") -> E | None:
        """The newest event of this kind and key; without a key, of this kind whatever its key."""
        rows = self._rows_of(kind, key, "DESC LIMIT 1")
        return self._read(kind, rows[0]) if rows else None

    def all(self, kind: type[E], key: str = "") -> list[E]:
        """The events of this kind, oldest first; of one key where it is given."""
        return [self._read(kind, row) for row in self._rows_of(kind, key, "")]

    def bodies(self, kind: type[BaseEvent]) -> list[JsonObject]:
        """The events of this kind as they were written, oldest first; a field that came later is not there."""
        rows = self._rows_of(kind, "", "")
        for row in rows:
            self._read(kind, row)
        return [body_of("event", row) for row in rows]

    def since(self, number: int = 0) -> Iterator[tuple[int, Event]]:
        """Every event after that of this number, with its own, oldest first. Raises DataError at one that a newer version wrote."""
        for row in self._file.rows("event", "WHERE id > ? ORDER BY id", number):
            kind = KINDS.get(row["kind"])
            if kind is None:
                raise self._file.newer(f"found an event of the kind {row['kind']}")
            yield row["id"], self._read(kind, row)

    def times(self, until: int | None = None) -> tuple[datetime, datetime]:
        """When the run began, and when its newest event was written, of those up to the number `until`. UTC."""
        newest = self.newest()[0] if until is None else until
        first, last = (
            self._file.rows("event", f"WHERE id <= ? ORDER BY at {order}, id LIMIT 1", newest)[0]
            for order in ("ASC", "DESC")
        )
        return self._time(first), self._time(last)

    def written_at(self, kind: type[BaseEvent]) -> datetime | None:
        """When the newest event of this kind was written, UTC; None where there is none."""
        rows = self._rows_of(kind, "", "DESC LIMIT 1")
        return self._time(rows[0]) if rows else None

    def newest(self) -> tuple[int, int]:
        """Numbers of the newest event and of the newest point of a curve, 0 where there is none: both grow, nothing else does."""
        event, point = (self._file.rows(table, "ORDER BY id DESC LIMIT 1") for table in ("event", "curve"))
        return event[0]["id"] if event else 0, point[0]["id"] if point else 0

    def now(self, stage: Stage) -> None:
        """Say what the run is at: one row. It is replaced at once where something else begins, as what follows may take long; while
        the same goes on, at most every STAGE_EVERY_S, and with every event.
        """
        begins = self._at is None or (self._at.label, self._at.place) != (stage.label, stage.place)
        self._at = self._unwritten = stage
        if begins or self._clock() - self._stage_at >= STAGE_EVERY_S:
            with self._file.writing() as connection:
                self._write_stage(connection)

    def stage(self) -> Stage | None:
        """The stage that the run was last in; None before the first."""
        rows = self._file.rows("stage", "")
        return self._read(Stage, rows[0]) if rows else None

    def add_measurement(self, measurement: Measurement) -> None:
        """Append a measurement with all its items and its event, or nothing of it."""
        m, keys = measurement, known_keys(os.environ)
        with self._file.writing() as connection:
            number = connection.execute(
                "INSERT INTO measurement (at, rung, candidate, split, n_available) VALUES (?, ?, ?, ?, ?)",
                (_now(), m.rung, m.candidate, m.split, m.n_available),
            ).lastrowid
            assert number is not None
            connection.executemany(
                ADD_ITEM,
                [(number, position, *stored_item(item, keys)) for position, item in enumerate(m.items)],
            )
            seal(connection, "measurement", number)
            self._append(connection, CandidateMeasured.of(m))

    def measurement(self, rung: str, candidate: str, split: str) -> Measurement | None:
        """The newest measurement of this candidate on this split: one completed later replaces an early stop."""
        rows = self._file.rows(
            "measurement",
            "WHERE rung = ? AND candidate = ? AND split = ? ORDER BY id DESC LIMIT 1",
            rung,
            candidate,
            split,
        )
        return self._with_items(rows[0]) if rows else None

    def measurements(self) -> list[Measurement]:
        """The newest measurement of every candidate and split, in the order they were written, with all items."""
        return [self._with_items(row) for row in self._newest(None, None)]

    def _newest(self, rung: str | None, candidate: str | None) -> list[sqlite3.Row]:
        return self._file.rows(
            "measurement",
            "WHERE id IN (SELECT max(id) FROM measurement WHERE (?1 IS NULL OR rung = ?1) "
            "AND (?2 IS NULL OR candidate = ?2) GROUP BY rung, candidate, split) ORDER BY id",
            rung,
            candidate,
        )

    def measured(self, rung: str = "") -> list[CandidateMeasured]:
        """Of every candidate and split, in the order of the newest measurement, without items; of one rung where it is given."""
        newest: dict[tuple[str, str, str], CandidateMeasured] = {}
        for event in self.all(CandidateMeasured, rung):
            place = event.rung, event.candidate, event.split
            newest.pop(place, None)
            newest[place] = event
        return list(newest.values())

    def dev_items(self, rung: str, candidate: str | None) -> dict[str, ItemScore]:
        """What a candidate of a search answered on dev, by item; it is measured in stretches, so in several measurements."""
        if candidate is None:
            return {}
        stretches = [row for row in self._newest(rung, candidate) if whole_of(row["split"]) == DEV]
        return {item.id: item for row in stretches for item in self._with_items(row).items}

    def parts(self) -> list[MeasuredPart]:
        """The newest measurement of every candidate and split, without its items."""
        return [MeasuredPart.of(row) for row in self._newest(None, None)]

    def count_items(self, wanted: ItemsWanted) -> ItemCounts:
        if not wanted.is_of_texts and wanted.against is None:
            return counts_by_events(wanted, self.measured(), self.lacking_knowledge or frozenset())
        query = self._query(wanted)
        [row] = self._file.query(query.counting, query.values)
        return counts_of(tuple(row))

    def answer_groups(self, wanted: ItemsWanted) -> list[AnswerGroup]:
        """What was expected and what was answered, and how often."""
        query = self._query(wanted)
        rows = self._file.query(query.groups, query.values)
        return [AnswerGroup(expected, answer, n) for expected, answer, n in rows]

    def page_of_items(
        self, wanted: ItemsWanted, start: int, count: int, kept: Callable[[ItemScore], ItemScore] = lambda item: item
    ) -> list[tuple[RecordedItem, RecordedItem | None]]:
        """Items in the order they were measured, from number `start` on, each with the other system's answer where one is wanted.

        kept: what is kept of each, so that long texts of a whole page need not be held at once.
        """
        return [
            (self._item_at(one, at, kept), None if other is None else self._item_at(other, other_at, kept))
            for one, at, other, other_at, _ in self._places(wanted, start, count)
        ]

    def places_of_items(self, wanted: ItemsWanted) -> list[ItemPlace]:
        """Where all of them are, to draw some. Where another system is wanted, the places of its answers are their `other`."""
        return [
            ItemPlace(one, at, item, None if other is None else ItemPlace(other, other_at, item))
            for one, at, other, other_at, item in self._places(wanted, 0, -1)
        ]

    def item(self, measurement: int, position: int) -> RecordedItem | None:
        """The item at this place, with all that is recorded of it; None where there is none."""
        there = self._file.rows("item", "WHERE measurement = ? AND position = ?", measurement, position)
        return self._recorded(there[0], lambda item: item) if there else None

    def answers_to(self, item: str, kept: Callable[[ItemScore], ItemScore] = lambda item: item) -> list[RecordedItem]:
        """What every system answered to the item of this id, in the order they were measured. kept: as in `page_of_items`."""
        numbers = ", ".join(str(part.number) for part in self.parts())
        query = f"SELECT measurement, position FROM item WHERE id = ? AND measurement IN ({numbers}) ORDER BY 1, 2"
        return [self._item_at(one, at, kept) for one, at in self._file.query(query, (item,))]

    def inputs(self) -> Iterator[tuple[str, str]]:
        """Split and text of every input that was answered, once each."""
        query = "SELECT DISTINCT measurement.split, item.input FROM item JOIN measurement ON measurement.id = item.measurement"
        for split, text in self._file.query(query, ()):
            yield whole_of(str(split)), str(text)

    def verdicts_on(self, item: str, answer: str) -> tuple[str, ...] | None:
        """What the run's judge said of an answer, None where it was not asked. answer: the hash that the record knows it by."""
        rows = self._file.rows(
            "event", "WHERE kind = ? AND instr(body, ?) ORDER BY id DESC", "answers_judged", json.dumps(item)
        )
        judged = (one for row in rows for one in self._read(AnswersJudged, row).items)
        return next((one.said for one in judged if (one.id, one.answer) == (item, answer)), None)

    def _places(self, wanted: ItemsWanted, start: int, count: int) -> list[sqlite3.Row]:
        query = self._query(wanted)
        return self._file.query(query.places, {**query.values, "start": start, "count": count})

    def _query(self, wanted: ItemsWanted) -> ItemQuery:
        return query_of(wanted, self.parts(), self.lacking_knowledge or frozenset())

    def _item_at(self, measurement: int, position: int, kept: Callable[[ItemScore], ItemScore]) -> RecordedItem:
        [row] = self._file.rows("item", "WHERE measurement = ? AND position = ?", measurement, position)
        return self._recorded(row, kept)

    def _recorded(self, row: sqlite3.Row, kept: Callable[[ItemScore], ItemScore]) -> RecordedItem:
        [whole] = self._file.rows("measurement", "WHERE id = ?", row["measurement"])
        with self._file.damage_in_words():
            item = kept(item_of(row))
        part = MeasuredPart.of(whole)
        return RecordedItem(row["measurement"], row["position"], part.system, part.split, item)

    def add_curve_point(self, candidate: str, step: int, values: Mapping[str, float]) -> None:
        """Append what was seen at one training step: loss, learning_rate, dev_score …; not-finite numbers are kept."""
        text = json.dumps({name: float(value) for name, value in values.items()})
        with self._file.writing() as connection:
            number = connection.execute(
                "INSERT INTO curve (at, candidate, step, body) VALUES (?, ?, ?, ?)", (_now(), candidate, step, text)
            ).lastrowid
            assert number is not None
            seal(connection, "curve", number)

    def curve(self, candidate: str) -> list[dict[str, float]]:
        """Points {step, …values} of one candidate by step; of a step written twice (a resumed run) the newer values."""
        points: dict[int, dict[str, float]] = {}
        for row in self._file.rows("curve", "WHERE candidate = ? ORDER BY id", candidate):
            with self._file.damage_in_words():
                points.setdefault(row["step"], {}).update(curve_point(row))
        return [points[step] for step in sorted(points)]

    def curves(self) -> dict[str, list[dict[str, float]]]:
        """Every candidate's curve, in the order of first appearance."""
        rows = self._file.rows("curve", "WHERE id IN (SELECT min(id) FROM curve GROUP BY candidate) ORDER BY id")
        return {row["candidate"]: self.curve(row["candidate"]) for row in rows}

    def _rows_of(self, kind: type[BaseEvent], key: str, order: str) -> list[sqlite3.Row]:
        name = kind.model_fields["kind"].default
        if key:
            return self._file.rows("event", f"WHERE kind = ? AND key = ? ORDER BY id {order}", name, key)
        return self._file.rows("event", f"WHERE kind = ? ORDER BY id {order}", name)

    def _read(self, kind: type[V], row: sqlite3.Row) -> V:
        table: Table = "stage" if kind is Stage else "event"
        with self._file.damage_in_words():
            body = body_of(table, row)
        try:
            return kind.model_validate(body)
        except ValidationError as error:
            fault = error.errors()[0]
            place = ".".join(str(part) for part in fault["loc"])
            raise self._file.newer(f"found at {place_of(table, row)}, key {place}: {fault['msg']}") from error

    def _time(self, row: sqlite3.Row) -> datetime:
        try:
            return datetime.fromisoformat(row["at"]).astimezone(UTC)
        except (ValueError, OverflowError) as error:
            raise self._file.damaged(f"found at {place_of('event', row)} no time ({error})") from error

    def _append(self, connection: sqlite3.Connection, event: Event) -> int:
        if self._unwritten is not None:
            self._write_stage(connection)
        try:
            body = json.dumps(event.model_dump(mode="json", exclude={"kind"}))  # ASCII, so that any text can be stored
        except (TypeError, ValueError) as error:
            raise ContractError(f"the event {event.kind} cannot be written as JSON ({error})") from error
        number = connection.execute(
            "INSERT INTO event (at, kind, key, body) VALUES (?, ?, ?, ?)",
            (_now(), event.kind, event.key, without_keys(body)),
        ).lastrowid
        assert number is not None
        seal(connection, "event", number)
        return number

    def _write_stage(self, connection: sqlite3.Connection) -> None:
        assert self._unwritten is not None
        body = json.dumps(self._unwritten.model_dump(mode="json"))
        connection.execute("INSERT OR REPLACE INTO stage VALUES (1, ?)", (without_keys(body),))
        self._unwritten, self._stage_at = None, self._clock()

    def _with_items(self, row: sqlite3.Row) -> Measurement:
        found = self._file.rows("item", "WHERE measurement = ? ORDER BY position", row["id"])
        with self._file.damage_in_words():
            items = tuple(map(item_of, found))
        return Measurement(row["rung"], row["candidate"], row["split"], row["n_available"], items)


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds")
