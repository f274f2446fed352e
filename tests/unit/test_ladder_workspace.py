"""Which run a command works on, and what it leaves when it is refused."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Any

import pytest

from lastresort.climb.workspace import (
    new_run,
    newest_run,
    note_resumed,
    run_lock,
    shared_folder,
    withdrawn_if_refused,
)
from lastresort.errors import (
    DataError,
    InfrastructureError,
    InputError,
    PrerequisiteError,
    StopRequestedError,
    TaskError,
)
from lastresort.records.database import Database, connect
from lastresort.records.document import Statement
from lastresort.records.events.run import ClimbFinished, ClimbResumed, ClimbStopped, ModelOpened
from lastresort.records.events.search import RungGivenUp
from lastresort.records.record import Record
from lastresort.records.record_file import RecordGoneError
from lastresort.records.view import fold_of
from lastresort.systems.running import winner_status


def begun(run: Path) -> Path:
    with Record.create(run) as record:
        record.append(ModelOpened(fingerprint="m", max_new_tokens=8, price_known=True))
    return run


def refused(run: Path, error: type[Exception]) -> None:
    """A climb that makes its folders and is refused then."""
    with withdrawn_if_refused(run, made_here=True):
        with run_lock(run):
            Record.create(run).close()
            shared_folder(run)
        raise error("no")


def test_runs_are_numbered_by_task(tmp_path: Path) -> None:
    runs = tmp_path / "runs"
    assert [new_run(runs, "a").name for _ in range(3)] == ["a-1", "a-2", "a-3"]
    (runs / "a-9").mkdir()
    for other in ("a-x", "a-²", "a-٣", "a-", "a--2", "a-1.5"):
        (runs / other).mkdir()
    assert new_run(runs, "a").name == "a-10"
    assert new_run(runs, "b").name == "b-1"


def test_a_run_is_unfinished_until_it_says_that_it_has_ended(tmp_path: Path) -> None:
    with pytest.raises(TaskError, match="no unfinished run"):
        newest_run(tmp_path, "a", unfinished=True)
    first, second = begun(tmp_path / "a-2"), begun(tmp_path / "a-10")
    (tmp_path / "a-11").mkdir()
    assert newest_run(tmp_path, "a", unfinished=True) == second
    for written in ("decision.json", "report.html"):  # a report may be drawn at any time
        (second / written).write_text("{}")
        assert newest_run(tmp_path, "a", unfinished=True) == second
    with Record.open(second) as record:
        record.append(ClimbFinished())
    assert newest_run(tmp_path, "a", unfinished=True) == first


def test_a_run_whose_start_failed_is_taken_only_where_there_is_no_other(tmp_path: Path) -> None:
    failed = begun(tmp_path / "a-2")
    assert newest_run(tmp_path, "a", unfinished=True) == failed
    with Record.open(begun(tmp_path / "a-1")) as record:
        record.append(RungGivenUp(rung="prompting", reason=Statement(code="no gain", figures={}, text="No.")))
    assert newest_run(tmp_path, "a", unfinished=True) == tmp_path / "a-1"
    assert newest_run(tmp_path, "a", unfinished=False) == tmp_path / "a-1"
    with Record.open(failed) as record:  # a training that has not ended a lap
        record.add_curve_point("sft", 1, {"loss": 2.0})
    assert newest_run(tmp_path, "a", unfinished=True) == failed


def test_a_run_that_was_stopped_before_its_first_rung_is_the_one_that_goes_on(tmp_path: Path) -> None:
    with Record.open(begun(tmp_path / "a-1")) as record:
        record.append(RungGivenUp(rung="prompting", reason=Statement(code="no gain", figures={}, text="No.")))
    with Record.open(begun(tmp_path / "a-2")) as record:
        record.append(ClimbStopped(by="signal"))
    begun(tmp_path / "a-3")
    assert newest_run(tmp_path, "a", unfinished=True) == tmp_path / "a-2"
    with Record.open(tmp_path / "a-2") as record:
        record.append(ClimbResumed())
        record.append(ClimbStopped(by="error", error="the endpoint is gone."))
    assert newest_run(tmp_path, "a", unfinished=True) == tmp_path / "a-2", "also after an error"
    with Record.open(tmp_path / "a-3") as record:
        record.append(ClimbStopped(by="error", error="the endpoint is gone."))
    assert newest_run(tmp_path, "a", unfinished=True) == tmp_path / "a-2", "an error alone is no request"


def test_a_finished_run_that_was_stopped_as_it_was_opened_goes_on_like_any_other(tmp_path: Path) -> None:
    with Record.open(begun(tmp_path / "a-1")) as record:
        record.append(ClimbFinished())
        record.append(ClimbStopped(by="signal"))
        note_resumed(record, lambda: None)
        assert fold_of(record).stopped is None
        assert fold_of(record).finished


@pytest.mark.parametrize(
    ("instead", "remedy"),
    [(", or start a new run without --resume", " without --resume."), ("", " shows how far it is).")],
)
def test_a_run_that_a_process_holds_names_what_the_command_can_do_instead(
    instead: str, remedy: str, tmp_path: Path
) -> None:
    with run_lock(tmp_path), pytest.raises(InputError) as refusal, run_lock(tmp_path, instead=instead):
        pass
    assert str(refusal.value).endswith(remedy)
    assert f"Wait for it (`lastresort watch {tmp_path}` shows" in str(refusal.value)


def test_a_winner_that_is_not_decided_yet_says_whether_to_follow_its_run_or_to_finish_it(tmp_path: Path) -> None:
    run = begun(tmp_path / "a-1")
    finish = r"a-1: the run has not decided yet\. Finish it with `lastresort climb TASK --resume .*a-1`\.$"
    with pytest.raises(DataError, match=finish):
        winner_status(run)
    at_work = r"A process is climbing it now: `lastresort watch .*a-1` shows how far it is\.$"
    with run_lock(run), pytest.raises(DataError, match=at_work):
        winner_status(run)


@pytest.mark.parametrize("error", [DataError, PrerequisiteError, InfrastructureError])
def test_a_refused_run_is_withdrawn(error: type[Exception], tmp_path: Path) -> None:
    run = new_run(tmp_path / "runs", "a")
    with pytest.raises(error):
        refused(run, error)
    assert list((tmp_path / "runs").iterdir()) == []


def test_what_is_shared_stays_where_others_share_it(tmp_path: Path) -> None:
    begun(tmp_path / "a-1")
    run = new_run(tmp_path, "a")
    with pytest.raises(DataError):
        refused(run, DataError)
    assert sorted(path.name for path in tmp_path.iterdir()) == [".lastresort", "a-1"]


@pytest.mark.parametrize("moved", ["record.sqlite", "."])
def test_what_is_left_of_a_run_that_was_moved_stays_as_do_the_answers_that_runs_share(
    moved: str, tmp_path: Path
) -> None:
    run = tmp_path / "runs" / "a-1"

    def begin_and_move() -> None:
        with withdrawn_if_refused(run, made_here=True), Record.create(run) as record:
            (shared_folder(run) / "responses.sqlite").touch()
            (run / moved).rename(tmp_path / "kept")
            (run / "checkpoints").mkdir(parents=True, exist_ok=True)
            record.append(ClimbFinished())

    with pytest.raises(RecordGoneError, match="moved or deleted while"):
        begin_and_move()
    assert (run / "checkpoints").is_dir()
    assert (shared_folder(run) / "responses.sqlite").is_file()


def test_a_record_in_the_place_of_the_one_that_was_deleted_is_another(tmp_path: Path) -> None:
    with Record.create(tmp_path / "a-1") as record:
        shutil.rmtree(tmp_path / "a-1")
        with Record.create(tmp_path / "a-1") as other:
            with pytest.raises(
                RecordGoneError, match=r"a-1: moved or deleted .* Another file is in its place: resume the run if"
            ):
                record.append(ClimbFinished())
            assert other.last(ClimbFinished) is None


def test_a_record_that_was_moved_while_it_was_opened_is_not_written_into(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    Record.create(tmp_path / "a-1").close()

    def moved(path: Path, **options: Any) -> Database:
        database = connect(path, **options)
        path.parent.rename(tmp_path / "kept")
        return database

    monkeypatch.setattr("lastresort.records.record_file.connect", moved)
    with (
        pytest.raises(RecordGoneError, match=r"moved or deleted .* Put it back"),
        Record.open(tmp_path / "a-1") as record,
    ):
        record.append(ClimbFinished())


def test_a_record_in_a_folder_that_may_no_longer_be_looked_into_is_one_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = Path.stat

    def private(path: Path, **options: Any) -> os.stat_result:
        if tmp_path / "a-1" in (path, *path.parents):
            raise PermissionError(13, "Permission denied")
        return real(path, **options)

    with Record.create(tmp_path / "a-1") as record, monkeypatch.context() as here:
        here.setattr(Path, "stat", private)
        with pytest.raises(RecordGoneError):
            record.append(ClimbFinished())


def test_what_runs_share_stays_where_a_run_was_moved_before_another_error_than_that_of_its_record(
    tmp_path: Path,
) -> None:
    run = tmp_path / "runs" / "a-1"

    def begin_and_move() -> None:
        with withdrawn_if_refused(run, made_here=True):
            begun(run)
            (shared_folder(run) / "responses.sqlite").touch()
            run.rename(tmp_path / "kept")
            raise InfrastructureError("the server is down")

    with pytest.raises(InfrastructureError, match="the server is down"):
        begin_and_move()
    assert (shared_folder(run) / "responses.sqlite").is_file()


@pytest.mark.parametrize("case", ["begun", "not made here", "stopped", "held"])
def test_other_runs_stay(case: str, tmp_path: Path) -> None:
    run = tmp_path / "a-1"
    if case == "begun":
        begun(run)
    else:
        Record.create(run).close()
    error = StopRequestedError if case == "stopped" else InfrastructureError

    def refuse() -> None:
        with pytest.raises(error), withdrawn_if_refused(run, made_here=case != "not made here"):
            raise error("no")

    if case == "held":
        with run_lock(run):
            refuse()
    else:
        refuse()
    assert (run / "record.sqlite").is_file()
