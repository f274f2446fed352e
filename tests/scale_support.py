"""Workers in this process, in whatever order a seed gives, some of which are lost: what a cluster does, without one."""

from __future__ import annotations

import pickle
import random
from collections import deque
from collections.abc import Callable, Mapping
from typing import Any

from lastresort.app.climb import MakeExecutor
from lastresort.evals.measure import Executor
from lastresort.rungs.rung import Workbench
from lastresort.scale.crew import Crew, JobBack, News, WorkerLost, WorkerReady
from lastresort.scale.executor import CrewExecutor
from lastresort.scale.work import AnsweringWorker, BatchJob


class WorkersHere:
    """seed: of who is quicker. room: how many workers there is room for, at each look. lost: whether this worker is lost with what
    it does, after it has answered. late: pieces of no news before each.
    """

    needs = "1 CPU"

    def __init__(
        self,
        seed: int = 0,
        *,
        room: Callable[[], int] = lambda: 2,
        lost: Callable[[int, BatchJob], bool] = lambda worker, job: False,
        late: int = 0,
        environment: Mapping[str, str] | None = None,
    ) -> None:
        self._random, self._lost, self._environment = random.Random(seed), lost, environment or {}
        self._late, self._silent = late, late
        self.capacity = room
        self._starting: list[int] = []
        self._workers: dict[int, AnsweringWorker] = {}
        self._queued: dict[int, deque[tuple[int, BatchJob]]] = {}
        self.begun: list[BatchJob] = []
        self.most_at_once = 0
        self.losses = 0

    def start(self, worker: int) -> None:
        self._starting.append(worker)

    def send(self, worker: int, number: int, job: BatchJob) -> None:
        self._queued[worker].append((number, pickle.loads(pickle.dumps(job))))
        self.most_at_once = max(self.most_at_once, sum(map(len, self._queued.values())))

    def next(self, timeout_s: float) -> News | None:
        if self._silent:
            self._silent -= 1
            return None
        self._silent = self._late
        busy = [worker for worker, jobs in self._queued.items() if jobs]
        if self._starting and (not busy or self._random.random() < 0.5):
            worker = self._starting.pop()
            self._workers[worker], self._queued[worker] = AnsweringWorker(self._environment), deque()
            return WorkerReady(worker)
        if not busy:
            return None
        worker = self._random.choice(busy)
        number, job = self._queued[worker].popleft()
        self.begun.append(job)
        found = self._workers[worker].answer(job)
        if self._lost(worker, job):
            self.losses += 1
            del self._workers[worker], self._queued[worker]
            return WorkerLost(worker, "killed")
        return JobBack(worker, number, pickle.loads(pickle.dumps(found)))


def answered_by(workers: Any, environment: Mapping[str, str] | None = None, **crew: Any) -> MakeExecutor:
    """Measures a climb with these workers."""

    def make(bench: Workbench) -> Executor:
        found = Crew(workers, bench.progress.say, **crew)
        return CrewExecutor(bench.local_executor(), bench.models, found, bench.models.on_lost, environment or {})

    return make
