"""The record gives back what was written, keeps everything, and says in one sentence why a file cannot be read."""

from __future__ import annotations

import json
import math
import re
import sqlite3
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from climb_support import statement
from lastresort.errors import ContractError, DataError
from lastresort.records import database
from lastresort.records.events import KINDS
from lastresort.records.events.base import BaseEvent, Stage
from lastresort.records.events.run import ClimbDecided, TaskRead
from lastresort.records.events.search import RungSkipped, RungTested
from lastresort.records.events.training import BaseSummed
from lastresort.records.record import ItemScore, Measurement, Record
from lastresort.records.record_file import MIGRATIONS
from lastresort.types import Judgement, VerdictBasis
from record_support import edit

RIGHT = ItemScore(
    "a", 1.0, '{"team":"billing"}', '{"team":"billing"}', "Zu viel abgebucht 💶", "stop", True, 40, 8, 0.5, 0.01
)
WRONG = ItemScore("b", 0.0, "", '{"team":"sales"}', "hello\x00there", "length", None, 60, 12, 0.25, 0.02)
MEASURED = Measurement("prompting", "few-shot-3", "dev", 5, (RIGHT, WRONG))


@pytest.fixture
def record(tmp_path: Path):
    with Record.create(tmp_path / "run") as record:
        yield record


def test_measurement_returns_every_item_as_it_was_written(record: Record) -> None:
    record.add_measurement(MEASURED)
    assert record.measurement("prompting", "few-shot-3", "dev") == MEASURED
    assert record.measurement("prompting", "few-shot-3", "test") is None
    assert record.measurements() == [MEASURED]


def test_measurement_sums_its_items() -> None:
    m = MEASURED
    assert (m.n, m.score, m.tokens_in, m.tokens_out, m.seconds, m.cut) == (2, 0.5, 100, 20, 0.75, 0.5)
    assert math.isclose(m.usd, 0.03)
    empty = replace(m, items=())
    assert (empty.n, empty.score, empty.cut) == (0, 0.0, 0.0)


def test_a_later_measurement_replaces_the_earlier_in_the_answer_but_not_in_the_file(record: Record) -> None:
    other = Measurement("sft", "lr-1e-4", "dev", 5, (WRONG,))
    completed = replace(MEASURED, items=(RIGHT, WRONG, replace(RIGHT, id="c")))
    for measurement in (MEASURED, other, completed):
        record.add_measurement(measurement)
    assert record.measurement("prompting", "few-shot-3", "dev") == completed
    assert record.measurements() == [other, completed]
    with sqlite3.connect(record.folder / "record.sqlite") as raw:
        assert raw.execute("SELECT count(*) FROM measurement").fetchone() == (3,)


def test_a_measurement_that_fails_half_way_leaves_nothing(record: Record) -> None:
    with pytest.raises(ContractError):
        record.add_measurement(replace(MEASURED, items=(RIGHT, replace(WRONG, answer=None))))  # type: ignore[arg-type]
    assert record.measurements() == []


def skipped(rung: str, reason: str) -> RungSkipped:
    return RungSkipped(rung=rung, reason=statement(reason))


def test_events_by_kind_and_key(record: Record) -> None:
    task = TaskRead(task={"bar": 0.85, "about": "Zürich ✓"})
    events = [skipped("sft", "a"), skipped("full", "b"), task, skipped("sft", "c")]
    numbers = [record.append(event) for event in events]
    assert numbers == sorted(set(numbers))
    assert record.all(RungSkipped) == [events[0], events[1], events[3]]
    assert record.all(RungSkipped, "sft") == [events[0], events[3]]
    assert record.last(RungSkipped) == events[3]
    assert record.last(RungSkipped, "full") == events[1]
    assert record.last(RungSkipped, "preference") is None
    assert record.last(TaskRead) == task
    assert record.last(ClimbDecided) is None
    began, ended = record.times()
    assert began <= ended
    assert began.utcoffset() == timedelta(0)


def test_whoever_follows_gets_every_event_once_and_typed(record: Record) -> None:
    record.append(skipped("sft", "a"))
    seen = list(record.since())
    assert [event.kind for _, event in seen] == ["run_began", "rung_skipped"]
    number = record.append(skipped("full", "b"))
    assert list(record.since(seen[-1][0])) == [(number, skipped("full", "b"))]
    assert list(record.since(number)) == []


