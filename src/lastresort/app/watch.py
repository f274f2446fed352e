"""Follow a run or a study from any process: its new events, its state, its present stage, and whether it is over."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from lastresort.records.atomic import is_held
from lastresort.records.decision import RunView
from lastresort.records.events import Event, Stage, StoppedBy, StudyBegan
from lastresort.records.record import Record
from lastresort.records.view import Fold
from lastresort.report.decision import view_of

EVERY_S = 0.5
State = Literal["running", "stopped", "finished"]


@dataclass(frozen=True, slots=True)
class Snapshot:
    """new: events since the snapshot before; all so far in the first. view: None before the task was read. state: stopped where no
    process is at work on a run that has not finished. stopped_by: what made it stop, None where it died. study: whose folder it
    is; None of a climb's, and a study has no view.
    """

    new: tuple[Event, ...]
    view: RunView | None
    stage: Stage | None
    state: State
    stopped_by: StoppedBy | None = None
    study: StudyBegan | None = None


def follow(
    folder: Path, *, every_s: float = EVERY_S, sleep: Callable[[float], None] = time.sleep
) -> Iterator[Snapshot]:
    """Snapshots of a run until no process works on it; one if it is over already.

    Raises DataError where there is no run, or its record is damaged.
    """
    fold, seen, stage = Fold(), 0, None
    with Record.open(folder, read_only=True) as record:
        while True:
            working = is_held(folder)  # before the record is read, so that it holds what a process wrote at its end
            new = list(record.since(seen))
            for number, event in new:
                fold.take(event)
                seen = number
            before, stage = stage, record.stage()
            view = view_of(fold)
            if not working:
                state: State = "finished" if fold.finished else "stopped"
                yield Snapshot(tuple(event for _, event in new), view, stage, state, fold.stopped_by, fold.study)
                return
            if new or stage != before:
                yield Snapshot(tuple(event for _, event in new), view, stage, "running", study=fold.study)
            sleep(every_s)
