"""Trainings at workers, in a climb or a study: what a worker gets of the driver's workbench, and how all of them end.

A worker trains in a folder of the driver, on a disk that all machines share, and writes into a record of its own.
"""

from __future__ import annotations

import math
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Generic

from pydantic import ValidationError

from lastresort.climb.workbench import open_models
from lastresort.data.preferences import PreferenceRow
from lastresort.errors import InfrastructureError, LastresortError
from lastresort.evals.scorers import build_scorer
from lastresort.foreign import DOCUMENT, read_content
from lastresort.models.cached import Cache
from lastresort.records.atomic import LOCK, LockHeld, disk_errors, locked
from lastresort.records.events.base import Stage
from lastresort.records.record import FILE_NAME, Record
from lastresort.report.words.progress import of_trainings
from lastresort.report.words.training import note_line
from lastresort.rungs.rung import Workbench
from lastresort.scale.crew import NOTICE_S, AnyJob, ClusterLostError, Crew, Ticket
from lastresort.scale.work import JobModel, JobTrained, R, Sign, TrainingJob, refuse_another_disk
from lastresort.spec.task import Task
from lastresort.stop import NEVER, Stop, StopFile
from lastresort.systems.system import PromptDesign, System
from lastresort.train.loop.spawn import TrainingProcesses
from lastresort.types import Decoding, Example, Progress

LAST_S = 60.0  # for trainings to save and end, once a stop is requested
LET_GO_S = 120.0  # to a worker that is cut off from the driver, which Ray ends within a minute
ALIVE, ALIVE_EVERY_S = "alive", 5.0  # a file in the folder of a training at a worker
INTERRUPTED_S = 1.0  # for trainings to save, of the few seconds that Ctrl-C leaves


@dataclass(frozen=True, slots=True)
class WorkerBench:
    """What a worker needs of the driver's workbench. proof: a file that the driver has made, by the same absolute path on every
    machine. stop: the file whose presence asks to stop. on_other_disk: what to do where a machine sees another folder. Everything
    else: as of `Workbench`.
    """

    task: Task
    dev: tuple[Example, ...]
    preferences: tuple[PreferenceRow, ...] | None
    max_new_tokens: int
    to_resume: str
    proof: Path
    stop: Path
    on_other_disk: str

    @classmethod
    def of(cls, bench: Workbench, proof: Path, stop: Path, on_other_disk: str) -> WorkerBench:
        fields = bench.task, bench.dev, bench.preferences, bench.max_new_tokens, bench.to_resume
        return cls(*fields, proof.resolve(), stop.resolve(), on_other_disk)

    def refuse_another_disk(self) -> None:
        """Raises PrerequisiteError where this machine sees another folder than the driver."""
        refuse_another_disk(self.proof, self.on_other_disk)

    @contextmanager
    def opened(
        self, record: Record, folder: Path, train: Sequence[Example], cache: Cache, progress: WorkerNotes
    ) -> Iterator[Workbench]:
        """The workbench at the worker. record: its own. folder: where it trains."""
        models, processes = open_models(self.task, cache), TrainingProcesses()
        try:
            yield Workbench(
                task=self.task,
                train=tuple(train),
                dev=self.dev,
                scorer=build_scorer("exact", {}),  # the driver scores
                record=record,
                folder=folder,
                models=models,
                progress=progress,
                max_new_tokens=self.max_new_tokens,
                in_words=note_line,
                stop=StopFile(self.stop),
                preferences=self.preferences,
                to_resume=self.to_resume,
                at=progress.at,
                at_worker=True,
                processes=processes,
            )
        finally:
            processes.close()
            models.close()