def test_values_come_back_as_they_went_in(record: Record) -> None:
    judgement = Judgement("MET", 0.9, 10, 20, (0.8, 0.95), decided=VerdictBasis("exact", 0.01, 0.8))
    record.append(RungTested(rung="prompting", system="zero-shot", judgement=judgement))
    found = record.last(RungTested, "prompting")
    assert found is not None
    assert found.judgement == judgement
    assert isinstance(found.judgement.interval, tuple)
    summed = BaseSummed(
        rung="sft", prompts="x", precision="f", counts=(1, 0, 0), general=-2.5, task=math.inf, prose=0.0
    )
    record.append(summed)
    assert record.last(BaseSummed, "x f") == summed


def test_an_event_takes_no_field_that_it_does_not_have() -> None:
    with pytest.raises(ValidationError, match="why"):
        RungSkipped(rung="sft", reason=statement("a"), why="b")  # type: ignore[call-arg]


def test_an_event_that_json_cannot_hold_is_refused(record: Record) -> None:
    with pytest.raises(ContractError, match="the event task_read cannot be written as JSON"):
        record.append(TaskRead(task={"thing": object()}))


def test_every_kind_is_named_as_its_class_and_stands_in_the_list() -> None:
    subclasses = [BaseEvent]
    for kind in subclasses:
        subclasses += kind.__subclasses__()
    leaves = {kind for kind in subclasses if not kind.__subclasses__()}
    assert set(KINDS.values()) == leaves
    assert all(re.sub(r"(?<!^)([A-Z])", r"_\1", kind.__name__).lower() == name for name, kind in KINDS.items())


@pytest.mark.parametrize(
    ("kind", "body", "found"),
    [
        ("rung_flown", {"rung": "sft"}, "found an event of the kind rung_flown"),
        (
            "rung_skipped",
            {"rung": "sft", "reason": {"code": "a", "figures": {}, "text": "a"}, "weather": 1},
            r"found at event 2 \(rung_skipped\), key weather",
        ),
    ],
)
def test_an_event_of_a_newer_version_is_one_sentence(
    record: Record, kind: str, body: dict[str, Any], found: str
) -> None:
    with sqlite3.connect(record.folder / "record.sqlite") as raw:
        raw.execute("INSERT INTO event VALUES (2, '2026-01-01', ?, '', ?)", (kind, json.dumps(body)))
    with pytest.raises(DataError, match=rf"{found}.*Another lastresort wrote it"):
        list(record.since())


def test_a_measurement_says_in_an_event_what_its_items_amount_to(record: Record) -> None:
    knows_not = replace(WRONG, id="c", format_ok=True, finish="refused")
    ill = replace(WRONG, id="d", format_ok=False)
    record.add_measurement(replace(MEASURED, items=(RIGHT, WRONG, knows_not, ill)))
    [event] = record.measured()
    assert (event.rung, event.candidate, event.split, event.n, event.n_available) == (
        "prompting",
        "few-shot-3",
        "dev",
        4,
        5,
    )
    assert (event.score, event.cut, event.refused, event.ill_formed, event.wrong) == (0.25, 2, 1, ("d",), ("b", "c"))
    assert (event.tokens_in, event.tokens_out) == (220, 44)


def test_of_two_measurements_of_a_split_the_newer_counts(record: Record) -> None:
    other = Measurement("sft", "lr", "dev", 5, (WRONG,))
    for measurement in (MEASURED, other, replace(MEASURED, items=(RIGHT,))):
        record.add_measurement(measurement)
    assert [(event.rung, event.score) for event in record.measured()] == [("sft", 0.0), ("prompting", 1.0)]
    assert [event.rung for event in record.measured("sft")] == ["sft"]


