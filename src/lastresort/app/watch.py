"""Follow a run or a study from any process: its new events, its state, its present stage, and whether it is over.

Also how a training apart from a climb is going.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from lastresort.app.train import training_output
from lastresort.errors import LastresortError
from lastresort.records.atomic import is_held
from lastresort.records.decision import RunView
from lastresort.records.events import Event
from lastresort.records.events.base import Stage
from lastresort.records.events.run import ClimbStopped, StudyBegan
from lastresort.records.record import Record
from lastresort.records.view import Fold
from lastresort.report.decision import view_of
from lastresort.stop import FILE_NAME as STOP

if TYPE_CHECKING:
    from lastresort.report.charts.loss import Curve
    from lastresort.train.files.run_folder import TrainingRecord

EVERY_S = 0.5
State = Literal["running", "stopped", "finished"]
TrainingState = Literal["new", "running", "stopped", "finished"]


@dataclass(frozen=True, slots=True)
class Snapshot:
    """new: events since the snapshot before; all so far in the first. view: None before the task was read. state: stopped where no
    process is at work on a run that has not finished. stopped: how it ended, None where it died. study: whose folder it
    is; None of a climb's, and a study has no view.
    """

    new: tuple[Event, ...]
    view: RunView | None
    stage: Stage | None
    state: State
    stopped: ClimbStopped | None = None
    study: StudyBegan | None = None


def follow(
    folder: Path, *, every_s: float = EVERY_S, sleep: Callable[[float], None] = time.sleep
) -> Iterator[Snapshot]:
    """Snapshots of a run until no process works on it; one if it is over already.

    Raises DataError where there is no run, or its record is damaged.
    """
    fold, last_number, stage = Fold(), 0, None
    with Record.open(folder, read_only=True) as record:
        while True:
            working = is_held(folder)  # before the record is read, so that it holds what a process wrote at its end
            new_events = list(record.since(last_number))
            for number, event in new_events:
                fold.take(event)
                last_number = number
            last_stage, stage = stage, record.stage()
            view = view_of(fold)
            if not working:
                state: State = "finished" if fold.finished else "stopped"
                yield Snapshot(tuple(event for _, event in new_events), view, stage, state, fold.stopped, fold.study)
                return
            if new_events or stage != last_stage:
                yield Snapshot(tuple(event for _, event in new_events), view, stage, "running", study=fold.study)
            sleep(every_s)


@dataclass(frozen=True, slots=True)
class TrainingNow:
    """A training as its folder is now. curve: a figure a step. record: of a finished one. fault: why it cannot be read."""

    stem: str
    state: TrainingState
    output: Path
    curve: Curve = ()
    record: TrainingRecord | None = None
    stopping: bool = False
    fault: str = ""

    @property
    def figures(self) -> Mapping[str, float]:
        """Of its last step."""
        return self.curve[-1] if self.curve else {}


def training_files(output: Path) -> list[Path]:
    """Of the folder that a training writes: what changes with it."""
    from lastresort.train.files.run_folder import BEGUN, LOG, RECORD

    return [output / name for name in (LOG, RECORD, BEGUN, STOP)]


def training_now(path: Path) -> TrainingNow:
    """A training that was started from this file."""
    try:
        output = training_output(path)
    except LastresortError as error:
        return TrainingNow(path.stem, "stopped", path.with_name(f"{path.stem}-out"), fault=str(error))
    return _training_in(output, path.stem)


def trainings_below(folder: Path) -> list[TrainingNow]:
    """Those that wrote into a folder of their own in this one, named by it, the newest first. A link is none."""
    from lastresort.train.files.run_folder import BEGUN

    begun_at: dict[Path, float] = {}
    for path in folder.iterdir():
        with suppress(OSError):  # of another user, or removed meanwhile
            if not path.is_symlink():
                begun_at[path] = (path / BEGUN).stat().st_mtime
    return [_training_in(path, path.name) for path in sorted(begun_at, key=begun_at.__getitem__, reverse=True)]


def _training_in(output: Path, stem: str) -> TrainingNow:
    from lastresort.train.files.run_folder import BEGUN, LOG, RECORD, StepLog, finished_record

    working = is_held(output)
    try:
        log_lines = StepLog(output / LOG).lines()
    except LastresortError as error:
        return TrainingNow(stem, "running" if working else "stopped", output, fault=str(error))
    curve = tuple({key: value for key, value in line.items() if type(value) in (int, float)} for line in log_lines)
    stopping = working and (output / STOP).exists()
    if working:
        return TrainingNow(stem, "running", output, curve, stopping=stopping)
    if (output / RECORD).is_file():
        try:
            return TrainingNow(stem, "finished", output, curve, finished_record(output))
        except LastresortError as error:
            return TrainingNow(stem, "stopped", output, curve, fault=str(error))
    has_begun = (output / BEGUN).is_file()
    return TrainingNow(stem, "stopped" if has_begun else "new", output, curve)