@dataclass(slots=True)
class WorkerNotes:
    """Progress of a worker: what it says is passed on, and a file shows how far it is, every few seconds. folder: of the training's
    record.
    """

    folder: Path
    said: list[str] = field(default_factory=list)
    _now: Stage = field(default_factory=lambda: Stage(label=""))
    _shown: float = -math.inf

    def stage(self, label: str, total: int | None = None, done: int = 0) -> None:
        self._show({"label": label, "total": total, "done": done, "split": ""})

    def advance(self, amount: int = 1, note: str = "") -> None:
        self._show({"done": self._now.done + amount})

    def at(self, rung: str, candidate: str = "", split: str = "", *_: object, **__: object) -> None:
        self._show({"split": split})

    def say(self, text: str) -> None:
        self.said.append(text)

    def _show(self, update: Mapping[str, object]) -> None:
        self._now = self._now.model_copy(update=update)
        if time.monotonic() - self._shown >= ALIVE_EVERY_S:
            self._shown = time.monotonic()
            with suppress(OSError):  # what is written for its content says so
                (self.folder / ALIVE).write_text(self._now.model_dump_json(exclude_defaults=True), encoding="utf-8")


def stage_in(folder: Path) -> Stage | None:
    """What the worker that trains there showed last, None where nothing can be read: it may be at it."""
    with suppress(OSError, LastresortError, ValidationError):
        return Stage.model_validate_json(read_content(folder / ALIVE, DOCUMENT))
    return None


def signs_in(folder: Path) -> Sign:
    """The files of this folder, which change as a training gets on. No time counts by itself: clocks of machines differ."""
    signs = set[tuple[str, int, int]]()
    with suppress(OSError):  # no folder yet
        for path in folder.iterdir():
            with suppress(OSError):  # it has just gone
                status = path.stat()
                signs.add((path.name, status.st_mtime_ns, status.st_size))
    return frozenset(signs)


@contextmanager
def own_record(folder: Path, resume: str) -> Iterator[Record]:
    """The record of a training in a folder of its own, which is held meanwhile: a worker that is lost to the driver may still be at
    work for a moment. Several machines write it in turn.

    Raises DataError where it cannot be read, InfrastructureError where it does not end within LET_GO_S, and where the disk refuses.
    """
    with disk_errors(folder):
        folder.parent.mkdir(exist_ok=True)
        folder.mkdir(exist_ok=True)
    with ExitStack() as stack:
        try:
            stack.enter_context(locked(folder / LOCK, wait_s=LET_GO_S))
        except LockHeld:
            raise InfrastructureError(
                "another process is still training here",
                where=str(folder),
                remedy="Wait until it has ended.",
                resume=resume,
            ) from None
        start = Record.open if (folder / FILE_NAME).is_file() else Record.create
        record = start(folder, journal="DELETE")
        yield stack.enter_context(record)


def base_to_train(bench: Workbench) -> JobModel:
    """The base, as it answers. The models, the workers that answered and the processes that trained are closed: the trainings need
    their room.
    """
    models, kwargs = bench.models, bench.task.chat_template_kwargs
    bare = System("bare", models.tuned_name, PromptDesign(""), Decoding(1), template_kwargs=kwargs)
    base = JobModel.of(models.opening(bare), models.open(bare))
    models.close()
    bench.processes.close()
    return base


def trained_ahead(
    bench: Workbench,
    crew: Crew,
    jobs: Iterator[TrainingJob[R]],
    stop: Path,
    arrived: Callable[[R], None],
    *,
    fails_at_once: bool = False,
) -> TrainedAhead[R]:
    """stop: the file that tells the trainings to save. arrived, fails_at_once: as of `TrainedAhead`."""

    return TrainedAhead(
        crew,
        jobs,
        bench.stop,
        arrived=arrived,
        tell=stop.touch,
        under_way=_UnderWay(bench.progress).show,
        fails_at_once=fails_at_once,
    )


