"""Cells that train at workers: what a worker is given, and what it gives back.

A worker trains in the cell's folder, as the driver would, and then answers dev and the unrelated requests with the adapter. Its
answers go into the driver's cache, and the driver measures from there as it would alone. So scorers, judges and rows stay with the
driver, and its rows come in the order in which the trainings began, whoever was quicker.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from lastresort.climb.trainings import (
    TrainedAhead,
    WorkerBench,
    WorkerNotes,
    base_to_train,
    ended_after,
    signs_in,
    stage_in,
    trained_ahead,
)
from lastresort.errors import DataError
from lastresort.foreign import ROWS, parse_json, read_content
from lastresort.models.cached import MemoryCache
from lastresort.records.atomic import disk_errors
from lastresort.report.words.progress import of_training_begun, of_training_ended, training_so_far
from lastresort.rungs.rung import MakeExecutor
from lastresort.scale.crew import Crew
from lastresort.scale.work import JobModel, Sign, new_proof, remove_proofs
from lastresort.stop import FILE_NAME, check
from lastresort.study.cells import (
    CellBench,
    Learner,
    TrainCell,
    TrainedCell,
    WantedCell,
    cell_folder,
    cell_record,
    kept_requests,
    measure,
    train_here,
    train_with,
)
from lastresort.study.grid import Cell
from lastresort.train.loop.spawn import Machines
from lastresort.types import Example, Progress

ANSWERS = "answers.jsonl"  # in the folder of a cell, for as long as it has no row
ON_OTHER_DISK = "Name a folder on such a disk with --out, or leave --ray out."
Answers = Mapping[str, Mapping[str, Any]]
"""Bodies of a cache of answers, by key."""


@dataclass(frozen=True, slots=True)
class StudyWorkers:
    """measure: makes what measures prompts. train: makes the workers that train, once the prompts are measured; None where the
    driver trains. machines: on which the processes of its trainings may start, None for its own alone.
    """

    measure: MakeExecutor
    train: Callable[[Progress], Crew] | None
    machines: Machines | None = None


@dataclass(frozen=True, slots=True)
class CellBack:
    """What a worker gives back.

    fingerprint: of the adapter as the worker opened it. replayed: what the base answered, to be trained on. answered: by the
    adapter. said: to the user, on the way.
    """

    cell: Cell
    trained: TrainedCell
    fingerprint: str
    replayed: Answers
    answered: Answers
    said: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class CellJob:
    """A cell to train. study: its folder, by the same absolute path on every machine. known: what the base answered when others
    trained. learner, probed: as of `CellBench`.
    """

    model: JobModel
    wanted: WantedCell
    study: Path
    bench: WorkerBench
    learner: Learner
    probed: bool
    known: Answers

    def last_sign(self) -> Sign:
        return signs_in(cell_folder(self.study, self.wanted.key))

    def so_far(self) -> str:
        return training_so_far(self.wanted.cell.label, stage_in(cell_folder(self.study, self.wanted.key)))

    def trained(self) -> CellBack:
        """Raises PrerequisiteError where this machine sees another folder than the driver."""
        self.bench.refuse_another_disk()
        cell, key = self.wanted.cell, self.wanted.key
        folder = cell_folder(self.study, key)
        notes = WorkerNotes(folder)
        with cell_record(self.study, key) as record:
            cache = _KeptAnswers(folder / ANSWERS, self.known)
            with self.bench.opened(record, folder, self.wanted.examples, cache, notes) as bench:
                check(bench.stop)
                done = train_with(bench, self.learner, cell, time.monotonic)
                replayed = cache.take_new()
                began = time.monotonic()
                measure(bench, done.system, cell.label)
                if self.probed:
                    kept_requests(bench, done.system, cell.label)
                done = replace(done, answered_s=time.monotonic() - began)
                fingerprint = bench.models.open(done.system).fingerprint
        return CellBack(cell, done, fingerprint, replayed, cache.take_new(), tuple(notes.said))


class _KeptAnswers(MemoryCache):
    """Also in a file, which outlives a stop and the worker: what it holds counts as new. known: bodies that the driver has."""

    def __init__(self, path: Path, known: Answers) -> None:
        super().__init__(known)
        self._path = path
        super().put_many(_answers_in(path))

    def put_many(self, bodies: Answers, /) -> None:
        super().put_many(bodies)
        # A line that a kill cut short is ended first.
        lines = "".join(f"\n{json.dumps([key, body])}" for key, body in bodies.items())
        with disk_errors(self._path), self._path.open("a", encoding="utf-8") as file:
            file.write(lines)


def _answers_in(path: Path) -> dict[str, Mapping[str, Any]]:
    """Without lines that were cut short."""
    found: dict[str, Mapping[str, Any]] = {}
    if path.is_file():
        for line in read_content(path, ROWS).decode("utf-8", "replace").splitlines():
            with suppress(ValueError, TypeError):
                key, body = parse_json(line)
                found[key] = dict(body)
    return found


@contextmanager
def trained_by(
    workers: StudyWorkers | None, shared: CellBench, wanted: Sequence[WantedCell], clock: Callable[[], float]
) -> Iterator[TrainCell]:
    """How the cells that train are trained: in this process without workers that train. wanted: all cells, in their order.

    However the block ends, the workers end; what they train has a moment to save first.
    """
    if workers is None or workers.train is None:
        yield partial(train_here, shared, clock)
        return
    at_workers = _AtWorkers(shared, [one for one in wanted if one.cell.trains], workers.train)
    with ended_after(at_workers.end):
        yield at_workers.train


class _AtWorkers:
    """The workers train from the first training on: before it, they or others in their place answer prompts."""

    def __init__(self, shared: CellBench, wanted: Sequence[WantedCell], start: Callable[[Progress], Crew]) -> None:
        self._shared, self._bench, self._wanted, self._start = shared, shared.bench, wanted, start
        self._crew: Crew | None = None
        self._ahead: TrainedAhead[CellBack] | None = None
        self._replayed: dict[str, Mapping[str, Any]] = {}

    def train(self, cell: Cell, key: str, examples: Sequence[Example]) -> TrainedCell:
        models = self._bench.models
        if self._ahead is None:
            self._ahead = self._started()
        else:
            models.close()  # the adapter of the cell before: the trainings need its room
        back = self._ahead.next()
        assert back.cell == cell, "trainings come back in the order of the cells"
        if models.open(back.trained.system).fingerprint != back.fingerprint:
            raise DataError(
                "the adapter here is not the one that the worker trained",
                where=str(back.trained.system.adapter),
                expected="a disk that all machines share, below the same path",
                remedy="Remove the folder of this cell, and give the same command again, without --ray if the disk is not shared.",
            )
        for line in back.said:
            self._bench.progress.say(line)
        return back.trained

    def end(self, at_most_s: float) -> None:
        """at_most_s: that what is under way has to save."""
        try:
            if self._ahead is not None:
                self._ahead.end(at_most_s)
        finally:
            remove_proofs(self._bench.folder)

    def _started(self) -> TrainedAhead[CellBack]:
        bench = self._bench
        base = base_to_train(bench)
        stop = bench.folder / FILE_NAME
        own = WorkerBench.of(bench, new_proof(bench.folder), stop, ON_OTHER_DISK)
        self._crew = self._start(bench.progress)
        return trained_ahead(bench, self._crew, self._jobs(base, own), stop, self._arrived)

    def _jobs(self, base: JobModel, own: WorkerBench) -> Iterator[CellJob]:
        shared, study = self._shared, self._bench.folder.resolve()
        for one in self._wanted:
            self._bench.progress.say(of_training_begun(one.cell.label))
            yield CellJob(base, one, study, own, shared.learner, shared.probed, dict(self._replayed))

    def _arrived(self, back: CellBack) -> None:
        assert self._crew is not None, "what comes back was sent"
        self._replayed |= back.replayed
        self._bench.models.keep_from_workers({**back.replayed, **back.answered}, self._crew.share)
        self._bench.progress.say(of_training_ended(back.cell.label, back.trained.seconds))
