"""Jobs to workers and answers back: a job whose worker is lost goes to another one, and a cluster may shrink and grow meanwhile."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from lastresort.errors import InfrastructureError
from lastresort.scale.work import JobAnswers, K, V, WorkerJob
from lastresort.stop import Stop, check

QUEUED = 2  # jobs at a worker: it goes on with the next one while the driver scores the last
MOST_TRIES = 3  # of a job whose workers are lost, and of workers that are lost before they are ready
LOOK_S, NOTICE_S, PATIENCE_S = 0.25, 20.0, 600.0
BATCH_S = 3600.0  # a worker that takes longer for one batch hangs
LAST_BATCH_S = 60.0  # for the batch under way once a stop is requested
REMEDY = "Go on with --resume, with --ray or without."


@dataclass(frozen=True, slots=True)
class WorkerReady:
    worker: int


@dataclass(frozen=True, slots=True)
class JobBack:
    """number: that the job was sent with."""

    worker: int
    number: int
    answers: JobAnswers[Any, Any]


@dataclass(frozen=True, slots=True)
class WorkerLost:
    """With all jobs that it had. why: in a few words."""

    worker: int
    why: str


News = WorkerReady | JobBack | WorkerLost


class Workers(Protocol):
    """Starts workers somewhere and carries jobs to them. Each does its jobs in the order in which they were sent."""

    @property
    def needs(self) -> str:
        """What a worker needs of its machine, in words."""

    @property
    def per_machine(self) -> float:
        """How many workers share a machine, on average."""

    def capacity(self) -> int:
        """How many workers there is room for now, those that run included."""

    def start(self, worker: int) -> None: ...
    def send(self, worker: int, number: int, job: WorkerJob[Any, Any]) -> None: ...

    def end(self, worker: int) -> None:
        """At once, with whatever it has in memory. No news of it follows."""

    def await_ended(self) -> None:
        """Until the workers that were ended on this machine are gone, as far as that can be seen, so that their memory is free."""

    def next(self, timeout_s: float) -> News | None:
        """What happened next, None where nothing did in time. Raises PrerequisiteError for a worker that cannot be used."""


@dataclass(slots=True, eq=False)
class Ticket:
    """A job under way. then: called in the driver's thread once its answers are there. wanted: False once nobody waits for it."""

    number: int
    job: WorkerJob[Any, Any]
    then: Callable[[JobAnswers[Any, Any]], None]
    tries: int = 1
    done: bool = False
    wanted: bool = True