def test_dev_items_are_those_of_one_candidate_over_all_its_stretches(record: Record) -> None:
    for split, item in (("dev[0:1]", RIGHT), ("dev[1:2]", WRONG), ("test", replace(RIGHT, id="t"))):
        record.add_measurement(Measurement("prompting", "a", split, 1, (item,)))
    record.add_measurement(Measurement("prompting", "b", "dev[0:1]", 1, (replace(RIGHT, id="other"),)))
    record.add_measurement(Measurement("sft", "a", "dev[0:1]", 1, (replace(RIGHT, id="other"),)))
    assert record.dev_items("prompting", "a") == {"a": RIGHT, "b": WRONG}
    assert record.dev_items("prompting", None) == {}


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def test_the_stage_is_one_row_that_is_replaced_at_most_twice_a_second_while_it_goes_on(tmp_path: Path) -> None:
    clock = Clock()
    with Record.create(tmp_path) as made, Record(made._file, clock=clock) as record:
        assert record.stage() is None
        stages = [
            Stage(label="sft: training", rung="sft", done=done, total=9, loss=1.5, spent_s=2.0) for done in range(4)
        ]
        record.now(stages[0])
        record.now(stages[1])
        assert record.stage() == stages[0]
        clock.now += 0.5
        record.now(stages[2])
        assert record.stage() == stages[2]
        record.now(stages[3])
        record.append(skipped("full", "a"))  # a transaction that is written anyhow takes it along
        assert record.stage() == stages[3]
        record.now(Stage(label="sft: saving", rung="sft"))  # what begins is seen at once: it may take long
        assert record.stage() == Stage(label="sft: saving", rung="sft")
        with sqlite3.connect(tmp_path / "record.sqlite") as raw:
            assert raw.execute("SELECT count(*) FROM stage").fetchone() == (1,)


def test_the_last_stage_is_written_when_the_record_is_closed(tmp_path: Path) -> None:
    with Record.create(tmp_path) as record:
        record.now(Stage(label="a", done=1))
        record.now(Stage(label="a", done=2))
    with Record.open(tmp_path, read_only=True) as record:
        assert record.stage() == Stage(label="a", done=2)


def test_a_stage_that_says_more_than_this_version_knows_can_be_read(tmp_path: Path) -> None:
    with Record.create(tmp_path) as record:
        record.now(Stage(label="a", done=1))
    with sqlite3.connect(tmp_path / "record.sqlite") as raw:
        raw.execute("UPDATE stage SET body = json_set(body, '$.climb_left_s', 9.0)")
    with Record.open(tmp_path, read_only=True) as record:
        assert record.stage() == Stage(label="a", done=1)


def test_every_page_is_looked_at_only_where_the_file_was_not_closed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[str] = []
    opened = database._open

    def tracing(uri: str) -> sqlite3.Connection:
        connection = opened(uri)
        connection.set_trace_callback(seen.append)
        return connection

    monkeypatch.setattr(database, "_open", tracing)
    with Record.create(tmp_path) as record:
        record.append(skipped("sft", "a"))
        seen.clear()
        Record.open(tmp_path, read_only=True).close()  # beside a writer, whose log is there
        assert "PRAGMA quick_check(1)" in seen
        seen.clear()
        Record.open(tmp_path, read_only=True, checked=False).close()  # as a page does every second
        assert seen
        assert "PRAGMA quick_check(1)" not in seen
    seen.clear()
    Record.open(tmp_path).close()
    assert seen
    assert "PRAGMA quick_check(1)" not in seen


def test_half_a_surrogate_pair_is_kept_in_escaped_form(record: Record) -> None:
    record.append(TaskRead(task={"about": "broken \ud83d"}))
    record.append(skipped("sft", "broken \ud83d"))
    record.add_measurement(replace(MEASURED, items=(replace(RIGHT, answer="broken \ud83d"),)))
    assert record.last(TaskRead) == TaskRead(task={"about": "broken \ud83d"})
    assert record.last(RungSkipped) == skipped("sft", "broken \ud83d")
    found = record.measurement("prompting", "few-shot-3", "dev")
    assert found is not None
    assert found.items[0].answer == "broken \\ud83d"


def test_curves_by_step_where_a_resumed_run_repeats_some(record: Record) -> None:
    for step, loss in ((1, 2.0), (2, 1.5), (3, 1.4), (2, 1.45)):
        record.add_curve_point("lr-1e-4", step, {"loss": loss})
    record.add_curve_point("lr-1e-4", 2, {"dev_score": 0.5})
    record.add_curve_point("lr-1e-3", 1, {"loss": math.inf})
    assert record.curve("lr-1e-4") == [
        {"step": 1, "loss": 2.0},
        {"step": 2, "loss": 1.45, "dev_score": 0.5},
        {"step": 3, "loss": 1.4},
    ]
    assert list(record.curves()) == ["lr-1e-4", "lr-1e-3"]
    assert record.curves()["lr-1e-3"] == [{"step": 1, "loss": math.inf}]
    assert record.curve("unknown") == []


