"""Jobs to workers and results back: a job whose worker is lost goes to another one, and a cluster may shrink and grow meanwhile."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, overload

from lastresort.errors import InfrastructureError
from lastresort.scale.work import NO_SIGN, JobAnswers, JobTrained, K, R, Sign, TrainingJob, V, WorkerJob
from lastresort.stop import Stop, check

QUEUED = 2  # jobs at a worker: it goes on with the next one while the driver scores the last
MOST_TRIES = 3  # of a job whose workers are lost, and of workers that are lost before they are ready
LOOK_S, NOTICE_S, PATIENCE_S = 0.25, 20.0, 600.0
BATCH_S = 3600.0  # a worker that takes longer for one batch hangs
# So does one whose training shows nothing new for longer: it may download a model, or score many pairs.
SILENT_S = 6 * 3600.0
PAUSES = 20  # unless so many of the longest pause so far take longer: steps on a slow machine, of a long dev set
LAST_BATCH_S = 60.0  # for the batch under way once a stop is requested
REMEDY = "Check the cluster, or leave --ray out."
_ANSWERING = "machines and a disk that answer"


class ClusterLostError(InfrastructureError):
    """Nobody answers any more: what is under way cannot be told to end."""


@dataclass(frozen=True, slots=True)
class JobKind:
    """What the jobs of a crew are. name: in a sentence. queued: how many a worker has at most. longest_s: a worker hangs that takes
    longer for a job, or from one sign of a training to the next.
    """

    name: str
    queued: int
    longest_s: float


BATCHES = JobKind("batch", QUEUED, BATCH_S)
TRAININGS = JobKind("training", 1, SILENT_S)  # the next one goes to whichever worker is free first


@dataclass(frozen=True, slots=True)
class WaitingForRoom:
    """No worker can start yet. needs: of each."""

    needs: str


@dataclass(frozen=True, slots=True)
class JobMoved:
    """A job goes to another worker, since its own was lost. why: a clause."""

    why: str
    job: str


CrewNote = WaitingForRoom | JobMoved  # `report.words.progress` writes the line of each


@dataclass(frozen=True, slots=True)
class WorkerReady:
    worker: int


@dataclass(frozen=True, slots=True)
class JobBack:
    """number: that the job was sent with."""

    worker: int
    number: int
    found: JobAnswers[Any, Any] | JobTrained[Any]


@dataclass(frozen=True, slots=True)
class WorkerLost:
    """With all jobs that it had. why: in a few words."""

    worker: int
    why: str


AnyJob = WorkerJob[Any, Any] | TrainingJob[Any]
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
    def send(self, worker: int, number: int, job: AnyJob) -> None: ...

    def end(self, worker: int) -> None:
        """At once, with whatever it has in memory. No news of it follows."""

    def await_ended(self) -> None:
        """Until the workers that were ended on this machine are gone, as far as that can be seen, so that their memory is free."""

    def next(self, timeout_s: float) -> News | None:
        """What happened next, None where nothing did in time. Raises PrerequisiteError for a worker that cannot be used."""


@dataclass(slots=True, eq=False)
class Ticket:
    """A job under way. then: called in the driver's thread with what came back. wanted: False once nobody waits for it."""

    number: int
    job: AnyJob
    then: Callable[[Any], None]
    tries: int = 1
    done: bool = False
    wanted: bool = True


@dataclass(frozen=True, slots=True)
class _Busy:
    """A worker at its first job. since: it began, or its training gave a sign. sign: the last one."""

    since: float
    sign: Sign