class Crew:
    """The workers of a command. say: tells the user why nothing happens. clock: seconds from any origin."""

    def __init__(
        self,
        workers: Workers,
        say: Callable[[str], None],
        *,
        clock: Callable[[], float] = time.monotonic,
        patience_s: float = PATIENCE_S,
    ) -> None:
        self._workers, self._say, self._clock, self._patience_s = workers, say, clock, patience_s
        self._capacity = 0
        self._started = self._sent = self._failed_starts = 0
        self._starting: set[int] = set()
        self._at: dict[int, deque[Ticket]] = {}  # of each worker that is ready, its jobs in their order
        self._busy_since: dict[int, float] = {}  # with its first job
        self._waiting: deque[Ticket] = deque()
        self._is_stopped = False

    @property
    def share(self) -> float:
        """A worker's part of its machine."""
        return 1 / self._workers.per_machine

    def room(self, queued: int = QUEUED) -> int:
        """How many more jobs it makes sense to submit. queued: at each worker."""
        under_way = [*self._waiting, *(ticket for jobs in self._at.values() for ticket in jobs)]
        return queued * max(1, self._capacity) - sum(ticket.wanted for ticket in under_way)

    def count_room(self) -> None:
        """Ask how many workers there is room for: that changes as machines come and go."""
        self._capacity = self._workers.capacity()

    def submit(self, job: WorkerJob[K, V], then: Callable[[JobAnswers[K, V]], None]) -> Ticket:
        self._sent += 1
        ticket = Ticket(self._sent, job, then)
        self._waiting.append(ticket)
        self._dispatch()
        return ticket

    def wait(self, tickets: Sequence[Ticket], stop: Stop, meanwhile: Callable[[], None]) -> None:
        """Until all of these are done. meanwhile: called after each piece of news. Once a stop is requested, no other job goes to a
        worker, and these have LAST_BATCH_S left.

        Raises the error of the request where they are not done by then, InfrastructureError where jobs are lost again and again, or
        no worker can start.
        """
        idle_since, noticed = self._clock(), False
        stopped_since: float | None = None
        while not all(ticket.done for ticket in tickets):
            news = self._workers.next(LOOK_S)
            now = self._clock()
            if stop.requested() is not None:
                self._is_stopped = True
                stopped_since = now if stopped_since is None else stopped_since
                self._waiting = deque(ticket for ticket in self._waiting if ticket in tickets)
                if not self._at or now - stopped_since > LAST_BATCH_S:
                    check(stop)
            self._take(news)
            meanwhile()
            self._end_hanging(now)
            if self._at:
                idle_since = now
            elif now - idle_since > self._patience_s:
                raise InfrastructureError(
                    f"no worker could start within {self._patience_s / 60:.0f} minutes",
                    where="--ray",
                    expected=f"a machine of the cluster with {self._workers.needs} free",
                    remedy=REMEDY,
                )
            elif now - idle_since > NOTICE_S and not noticed:
                noticed = True
                self._say(f"Waiting for room in the cluster: a worker needs {self._workers.needs}.")

    def leave(self, tickets: Sequence[Ticket]) -> None:
        """Of these jobs those that are not done are no longer wanted."""
        for ticket in tickets:
            ticket.wanted = False
        self._waiting = deque(ticket for ticket in self._waiting if ticket.wanted)

    def release(self) -> None:
        """End all workers, and wait until their memory is free, which nobody needs once a stop is requested. Others start with the
        next job.
        """
        self.end()
        if not self._is_stopped:
            self._workers.await_ended()

    def end(self) -> None:
        """End all workers at once."""
        self._waiting.clear()
        for worker in (*self._starting, *self._at):
            self._workers.end(worker)
        self._starting.clear()
        self._at.clear()
        self._busy_since.clear()

    def _take(self, news: News | None) -> None:
        match news:
            case WorkerReady(worker):
                self._starting.discard(worker)
                self._at[worker], self._failed_starts = deque(), 0
            case JobBack(worker, number, answers):
                jobs = self._at[worker]
                ticket = next(one for one in jobs if one.number == number)
                jobs.remove(ticket)
                self._busy_since[worker] = self._clock()
                ticket.done = True
                if ticket.wanted:
                    ticket.then(answers)
            case WorkerLost(worker, why):
                self._replace(worker, why)
            case None:
                pass
        self._dispatch()

    def _end_hanging(self, now: float) -> None:
        for worker in [one for one, jobs in self._at.items() if jobs and now - self._busy_since[one] > BATCH_S]:
            self._workers.end(worker)
            self._replace(worker, f"no answer within {BATCH_S / 60:.0f} minutes")
            self._dispatch()

    def _replace(self, worker: int, why: str) -> None:
        """Send the jobs of a lost worker to others."""
        self.count_room()
        if worker in self._starting:
            self._starting.discard(worker)
            self._failed_starts += 1
            if self._failed_starts >= MOST_TRIES:
                raise InfrastructureError(f"workers end while they start ({why})", where="--ray", remedy=REMEDY)
            return
        jobs = [ticket for ticket in self._at.pop(worker, ()) if ticket.wanted]
        if not jobs:
            return
        first = jobs[0]  # the others were never begun
        if first.tries >= MOST_TRIES:
            raise InfrastructureError(
                f"{MOST_TRIES} workers were lost with the same batch ({why})",
                where="--ray",
                expected="memory for one batch on each worker",
                remedy=REMEDY,
            )
        first.tries += 1
        self._say(f"A worker was lost ({why}). Its batch goes to another one.")
        self._waiting.extendleft(reversed(jobs))

    def _dispatch(self) -> None:
        while self._waiting and (free := self._least_busy()) is not None:
            ticket = self._waiting.popleft()
            if not self._at[free]:
                self._busy_since[free] = self._clock()
            self._at[free].append(ticket)
            self._workers.send(free, ticket.number, ticket.job)
        if not self._waiting:
            return
        if not self._capacity:
            self.count_room()
        wanted = min(len(self._waiting), max(1, self._capacity) - len(self._at)) - len(self._starting)
        for _ in range(wanted):
            self._started += 1
            self._starting.add(self._started)
            self._workers.start(self._started)

    def _least_busy(self) -> int | None:
        """The ready worker with the fewest jobs, None where all have enough."""
        worker = min(self._at, key=lambda one: len(self._at[one]), default=None)
        if worker is None or len(self._at[worker]) >= QUEUED:
            return None
        return worker