@pytest.mark.parametrize("table", ["event", "measurement", "item", "curve"])
def test_nothing_can_be_changed_or_deleted(record: Record, table: str) -> None:
    record.add_measurement(MEASURED)
    record.add_curve_point("a", 1, {"loss": 1.0})
    column = {"event": "kind", "measurement": "rung", "item": "answer", "curve": "candidate"}[table]
    with sqlite3.connect(record.folder / "record.sqlite") as raw:
        for change in (f"UPDATE {table} SET {column} = 'x'", f"DELETE FROM {table}"):
            with pytest.raises(sqlite3.IntegrityError, match="append-only"):
                raw.execute(change)


def test_create_refuses_a_folder_with_a_record(record: Record) -> None:
    with pytest.raises(DataError, match=r"found a record of an earlier run.*--resume"):
        Record.create(record.folder)


def test_open_refuses_a_missing_record(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"found no record\.sqlite, expected the folder of a run"):
        Record.open(tmp_path)


def test_open_refuses_a_newer_record_and_a_foreign_database(tmp_path: Path) -> None:
    Record.create(tmp_path / "newer").close()
    with sqlite3.connect(tmp_path / "newer" / "record.sqlite") as raw:
        raw.execute(f"PRAGMA user_version = {len(MIGRATIONS) + 1}")
    (tmp_path / "foreign").mkdir()
    with sqlite3.connect(tmp_path / "foreign" / "record.sqlite") as raw:
        raw.execute("CREATE TABLE cookies (id)")
    for read_only in (False, True):
        with pytest.raises(DataError, match="written by a newer lastresort"):
            Record.open(tmp_path / "newer", read_only=read_only)
        with pytest.raises(DataError, match="database of another program"):
            Record.open(tmp_path / "foreign", read_only=read_only)


def test_read_only_cannot_write_and_leaves_no_file_behind(tmp_path: Path) -> None:
    with Record.create(tmp_path) as record:
        record.add_measurement(MEASURED)
    with Record.open(tmp_path, read_only=True) as record:
        assert record.measurements() == [MEASURED]
        with pytest.raises(Exception, match="disk refused"):
            record.append(skipped("sft", "a"))
    assert [path.name for path in tmp_path.iterdir()] == ["record.sqlite"]


def test_a_reader_sees_a_run_in_progress(record: Record) -> None:
    record.append(TaskRead(task={"bar": 0.5}))
    with Record.open(record.folder, read_only=True) as reader:
        assert reader.last(TaskRead) == TaskRead(task={"bar": 0.5})
        record.append(skipped("sft", "a"))
        assert reader.last(RungSkipped) == skipped("sft", "a")


def test_every_record_is_a_run_of_its_own(tmp_path: Path) -> None:
    with Record.create(tmp_path / "run") as first, Record.create(tmp_path / "other") as other:
        assert first.run_id != other.run_id
        name = first.run_id
        assert len(name) == 32
    with Record.open(tmp_path / "run", read_only=True) as again:
        assert again.run_id == name


def test_a_record_without_its_beginning_is_damaged(tmp_path: Path) -> None:
    Record.create(tmp_path / "t-1").close()
    edit(tmp_path / "t-1", "DELETE FROM event", rechain=True)
    with pytest.raises(DataError, match="found no beginning of a run"):
        Record.open(tmp_path / "t-1")


KEY = "sk-a-key-that-must-not-be-seen"
WRITES = {
    "an event": lambda record: record.append(TaskRead(task={"about": f"it is {KEY}", KEY: 1})),
    "what the run is at": lambda record: record.now(Stage(label=f"it is {KEY}")),
    "passages": lambda record: record.add_measurement(replace(MEASURED, items=(replace(RIGHT, passages=(KEY,)),))),
    **{
        f"the {name} of an item": lambda record, name=name: record.add_measurement(
            replace(MEASURED, items=(replace(RIGHT, **{name: f"it is {KEY}"}),))
        )
        for name in ("id", "answer", "expected", "input")
    },
}


@pytest.mark.parametrize("what", WRITES)
def test_no_key_of_the_environment_is_kept(what: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Rows and local models may hold one, and records are shared."""
    monkeypatch.setenv("LASTRESORT_API_KEY", KEY)
    with Record.create(tmp_path) as record:
        WRITES[what](record)
    kept = (tmp_path / "record.sqlite").read_bytes()
    assert b"***" in kept
    assert KEY.encode() not in kept
