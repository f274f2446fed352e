"""Workers in this process, in whatever order a seed gives, some of which are lost: what a cluster does, without one."""

from __future__ import annotations

import json
import pickle
import random
from collections import deque
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from lastresort.app.spread import lines_to, measured_by
from lastresort.climb.laps import ClimbWorkers
from lastresort.climb.trainings import WorkerNotes
from lastresort.gate.workers import SuiteJob
from lastresort.rungs.rung import MakeExecutor
from lastresort.scale.crew import TRAININGS, AnyJob, Crew, JobBack, News, WorkerLost, WorkerReady, Workers
from lastresort.scale.work import AnsweringWorker, JobAnswers, TrainingJob, TrainingWorker
from lastresort.study.at_workers import StudyWorkers


class Killed(BaseException):
    """Stands for the end of a worker's process: nothing in the program catches it."""


class WorkersHere:
    """seed: of who is quicker. room: how many workers there is room for, at each look. lost: whether this worker is lost with what
    it does, after it has answered.
    """

    needs = "1 CPU"
    per_machine = 1.0

    def __init__(
        self,
        seed: int = 0,
        *,
        room: Callable[[], int] = lambda: 2,
        lost: Callable[[int, AnyJob], bool] = lambda worker, job: False,
    ) -> None:
        self._random, self._lost = random.Random(seed), lost
        self.capacity = room
        self._starting: list[int] = []
        self._workers: dict[int, AnsweringWorker] = {}
        self._trains: dict[int, TrainingWorker] = {}
        self._queued: dict[int, deque[tuple[int, AnyJob]]] = {}
        self.sent: list[AnyJob] = []
        self.begun: list[AnyJob] = []
        self.ended: list[int] = []
        self.awaited: list[int] = []  # how many had ended by then
        self.most_at_once = 0
        self.losses = 0

    def start(self, worker: int) -> None:
        self._starting.append(worker)

    def end(self, worker: int) -> None:
        self.ended.append(worker)
        self._starting = [one for one in self._starting if one != worker]
        self._workers.pop(worker, None)
        self._queued.pop(worker, None)

    def await_ended(self) -> None:
        self.awaited.append(len(self.ended))

    def send(self, worker: int, number: int, job: AnyJob) -> None:
        self.sent.append(job)
        self._queued[worker].append((number, pickle.loads(pickle.dumps(job))))
        self.most_at_once = max(self.most_at_once, sum(map(len, self._queued.values())))

    def next(self, timeout_s: float) -> News | None:
        busy = [worker for worker, jobs in self._queued.items() if jobs]
        if self._starting and (not busy or self._random.random() < 0.5):
            worker = self._starting.pop()
            self._workers[worker], self._queued[worker] = AnsweringWorker(), deque()
            self._trains[worker] = TrainingWorker()
            return WorkerReady(worker)
        if not busy:
            return None
        worker = self._random.choice(busy)
        number, job = self._queued[worker].popleft()
        self.begun.append(job)
        try:
            trains = isinstance(job, TrainingJob)
            found = self._trains[worker].train(job) if trains else self._workers[worker].answer(job)
            is_lost = self._lost(worker, job)
        except Killed:
            is_lost = True
        if is_lost:
            self.losses += 1
            del self._workers[worker], self._queued[worker]
            return WorkerLost(worker, "killed")
        return JobBack(worker, number, pickle.loads(pickle.dumps(found)))


class SignsSeen(WorkersHere):
    """signs: names of the files that the driver looks at for each training that came back, before it and after. shown: what its
    worker advanced by.
    """

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        super().__init__(room=lambda: 1)
        self.signs: list[tuple[set[str], set[str]]] = []
        self.shown: list[int] = []
        advance = WorkerNotes.advance

        def advanced(notes: WorkerNotes, amount: int = 1, note: str = "") -> None:
            self.shown.append(amount)
            advance(notes, amount, note)

        monkeypatch.setattr(WorkerNotes, "advance", advanced)

    def next(self, timeout_s: float) -> News | None:
        queued = [entry for jobs in self._queued.values() for entry in jobs]
        before = {number: _signs_of(job) for number, job in queued}
        news = super().next(timeout_s)
        if isinstance(news, JobBack):
            self.signs.append((before[news.number], _signs_of(self.begun[-1])))
        return news


def _signs_of(job: AnyJob) -> set[str]:
    return {name for name, *_ in job.last_sign()} if isinstance(job, TrainingJob) else set()


class FourToAMachine(WorkersHere):
    """Each takes two seconds for an answer while the others are at work beside it."""

    per_machine = 4.0

    def next(self, timeout_s: float) -> News | None:
        news = super().next(timeout_s)
        if not isinstance(news, JobBack):
            return news
        assert isinstance(news.found, JobAnswers)
        slow = {place: replace(one, seconds=2.0) for place, one in news.found.answers.items()}
        return replace(news, found=replace(news.found, answers=slow))


def content_of(job: AnyJob) -> str:
    """All that its answers depend on."""
    if isinstance(job, SuiteJob):
        return repr((job.model, job.suite.name, job.suite.version, job.items))
    return repr(job)


def answered_by(workers: Workers) -> MakeExecutor:
    """Measures a climb with these workers."""
    return lambda bench: measured_by(workers, bench, bench.models)


def climb_workers(answering: Workers, training: Workers) -> ClimbWorkers:
    """Of a climb: those that answer, and those that train its laps."""
    return ClimbWorkers(answered_by(answering), lambda rung, shown: Crew(training, lines_to(shown.say), kind=TRAININGS))


def study_workers(answering: Workers, training: Workers) -> StudyWorkers:
    """Of a study: those that answer its prompts, and those that train."""
    return StudyWorkers(answered_by(answering), lambda shown: Crew(training, lines_to(shown.say), kind=TRAININGS))


def figures(gate: dict[str, Any]) -> dict[str, Any]:
    """Of gate.json: all but seconds, what was asked just now, what names a folder, and how often items were used."""
    found: dict[str, Any] = json.loads(json.dumps(gate))
    for name in ("seconds", "expected_seconds"):
        found["forecast"].pop(name)
    for name in ("spent", "test_reuse", "provenance", "base", "tuned", "fingerprints"):
        found.pop(name)
    for suite in found["suites"]:
        suite["asked"] = {name: value for name, value in (suite["asked"] or {}).items() if name != "seconds"}
    return found
