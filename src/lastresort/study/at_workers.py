"""Cells that train at workers: what a worker is given, and what it gives back.

A worker trains in the cell's folder, as the driver would, and then answers dev and the unrelated requests with the adapter. Its
answers go into the driver's cache, and the driver measures from there as it would alone. So scorers, judges and rows stay with the
driver, and its rows come in the order of the grid, whoever was quicker.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from lastresort.climb.workbench import open_models
from lastresort.data.preferences import PreferenceRow
from lastresort.errors import InfrastructureError, StoppedError
from lastresort.evals.scorers import build_scorer
from lastresort.models.cached import MemoryCache
from lastresort.report.words import study as words
from lastresort.rungs.rung import MakeExecutor, Workbench
from lastresort.scale.crew import Crew
from lastresort.scale.training import SIGNAL_S, TrainedAhead
from lastresort.scale.work import JobModel
from lastresort.spec.task import Task
from lastresort.stop import FILE_NAME, StopFile, check
from lastresort.study.cells import (
    CellBench,
    Learner,
    TrainCell,
    TrainedCell,
    cell_folder,
    cell_record,
    kept_requests,
    measure,
    train_here,
)
from lastresort.study.grid import Cell
from lastresort.systems.system import PromptDesign, System
from lastresort.types import Decoding, Example, Progress

INTERRUPTED_S = 1.0  # for trainings to save, of the few seconds that Ctrl-C leaves
Answers = Mapping[str, Mapping[str, Any]]
"""Bodies of a cache of answers, by key."""


@dataclass(frozen=True, slots=True)
class StudyWorkers:
    """measure: makes what measures prompts. train: makes the workers that train, once those that answered have ended."""

    measure: MakeExecutor
    train: Callable[[Progress], Crew]


@dataclass(frozen=True, slots=True)
class WantedCell:
    """A cell without a row, with its key and its examples."""

    cell: Cell
    key: str
    examples: tuple[Example, ...]


@dataclass(frozen=True, slots=True)
class CellBack:
    """What a worker gives back.

    replayed: what the base answered, to be trained on. answered: by the adapter. said: to the user, on the way.
    """

    cell: Cell
    trained: TrainedCell
    replayed: Answers
    answered: Answers
    said: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class CellJob:
    """A cell to train. study: its folder, by the same absolute path on every machine. known: what the base answered when others
    trained. Everything else: as of `CellBench` and `Workbench`.
    """

    model: JobModel
    wanted: WantedCell
    task: Task
    study: Path
    dev: tuple[Example, ...]
    preferences: tuple[PreferenceRow, ...] | None
    max_new_tokens: int
    to_resume: str
    learner: Learner
    probed: bool
    known: Answers

    def trained(self) -> CellBack:
        cell, key, notes, cache = self.wanted.cell, self.wanted.key, _Notes(), MemoryCache(self.known)
        models = open_models(self.task, cache)
        try:
            with cell_record(self.study, key) as record:
                bench = Workbench(
                    task=self.task,
                    train=self.wanted.examples,
                    dev=self.dev,
                    scorer=build_scorer("exact", {}),  # the driver scores
                    record=record,
                    folder=cell_folder(self.study, key),
                    models=models,
                    progress=notes,
                    max_new_tokens=self.max_new_tokens,
                    stop=StopFile(self.study / FILE_NAME),
                    preferences=self.preferences,
                    to_resume=self.to_resume,
                )
                check(bench.stop)
                began = time.monotonic()
                system, left = self.learner.train(bench, cell)
                done = TrainedCell(system, left, time.monotonic() - began)
                replayed = cache.take_new()
                measure(bench, system, cell.label)
                if self.probed:
                    kept_requests(bench, system, cell.label)
        finally:
            models.close()
        return CellBack(cell, done, replayed, cache.take_new(), tuple(notes.said))


@dataclass(frozen=True, slots=True)
class _Notes:
    """Progress of a worker: what it says is passed on."""

    said: list[str] = field(default_factory=list)

    def stage(self, label: str, total: int | None = None, done: int = 0) -> None: ...
    def advance(self, amount: int = 1, note: str = "") -> None: ...
    def say(self, text: str) -> None:
        self.said.append(text)


@contextmanager
def trained_by(
    workers: StudyWorkers | None, shared: CellBench, wanted: Sequence[WantedCell], clock: Callable[[], float]
) -> Iterator[TrainCell]:
    """How the cells that train are trained: in this process without workers. wanted: all cells, in their order.

    However the block ends, the workers end; what they train has a moment to save first.
    """
    if workers is None:
        yield partial(train_here, shared, clock)
        return
    at_workers = _AtWorkers(shared, [one for one in wanted if one.cell.trains], workers.train)
    save_s = 0.0
    try:
        yield at_workers.train
    except InfrastructureError:  # of a cluster that is lost nobody answers
        raise
    except StoppedError:  # between two cells
        save_s = SIGNAL_S
        raise
    except BaseException:
        save_s = INTERRUPTED_S
        raise
    finally:
        at_workers.end(save_s)


class _AtWorkers:
    """The workers start with the first training: before it, others answer prompts in their place."""

    def __init__(self, shared: CellBench, wanted: Sequence[WantedCell], start: Callable[[Progress], Crew]) -> None:
        self._shared, self._bench, self._wanted, self._start = shared, shared.bench, wanted, start
        self._crew: Crew | None = None
        self._ahead: TrainedAhead[CellBack] | None = None
        self._replayed: dict[str, Mapping[str, Any]] = {}

    def train(self, cell: Cell, key: str, examples: Sequence[Example]) -> TrainedCell:
        if self._ahead is None:
            self._ahead = self._started()
        back = self._ahead.next()
        assert back.cell == cell, "trainings come back in the order of the cells"
        for line in back.said:
            self._bench.progress.say(line)
        return back.trained

    def end(self, save_s: float) -> None:
        if self._ahead is not None:
            self._ahead.end(save_s)

    def _started(self) -> TrainedAhead[CellBack]:
        models, bench = self._bench.models, self._bench
        bare = System(
            "bare", models.tuned_name, PromptDesign(""), Decoding(1), template_kwargs=bench.task.chat_template_kwargs
        )
        base = JobModel.of(models.opening(bare), models.open(bare))
        models.close()  # and the workers that answered: the trainings need their room
        self._crew = self._start(bench.progress)
        return TrainedAhead(
            self._crew,
            self._jobs(base),
            bench.stop,
            arrived=self._arrived,
            tell=(bench.folder / FILE_NAME).touch,
            under_way=self._show,
        )

    def _jobs(self, base: JobModel) -> Iterator[CellJob]:
        shared, bench = self._shared, self._bench
        for one in self._wanted:
            bench.progress.say(words.of_training_begun(one.cell.label))
            yield CellJob(
                base,
                one,
                bench.task,
                bench.folder.resolve(),
                bench.dev,
                bench.preferences,
                bench.max_new_tokens,
                bench.to_resume,
                shared.learner,
                shared.probed,
                dict(self._replayed),
            )

    def _arrived(self, back: CellBack) -> None:
        assert self._crew is not None, "what comes back was sent"
        self._replayed |= back.replayed
        self._bench.models.keep_from_workers({**back.replayed, **back.answered}, self._crew.share)
        self._bench.progress.say(words.of_training_ended(back.cell.label, back.trained.seconds))

    def _show(self, running: int) -> None:
        if running:
            self._bench.progress.stage(words.of_trainings(running), None)
