"""Laps of a race of learning rates at workers: several at once, and the record of the run holds what they left, in their order.

A worker trains in the folder of the run, from the checkpoint there, and writes its events and its curve into a record of its own
below `laps`, which begins with what the run's record knows of trainings. The driver takes them over once the lap is its turn. What
a stop, or the end of the driver, left there is taken over when the climb goes on.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from lastresort.climb.trainings import (
    WorkerBench,
    WorkerNotes,
    base_to_train,
    ended_after,
    own_record,
    signs_in,
    stage_in,
    trained_ahead,
)
from lastresort.errors import DataError
from lastresort.models.cached import MemoryCache
from lastresort.records.events.run import RowsTooLong
from lastresort.records.events.training import CandidateMoved, PassLowered, TrainingEvent, TrainingReached
from lastresort.records.record import FILE_NAME, Record
from lastresort.report.words.progress import (
    of_training_begun,
    of_training_ended,
    training_so_far,
    unreadable_lap_line,
)
from lastresort.rungs.rung import MakeExecutor, RaceLap, Workbench
from lastresort.scale.crew import Crew
from lastresort.scale.work import JobModel, Sign, new_proof
from lastresort.stop import FILE_NAME as STOP
from lastresort.stop import check
from lastresort.systems.files import folder_sha256
from lastresort.train.loop.spawn import Machines, TrainingProcesses
from lastresort.types import Example, Progress

LAPS = "laps"  # in the folder of a run, while laps are at workers
# Of these the newest counts; of other events there is one of a key.
AGAIN = (CandidateMoved, PassLowered, TrainingReached)

StartTrainers = Callable[[str, Progress], Crew | None]
"""(rung that trains, where it is said what workers are) -> the workers that train; None where the driver does."""


@dataclass(frozen=True, slots=True)
class ClimbWorkers:
    """measure: makes what measures. train: starts the workers that train, None where the driver trains. machines: on which the
    processes of its trainings may start, None for its own alone.
    """

    measure: MakeExecutor
    train: StartTrainers | None = None
    machines: Machines | None = None


@dataclass(frozen=True, slots=True)
class LapBack:
    """What a worker gives back, besides what it wrote into the record of the lap.

    kept: of the model that it kept, the folder below the run and the hash of its files; None where it kept none. said: to the user,
    on the way.
    """

    label: str
    seconds: float
    kept: tuple[str, str] | None
    said: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class LapJob:
    """A lap to train. run: folder of the run, by the same absolute path on every machine. own: that of the lap's record.
    share: as of `Workbench`.
    """

    model: JobModel
    lap: RaceLap
    run: Path
    own: Path
    train: tuple[Example, ...]
    bench: WorkerBench
    share: float

    def last_sign(self) -> Sign:
        return signs_in(self.own)

    def so_far(self) -> str:
        return training_so_far(label_of(self.lap), stage_in(self.own))

    def trained(self) -> LapBack:
        """Raises PrerequisiteError where this machine sees another folder than the driver."""
        self.bench.refuse_another_disk()
        notes, start_s = WorkerNotes(self.own), time.monotonic()
        with (
            own_record(self.own, f"{self.bench.to_resume}.") as record,
            self.bench.opened(record, self.run, self.train, MemoryCache({}), notes) as bench,
        ):
            check(bench.stop)
            folder = self.lap.train(replace(bench, share=self.share))
        kept_model = None if folder is None else (folder.relative_to(self.run).as_posix(), folder_sha256(folder))
        return LapBack(label_of(self.lap), time.monotonic() - start_s, kept_model, tuple(notes.said))


def label_of(lap: RaceLap) -> str:
    return f"{lap.rung}, {lap.run}"


def with_workers(bench: Workbench, workers: ClimbWorkers | None) -> Workbench:
    """The workbench of a climb whose answers and laps come from these workers; of this process alone with None. Nothing was trained
    on it yet.
    """
    if workers is None:
        return replace(bench, executor=None, train_laps=None)
    train = None if workers.train is None else partial(_train, workers.train)
    processes = TrainingProcesses(workers.machines)
    return replace(bench, executor=workers.measure(bench), train_laps=train, processes=processes)


def _train(start: StartTrainers, bench: Workbench, laps: Sequence[RaceLap]) -> None:
    crew = start(laps[0].rung, bench.progress)
    if crew is None:
        return
    bench.at(laps[0].rung, "", "train")
    base, run = base_to_train(bench), bench.folder.resolve()
    folders = [run / LAPS / f"{number:03}-{lap.run}" for number, lap in enumerate(laps)]
    for lap, folder in zip(laps, folders, strict=True):
        _begin(bench, folder, lap)
    stop = run / LAPS / STOP  # not the run's own file, by which a climb knows who stopped it
    stop.unlink(missing_ok=True)
    worker_bench = WorkerBench.of(bench, new_proof(run / LAPS), stop, f"{bench.to_resume}, without --ray.")
    share = max(crew.share, 1 / len(laps))  # no more than these are at work

    def jobs() -> Iterator[LapJob]:
        for lap, folder in zip(laps, folders, strict=True):
            bench.progress.say(of_training_begun(label_of(lap)))
            yield LapJob(base, lap, run, folder, bench.train, worker_bench, share)

    def arrived(result: LapBack) -> None:
        bench.progress.say(of_training_ended(result.label, result.seconds))

    trainings = trained_ahead(bench, crew, jobs(), stop, arrived, fails_at_once=True)
    said_lines = set[str]()
    with ended_after(trainings.end):
        for folder in folders:
            result = trainings.next()
            _refuse_another_model(run, result)
            _take_or_drop(bench, folder)
            for line in result.said:
                if line not in said_lines:  # each of them says what is adapted
                    bench.progress.say(line)
            said_lines.update(result.said)
    crew.release()
    shutil.rmtree(run / LAPS, ignore_errors=True)


def take_laps(bench: Workbench) -> None:
    """Take over what is left of laps whose driver ended before it did. Raises InfrastructureError as `own_record` does."""
    laps_folder = bench.folder / LAPS
    for path in sorted(laps_folder.glob(f"*/{FILE_NAME}")):
        _take_or_drop(bench, path.parent)
    shutil.rmtree(laps_folder, ignore_errors=True)


def _begin(bench: Workbench, folder: Path, lap: RaceLap) -> None:
    """Begin the record of a lap with what the run's knows of trainings, and of this one's curve."""
    with own_record(folder, f"{bench.to_resume}.") as lap_record:
        for _, event in bench.record.since():
            if isinstance(event, RowsTooLong | TrainingEvent):
                lap_record.append(event)
        for point in bench.record.curve(lap.run):
            lap_record.add_curve_point(lap.run, round(point["step"]), _values(point))


def _take_or_drop(bench: Workbench, folder: Path) -> None:
    """What cannot be read is trained again, from the checkpoint: the record of the run lacks nothing without it."""
    try:
        _take(bench, folder)
    except DataError as error:
        if error.where != str(folder / FILE_NAME):
            raise
        bench.progress.say(unreadable_lap_line(folder.name, error.found))


def _take(bench: Workbench, folder: Path) -> None:
    """Write into the run's record what the record of a lap has and it does not."""
    record = bench.record
    with own_record(folder, f"{bench.to_resume}.") as lap_record:
        for _, event in lap_record.since():
            if isinstance(event, TrainingEvent) and not _is_known(record, event):
                record.append(event)
        for name, points in lap_record.curves().items():
            known_points = {point["step"]: point for point in record.curve(name)}
            for point in points:
                if point != known_points.get(point["step"]):
                    record.add_curve_point(name, round(point["step"]), _values(point))


def _values(point: Mapping[str, float]) -> dict[str, float]:
    return {name: value for name, value in point.items() if name != "step"}


def _is_known(record: Record, event: TrainingEvent) -> bool:
    """Workers may each have made what one process makes once, such as what the base answers: the first one's counts."""
    if isinstance(event, AGAIN):
        return event in record.all(type(event), event.key)
    return record.last(type(event), event.key) is not None


def _refuse_another_model(run: Path, result: LapBack) -> None:
    if result.kept is None:
        return
    name, sha256 = result.kept
    if not (run / name).is_dir() or folder_sha256(run / name) != sha256:
        raise DataError(
            "the model here is not the one that the worker trained",
            where=str(run / name),
            expected="a disk that all machines share, below the same path",
            remedy="Remove this folder, and go on with --resume, without --ray if the disk is not shared.",
        )
