"""A finished run, read back: its task, its frozen test items, the system that won and what it answered.

Also how often its test set has been looked at since the climb, and what error each look may make. A test set that is used again
and again will say yes by chance one day. All rechecks of a run share one error, separate from the climb's: look k has
1/(k (k+1)) of it, which adds up to the whole over all k.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lastresort.climb.bar_test import order_of_test
from lastresort.climb.prepare import PreparedTask, prepare
from lastresort.climb.shared_run import code_of, refuse_code
from lastresort.errors import DataError
from lastresort.evals.evidence.bar import smallest_deciding_test
from lastresort.ladder import RUNGS, trains
from lastresort.records.decision import RunView
from lastresort.records.events.run import FilesRead, RecheckCounted, Subject, TaskRead
from lastresort.records.events.search import SystemFrozen
from lastresort.records.measurement import BarTest, ItemScore
from lastresort.records.record import Record
from lastresort.records.view import refuse_moved, task_file_of
from lastresort.report.decision import decision_in
from lastresort.report.recheck import TestLook
from lastresort.spec.document import YamlDocument
from lastresort.spec.task import Task, load_task, task_of
from lastresort.systems.files import candidate_folder, load_measured, load_system
from lastresort.systems.running import load_winner, refuse_changed_run
from lastresort.systems.system import System
from lastresort.types import Example, Unit

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
        return measured_system(self.folder, self.record, rung, self.frozen[rung])


def open_finished(run: Path, record: Record, task_file: Path | None = None) -> FinishedRun:
    """Read a finished run back. task_file: where its task file is now, by default where the run says.

    Raises DataError where the run is not finished, it was changed, another version wrote it, or its examples are not those that it
    tested on; InputError or TaskError where the task file cannot be found.
    """
    decision = decision_in(record)
    refuse_changed_run(record, None)  # the winner is looked at where it is loaded
    path, noted, prepared = read_again(run, record, task_file, without=_UNUSED, run_code=True)
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


def measured_system(run: Path, record: Record, rung: str, name: str) -> System:
    """A system that a rung tested. Raises DataError where its files are not those that were measured."""
    folder, frozen = candidate_folder(run, rung, name), record.last(SystemFrozen, rung)
    if frozen is not None and frozen.name == name:
        return load_measured(folder, frozen.sha256)
    return load_system(folder)  # of a repair, whose hash its gate kept


def read_again(
    run: Path,
    record: Record,
    task_file: Path | None = None,
    *,
    without: Collection[str] = (),
    run_code: bool = False,
) -> tuple[Path, dict[str, Any], PreparedTask]:
    """The task file, its values as the run recorded them, and its examples. without: keys to leave out, so that what they name may
    be gone. run_code: whether what the task names may run and write, for which the user must name the same task file. Raises as
    `open_finished` does.
    """
    read, files = record.last(TaskRead), record.last(FilesRead)
    if read is None or files is None:
        raise of_another_version(run, "the record holds no task")
    noted = read.task
    path = _task_file(run, record, task_file)
    values = {key: value for key, value in noted.items() if key not in without}
    task = task_of(YamlDocument(f"{path} as {run} recorded it", values), path)
    code = {key: name for key, name in code_of(task).items() if not key.startswith("general ")}  # no gate runs here
    if run_code and code:
        now = {} if task_file is None else code_of(load_task(path))
        refuse_code(
            code, now, where=str(run), remedy="Look at it and, if it is yours, name your task file with --task FILE."
        )
    prepared = prepare(task, run_code=run_code, begins=False)
    _same_files(prepared, files.files, path)
    return path, noted, prepared


def _task_file(run: Path, record: Record, given: Path | None) -> Path:
    path = given.absolute() if given is not None else task_file_of(record, run)
    refuse_moved(path, "Name it with --task FILE; its paths to the examples are used.")
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
        raise of_another_version(run, f"the recorded answers of {system.name} do not belong to the first test items")
    return MeasuredWinner(rungs[0], winner.kind, system, measured.items)


def of_another_version(run: Path, found: str) -> DataError:
    return DataError(
        found,
        where=str(run),
        expected="a run of this version",
        remedy="Another version of lastresort wrote it: climb again.",
    )


@dataclass(frozen=True, slots=True)
class RecheckNumber:
    """number: of the recheck among all of its run. look: of those among them that test systems against the bar, else None."""

    number: int
    look: int | None


def look_of(number: int, systems: int, confidence: float) -> TestLook:
    """The error of this look and of each of its systems."""
    budget = round(1 - confidence, 12)
    alpha = budget / (number * (number + 1))
    return TestLook(number=number, systems=systems, alpha=alpha, each=alpha / systems, budget=budget)


def check_size(look: TestLook, n: int, *, bar: float, binary: bool, unit: Unit) -> None:
    """Raises DataError where not even a perfect score on n items (or groups) could show at this error rate that the bar is met."""
    smallest = smallest_deciding_test(bar, look.each, binary=binary)
    if n < smallest:
        raise DataError(
            f"a test set of {n} {unit}s: at the error rate of {look.each:.2g} that is left for look {look.number} since the climb, "
            f"not even a perfect score shows that the bar of {bar:g} is met",
            expected=f"at least {smallest} {unit}s, or fewer looks",
            remedy="The test set is worn out: climb again with fresh items.",
        )


def earlier_number(record: Record, key: str) -> RecheckNumber | None:
    """The number of an earlier recheck of the same question; None if there is none."""
    counted = record.last(RecheckCounted, key)
    return None if counted is None else RecheckNumber(counted.number, counted.look)


def next_number(record: Record, *, looks: bool) -> RecheckNumber:
    """looks: whether the next recheck tests systems against the bar."""
    before = record.all(RecheckCounted)
    seen = sum(counted.look is not None for counted in before)
    return RecheckNumber(len(before) + 1, seen + 1 if looks else None)


def count(record: Record, key: str, found: RecheckNumber, *new: Subject) -> None:
    """Count a recheck before it sees an answer: one that is stopped has looked, too. The same question counts once."""
    if record.last(RecheckCounted, key) is None:
        record.append(RecheckCounted(question=key, number=found.number, look=found.look, new=new))
