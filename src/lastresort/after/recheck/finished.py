"""A finished run, read back: its task, its frozen test items, the system that won and what it answered."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lastresort.climb.bar_test import order_of_test
from lastresort.climb.identity import task_file_of
from lastresort.climb.prepare import PreparedTask, prepare
from lastresort.errors import DataError, TaskError
from lastresort.ladder import RUNGS, trains
from lastresort.records.decision import RunView
from lastresort.records.events import FilesRead, TaskRead
from lastresort.records.measurement import BarTest, ItemScore
from lastresort.records.record import Record
from lastresort.report.decision import decision_in
from lastresort.spec.document import YamlDocument
from lastresort.spec.task import Task, task_of
from lastresort.systems.files import load_system
from lastresort.systems.running import load_winner
from lastresort.systems.system import System
from lastresort.types import Example

_UNUSED = ("path", "preferences", "reward", "knowledge")  # which no recheck reads, so what they name may be gone


@dataclass(frozen=True, slots=True)
class MeasuredWinner:
    """The system that won. items: its recorded answers to the first test items, in their fixed order."""

    rung: str
    kind: str
    system: System
    items: tuple[ItemScore, ...]

    @property
    def tuned(self) -> bool:
        return trains(self.rung)


@dataclass(frozen=True, slots=True)
class FinishedRun:
    """order: the frozen test items in their fixed order. knowledge: where the documents were when the run began, None without
    any. winner: None where no system won. frozen: the system that each rung tested.
    """

    folder: Path
    record: Record
    decision: RunView
    prepared: PreparedTask
    order: tuple[Example, ...]
    knowledge: Path | None
    winner: MeasuredWinner | None
    frozen: dict[str, str]

    @property
    def task(self) -> Task:
        return self.prepared.task

    @property
    def winner_test(self) -> BarTest:
        """The test of the winner, as the decision has it."""
        assert self.winner is not None, "asked of runs with a winner"
        won = self.winner.rung
        return next(rung.test for rung in self.decision.rungs if rung.name == won and rung.test is not None)

    def candidate(self, rung: str) -> System:
        """The system that this rung tested."""
        return load_system(self.folder / "candidates" / rung / self.frozen[rung])


def open_finished(run: Path, record: Record, task_file: Path | None = None) -> FinishedRun:
    """Read a finished run back. task_file: where its task file is now, by default where the run says.

    Raises DataError where the run is not finished, another version wrote it, or its examples are not those that it tested on;
    InputError or TaskError where the task file cannot be found.
    """
    decision = decision_in(record)
    path, noted, prepared = read_again(run, record, task_file, without=_UNUSED)
    order = tuple(order_of_test(prepared.split.test))
    tested = {rung.name: rung.chosen for rung in decision.rungs if rung.test is not None and rung.chosen is not None}
    return FinishedRun(
        folder=run,
        record=record,
        decision=decision,
        prepared=prepared,
        order=order,
        knowledge=path.parent / noted["knowledge"] if noted.get("knowledge") else None,
        winner=_winner(run, record, decision, tested, order),
        frozen=tested,
    )


def read_again(
    run: Path, record: Record, task_file: Path | None = None, *, without: Collection[str] = ()
) -> tuple[Path, dict[str, Any], PreparedTask]:
    """The task file, its values as the run recorded them, and its examples. without: keys to leave out, so that what they name may
    be gone. Raises as `open_finished` does.
    """
    read, files = record.last(TaskRead), record.last(FilesRead)
    if read is None or files is None:
        raise _other_version(run, "the record holds no task")
    noted = read.task
    path = _task_file(run, record, task_file)
    values = {key: value for key, value in noted.items() if key not in without}
    prepared = prepare(task_of(YamlDocument(f"{path} as {run} recorded it", values), path))
    _same_files(prepared, files.files, path)
    return path, noted, prepared


def _task_file(run: Path, record: Record, given: Path | None) -> Path:
    path = given.absolute() if given is not None else task_file_of(record, run)
    if not path.is_file():
        raise TaskError(
            "no such file",
            where=str(path),
            expected="the task file that the run was climbed with",
            remedy="Name it with --task FILE; its paths to the examples are used.",
        )
    return path


def _same_files(prepared: PreparedTask, noted: dict[str, str], path: Path) -> None:
    changed = sorted(name for name, sha256 in prepared.files.items() if noted.get(name) != sha256)
    if changed:
        raise DataError(
            f"{', '.join(changed)} changed since the run",
            where=str(path.parent),
            expected="the frozen test set, byte for byte",
            remedy="Restore the files of the run, or climb again.",
        )


def _winner(
    run: Path, record: Record, decision: RunView, tested: dict[str, str], order: tuple[Example, ...]
) -> MeasuredWinner | None:
    winner = decision.winner
    if winner is None or winner.path is None:
        return None
    system = load_winner(run / winner.path)
    rungs = [name for name, chosen in tested.items() if chosen == system.name and RUNGS[name].winner == winner.kind]
    rungs.sort(key=lambda name: name != decision.stopped_at)
    measured = record.measurement(rungs[0], system.name, "test") if rungs else None
    if measured is None or [item.id for item in measured.items] != [item.id for item in order[: measured.n]]:
        raise _other_version(run, f"the recorded answers of {system.name} do not belong to the first test items")
    return MeasuredWinner(rungs[0], winner.kind, system, measured.items)


def _other_version(run: Path, found: str) -> DataError:
    return DataError(
        found,
        where=str(run),
        expected="a run of this version",
        remedy="Another version of lastresort wrote it: climb again.",
    )