class _UnderWay:
    """Shows how many trainings are at workers, and every few seconds how far each of them is."""

    def __init__(self, progress: Progress) -> None:
        self._progress, self._count, self._looked = progress, 0, time.monotonic()

    def show(self, jobs: Sequence[AnyJob]) -> None:
        """jobs: at workers; none as a wait begins, since the driver has shown other work meanwhile."""
        trainings = [job for job in jobs if isinstance(job, TrainingJob)]
        if len(trainings) != self._count:
            self._count = len(trainings)
            if trainings:
                self._progress.stage(of_trainings(len(trainings)), None)
        elif time.monotonic() - self._looked >= ALIVE_EVERY_S:
            self._looked = time.monotonic()
            self._progress.advance(0, "; ".join(job.so_far() for job in trainings))


class TrainedAhead(Generic[R]):
    """As many trainings at once as a crew has room for.

    jobs: each is made when it is sent. arrived: given each result in the driver's thread as it comes, in whatever order. tell: has
    the trainings under way save and end. under_way: called with what is at workers, at each look, and with nothing as a wait
    begins. fails_at_once: whether a failure is raised before its turn.
    """

    def __init__(
        self,
        crew: Crew,
        jobs: Iterator[TrainingJob[R]],
        stop: Stop,
        *,
        arrived: Callable[[R], None],
        tell: Callable[[], None],
        under_way: Callable[[Sequence[AnyJob]], None],
        fails_at_once: bool = False,
    ) -> None:
        self._crew, self._jobs, self._stop = crew, jobs, stop
        self._arrived, self._tell, self._under_way = arrived, tell, under_way
        self._sent: deque[tuple[int, Ticket]] = deque()
        self._back: dict[int, JobTrained[R]] = {}
        self._number = 0
        self._is_told, self._fails_at_once = False, fails_at_once

    def next(self) -> R:
        """The result of the first job that was not given back yet. Once one has failed, no other is sent.

        Raises its error; that of a request to stop, once the trainings under way have saved; InfrastructureError where workers are
        lost again and again with one training.
        """
        self._under_way(())
        self._crew.count_room()
        self._look()
        number, ticket = self._sent[0]
        self._crew.wait([ticket], NEVER, self._look)
        self._sent.popleft()
        found = self._back.pop(number)
        if found.failure is not None:
            raise found.failure.error()
        assert found.result is not None, "a training has a result or a failure"
        return found.result

    def end(self, at_most_s: float) -> None:
        """End the workers. The trainings under way save first, for which they get at_most_s, unless they have had their time."""
        try:
            if at_most_s and not self._is_told:
                self._end_trainings(at_most_s)
        finally:
            self._crew.end()

    def _look(self) -> None:
        """Send what there is room for, or have all save and end where that is requested."""
        request = self._stop.requested()
        if request is not None:
            self._end_trainings(LAST_S)
            raise request.error()
        failures = [found.failure for found in self._back.values() if found.failure is not None]
        if failures and self._fails_at_once:
            raise failures[0].error()
        self._crew.count_room(NOTICE_S)
        while not failures and self._crew.room(1) > 0 and (job := next(self._jobs, None)) is not None:
            self._number += 1
            self._sent.append((self._number, self._crew.submit(job, partial(self._came, self._number))))
        self._under_way(self._crew.at_work)

    def _came(self, number: int, found: JobTrained[R]) -> None:
        self._back[number] = found
        if found.result is not None:
            self._arrived(found.result)

    def _end_trainings(self, within_s: float) -> None:
        """What goes wrong meanwhile is not raised: the reason for which they end counts."""
        self._is_told = True
        if any(not ticket.done for _, ticket in self._sent):
            with suppress(OSError):
                self._tell()
            with suppress(LastresortError):
                self._crew.drain(within_s)


@contextmanager
def ended_after(end: Callable[[float], None]) -> Iterator[None]:
    """However the block ends, the workers end; what they train has a moment to save first. end: given how long."""
    at_most_s = INTERRUPTED_S
    try:
        yield
        at_most_s = LAST_S
    except Exception as error:
        at_most_s = 0.0 if isinstance(error, ClusterLostError) else LAST_S
        raise
    finally:
        end(at_most_s)
