"""Cells that train at workers: what a worker is given, and what it gives back.

A worker trains in the cell's folder, as the driver would, and then answers dev and the unrelated requests with the adapter. Its
answers go into the driver's cache, and the driver measures from there as it would alone. So scorers, judges and rows stay with the
driver, and its rows come in the order of the grid, whoever was quicker.
"""

from __future__ import annotations

import json
import secrets
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

from lastresort.climb.workbench import open_models
from lastresort.data.preferences import PreferenceRow
from lastresort.errors import DataError, PrerequisiteError
from lastresort.evals.scorers import build_scorer
from lastresort.foreign import ROWS, parse_json, read_content
from lastresort.models.cached import MemoryCache
from lastresort.records.atomic import disk_errors
from lastresort.report.words import study as words
from lastresort.rungs.rung import MakeExecutor, Workbench
from lastresort.scale.crew import ClusterLostError, Crew
from lastresort.scale.training import LAST_S, TrainedAhead
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
    train_with,
)
from lastresort.study.grid import Cell
from lastresort.systems.system import PromptDesign, System
from lastresort.types import Decoding, Example, Progress

PROOF = "shared-"  # of the name of the file by which workers know the folder
ANSWERS = "answers.jsonl"  # in the folder of a cell, for as long as it has no row
INTERRUPTED_S = 1.0  # for trainings to save, of the few seconds that Ctrl-C leaves
Answers = Mapping[str, Mapping[str, Any]]
"""Bodies of a cache of answers, by key."""


@dataclass(frozen=True, slots=True)
class StudyWorkers:
    """measure: makes what measures prompts. train: makes the workers that train, once those that answered have ended; None where
    the driver trains.
    """

    measure: MakeExecutor
    train: Callable[[Progress], Crew] | None


@dataclass(frozen=True, slots=True)
class WantedCell:
    """A cell without a row, with its key and its examples."""

    cell: Cell
    key: str
    examples: tuple[Example, ...]


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
    """A cell to train. study: its folder, by the same absolute path on every machine. proof: the name of a file that the driver has
    made there. known: what the base answered when others trained. Everything else: as of `CellBench` and `Workbench`.
    """

    model: JobModel
    wanted: WantedCell
    task: Task
    study: Path
    proof: str
    dev: tuple[Example, ...]
    preferences: tuple[PreferenceRow, ...] | None
    max_new_tokens: int
    to_resume: str
    learner: Learner
    probed: bool
    known: Answers

    def trained(self) -> CellBack:
        """Raises PrerequisiteError where this machine sees another folder than the driver."""
        if not (self.study / self.proof).is_file():
            raise PrerequisiteError(
                "the folder of the study is not the one that the driver writes",
                where=str(self.study),
                expected="a disk that all machines share, below the same path",
                remedy="Name a folder on such a disk with --out, or leave --ray out.",
            )
        cell, key, notes = self.wanted.cell, self.wanted.key, _Notes()
        folder = cell_folder(self.study, key)
        with cell_record(self.study, key) as record:
            cache = _KeptAnswers(folder / ANSWERS, self.known)
            models = open_models(self.task, cache)
            try:
                bench = Workbench(
                    task=self.task,
                    train=self.wanted.examples,
                    dev=self.dev,
                    scorer=build_scorer("exact", {}),  # the driver scores
                    record=record,
                    folder=folder,
                    models=models,
                    progress=notes,
                    max_new_tokens=self.max_new_tokens,
                    stop=StopFile(self.study / FILE_NAME),
                    preferences=self.preferences,
                    to_resume=self.to_resume,
                )
                check(bench.stop)
                done = train_with(bench, self.learner, cell, time.monotonic)
                replayed = cache.take_new()
                began = time.monotonic()
                measure(bench, done.system, cell.label)
                if self.probed:
                    kept_requests(bench, done.system, cell.label)
                done = replace(done, answered_s=time.monotonic() - began)
                fingerprint = models.open(done.system).fingerprint
            finally:
                models.close()
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
    """How the cells that train are trained: in this process without workers that train. wanted: all cells, in their order.

    However the block ends, the workers end; what they train has a moment to save first.
    """
    if workers is None or workers.train is None:
        yield partial(train_here, shared, clock)
        return
    at_workers = _AtWorkers(shared, [one for one in wanted if one.cell.trains], workers.train)
    at_most_s = INTERRUPTED_S
    try:
        yield at_workers.train
        at_most_s = LAST_S
    except Exception as error:
        at_most_s = 0.0 if isinstance(error, ClusterLostError) else LAST_S
        raise
    finally:
        at_workers.end(at_most_s)


class _AtWorkers:
    """The workers start with the first training: before it, others answer prompts in their place."""

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
            _remove_proofs(self._bench.folder)

    def _started(self) -> TrainedAhead[CellBack]:
        models, bench = self._bench.models, self._bench
        bare = System(
            "bare", models.tuned_name, PromptDesign(""), Decoding(1), template_kwargs=bench.task.chat_template_kwargs
        )
        base = JobModel.of(models.opening(bare), models.open(bare))
        models.close()  # and the workers that answered: the trainings need their room
        proof = _new_proof(bench.folder)
        self._crew = self._start(bench.progress)
        return TrainedAhead(
            self._crew,
            self._jobs(base, proof),
            bench.stop,
            arrived=self._arrived,
            tell=(bench.folder / FILE_NAME).touch,
            under_way=self._show,
        )

    def _jobs(self, base: JobModel, proof: str) -> Iterator[CellJob]:
        shared, bench = self._shared, self._bench
        for one in self._wanted:
            bench.progress.say(words.of_training_begun(one.cell.label))
            yield CellJob(
                base,
                one,
                bench.task,
                bench.folder.resolve(),
                proof,
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


def _new_proof(study: Path) -> str:
    """The name of a new file in the study's folder, that no other machine can have looked up before."""
    _remove_proofs(study)
    name = f"{PROOF}{secrets.token_hex(16)}"
    with disk_errors(study):
        (study / name).touch()
    return name


def _remove_proofs(study: Path) -> None:
    with suppress(OSError):
        for path in study.glob(f"{PROOF}*"):
            path.unlink(missing_ok=True)
