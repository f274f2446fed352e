"""The record gives back what was written, keeps everything, and says in one sentence why a file cannot be read."""

from __future__ import annotations

import math
import sqlite3
from dataclasses import replace
from pathlib import Path

import pytest

from lastresort.errors import ContractError, DataError
from lastresort.records.record import MIGRATIONS, ItemScore, Measurement, Record
from lastresort.types import Judgement

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


def test_events_by_kind_and_key(record: Record) -> None:
    record.note("verdict", {"outcome": "NOT_MET"}, key="prompting")
    record.note("verdict", {"outcome": "MET"}, key="sft")
    record.note("task", {"bar": 0.85, "about": "Zürich ✓"})
    assert record.notes("verdict") == [{"outcome": "NOT_MET"}, {"outcome": "MET"}]
    assert record.notes("verdict", "prompting") == [{"outcome": "NOT_MET"}]
    assert record.last("verdict") == {"outcome": "MET"}
    assert record.last("verdict", "prompting") == {"outcome": "NOT_MET"}
    assert record.last("verdict", "full") is None
    assert record.last("task") == {"bar": 0.85, "about": "Zürich ✓"}
    assert [(event["kind"], event["key"]) for event in record.events()] == [
        ("run", ""),
        ("verdict", "prompting"),
        ("verdict", "sft"),
        ("task", ""),
    ]
    assert all(event["at"].endswith("+00:00") for event in record.events())


def test_dataclasses_and_paths_become_json(record: Record) -> None:
    record.note("verdict", {"judged": Judgement("MET", 0.9, 10, 20, (0.8, 0.95)), "path": Path("adapters/a")})
    body = record.last("verdict")
    assert body is not None
    assert body["judged"]["interval"] == [0.8, 0.95]
    assert body["path"] == str(Path("adapters/a"))
    with pytest.raises(ContractError, match="the task event cannot be written as JSON"):
        record.note("task", {"thing": object()})


def test_half_a_surrogate_pair_is_kept_in_escaped_form(record: Record) -> None:
    record.note("task", {"about": "broken \ud83d"})
    record.add_measurement(replace(MEASURED, items=(replace(RIGHT, answer="broken \ud83d"),)))
    assert record.last("task") == {"about": "broken \ud83d"}
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
    record.note("task", {})
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
            record.note("task", {})
    assert [path.name for path in tmp_path.iterdir()] == ["record.sqlite"]


def test_a_reader_sees_a_run_in_progress(record: Record) -> None:
    record.note("task", {"bar": 0.5})
    with Record.open(record.folder, read_only=True) as reader:
        assert reader.last("task") == {"bar": 0.5}
        record.note("decision", {"verdict": "MET"})
        assert reader.last("decision") == {"verdict": "MET"}


def test_every_record_is_a_run_of_its_own(tmp_path: Path) -> None:
    with Record.create(tmp_path / "run") as first, Record.create(tmp_path / "other") as other:
        assert first.run_id != other.run_id
        name = first.run_id
        assert len(name) == 32
    with Record.open(tmp_path / "run", read_only=True) as again:
        assert again.run_id == name


def test_a_record_of_an_older_version_is_known_by_its_folder(tmp_path: Path) -> None:
    """As its uses of test items stand in the ledger."""
    Record.create(tmp_path / "t-1").close()
    with sqlite3.connect(tmp_path / "t-1" / "record.sqlite") as database:
        database.execute("DROP TRIGGER event_keeps_delete")
        database.execute("DELETE FROM event")
    with Record.open(tmp_path / "t-1") as record:
        assert record.run_id == "t-1"