class Crew:
    """The workers of a command. say: gets what the user hears of them. kind: of its jobs. clock: seconds from any origin."""

    def __init__(
        self,
        workers: Workers,
        say: Callable[[CrewNote], None],
        *,
        kind: JobKind = BATCHES,
        clock: Callable[[], float] = time.monotonic,
        patience_s: float = PATIENCE_S,
    ) -> None:
        self._workers, self._say, self._clock, self._patience_s = workers, say, clock, patience_s
        self._kind = kind
        self._capacity, self._counted = 0, clock()
        self._started = self._sent = self._failed_starts = 0
        self._starting: set[int] = set()
        self._at: dict[int, deque[Ticket]] = {}  # of each worker that is ready, its jobs in their order
        self._busy: dict[int, _Busy] = {}
        self._longest_pause_s = 0.0  # between two signs of a training
        self._waiting: deque[Ticket] = deque()
        self._is_stopped = False

    def turn_to(self, kind: JobKind) -> None:
        """Send jobs of another kind to the same workers from now on. Nobody may wait for one of the kind before."""
        self._kind = kind

    @property
    def share(self) -> float:
        """A worker's part of its machine."""
        return 1 / self._workers.per_machine

    def room(self, queued: int = QUEUED) -> int:
        """How many more jobs it makes sense to submit. queued: at each worker."""
        under_way = [*self._waiting, *(ticket for jobs in self._at.values() for ticket in jobs)]
        return queued * max(1, self._capacity) - sum(ticket.wanted for ticket in under_way)

    @property
    def at_work(self) -> list[AnyJob]:
        """The jobs that are at workers."""
        return [ticket.job for jobs in self._at.values() for ticket in jobs]

    def count_room(self, every_s: float = 0.0) -> None:
        """Ask how many workers there is room for: that changes as machines come and go. Not again within every_s."""
        if every_s and self._clock() - self._counted < every_s:
            return
        self._capacity, self._counted = self._workers.capacity(), self._clock()

    @overload
    def submit(self, job: WorkerJob[K, V], then: Callable[[JobAnswers[K, V]], None]) -> Ticket: ...
    @overload
    def submit(self, job: TrainingJob[R], then: Callable[[JobTrained[R]], None]) -> Ticket: ...

    def submit(self, job: AnyJob, then: Callable[[Any], None]) -> Ticket:
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
        began = idle_since = self._clock()
        noticed = False
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
            if news is None:  # else one that is done may wait to be taken
                self._end_hanging(now, began)
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
                self._say(WaitingForRoom(self._workers.needs))

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

    def drain(self, within_s: float) -> None:
        """Send nothing more, and wait so long for the jobs under way to come back. One whose worker is lost does not."""
        self._is_stopped = True
        until = self._clock() + within_s
        self._waiting.clear()
        while any(self._at.values()) and self._clock() < until:
            news = self._workers.next(LOOK_S)
            if isinstance(news, WorkerLost):
                self._starting.discard(news.worker)
                self._at.pop(news.worker, None)
            else:
                self._take(news)

    def end(self) -> None:
        """End all workers at once."""
        self._waiting.clear()
        for worker in (*self._starting, *self._at):
            self._workers.end(worker)
        self._starting.clear()
        self._at.clear()
        self._busy.clear()

    def _take(self, news: News | None) -> None:
        match news:
            case WorkerReady(worker):
                self._starting.discard(worker)
                self._at[worker], self._failed_starts = deque(), 0
            case JobBack(worker, number, found):
                jobs = self._at[worker]
                ticket = next(one for one in jobs if one.number == number)
                jobs.remove(ticket)
                self._begin_first(worker)
                ticket.done = True
                if ticket.wanted:
                    ticket.then(found)
            case WorkerLost(worker, why):
                self._replace(worker, why)
            case None:
                pass
        self._dispatch()

    def _begin_first(self, worker: int) -> None:
        jobs = self._at[worker]
        self._busy[worker] = _Busy(self._clock(), _sign_of(jobs[0].job) if jobs else NO_SIGN)

    def _end_hanging(self, now: float, watched_since: float) -> None:
        """watched_since: a sign before it may have been seen late, and says nothing of a pause."""
        busy = [worker for worker, jobs in self._at.items() if jobs]
        for worker in busy:
            known, sign = self._busy[worker], _sign_of(self._at[worker][0].job)
            if sign != known.sign:
                if known.since > watched_since:
                    self._longest_pause_s = max(self._longest_pause_s, now - known.since)
                self._busy[worker] = _Busy(now, sign)
        longest_s = max(self._kind.longest_s, PAUSES * self._longest_pause_s)
        for worker in [one for one in busy if now - self._busy[one].since > longest_s]:
            self._workers.end(worker)
            self._replace(worker, f"no progress within {longest_s / 60:.0f} minutes", _ANSWERING)
            self._dispatch()

    def _replace(self, worker: int, why: str, expected: str = "") -> None:
        """Send the jobs of a lost worker to others. expected: of its machine, "" for memory."""
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
                f"{MOST_TRIES} workers were lost with the same {self._kind.name} ({why})",
                where="--ray",
                expected=expected or f"memory for one {self._kind.name} on each worker",
                remedy=REMEDY,
            )
        first.tries += 1
        self._say(JobMoved(why, self._kind.name))
        self._waiting.extendleft(reversed(jobs))

    def _dispatch(self) -> None:
        while self._waiting and (free := self._least_busy()) is not None:
            ticket = self._waiting.popleft()
            self._at[free].append(ticket)
            if len(self._at[free]) == 1:
                self._begin_first(free)
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
        if worker is None or len(self._at[worker]) >= self._kind.queued:
            return None
        return worker


def _sign_of(job: AnyJob) -> Sign:
    return job.last_sign() if isinstance(job, TrainingJob) else NO_SIGN
