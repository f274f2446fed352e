"""The bounded queue between those who ask and the threads that compute, and what is known of an answer on its way."""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Callable
from typing import Generic, TypeVar

from lastresort.errors import StopRequestedError
from lastresort.serve.work import Deliver, Delivered, Draining, Ended, Failed, Load, QueueFull, Work

T = TypeVar("T")
LATEST = 32  # answers from whose pace the time until there is room is estimated
SOONEST_S, LATEST_S = 1.0, 60.0

_log = logging.getLogger("lastresort")


class Job(Generic[T]):
    """One answer on its way. prepared: what its owner needs to compute it.

    It is over with its last delivery, when it was cancelled, and when whoever receives it fails: nothing is delivered after that.
    """

    def __init__(self, work: Work, deliver: Deliver, prepared: T) -> None:
        self.work, self.prepared, self.over = work, prepared, False
        self._deliver = deliver
        self._lock = threading.RLock()  # whoever receives may cancel from within

    def tell(self, delivered: Delivered) -> None:
        with self._lock:
            if self.over:
                return
            self.over = isinstance(delivered, Ended | Failed)
            try:
                self._deliver(delivered)
            except Exception:  # noqa: BLE001 - of the receiver's code, which must not end the thread that computes for others
                self.over = True
                _log.exception("whoever waits for an answer could not receive it")

    def cancel(self) -> None:
        with self._lock:
            self.over = True


class Desk(Generic[T]):
    """Jobs in the order in which they came: waiting, at most `longest_queue` of them, then running. All methods may be called
    from any thread. clock: seconds from any origin."""

    def __init__(self, longest_queue: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._longest_queue, self._clock = longest_queue, clock
        self._changed = threading.Condition()
        self._waiting: deque[Job[T]] = deque()
        self._running: list[Job[T]] = []
        self._ended_at: deque[float] = deque(maxlen=LATEST)
        self._draining = self._closed = False

    @property
    def running(self) -> int:
        return len(self._running)

    def load(self, used: float, model: str | None = None) -> Load:
        """How many jobs run and wait, of all or of those for one model. used: share of the cache, passed on as it is."""
        with self._changed:
            running = [job for job in self._running if model in (None, job.work.model)]
            waiting = [job for job in self._waiting if model in (None, job.work.model) and not job.over]
        return Load(len(running), len(waiting), used)

    def refuse_if_full(self) -> None:
        """Raises QueueFull or Draining, before anything is computed for a job."""
        with self._changed:
            self._refuse()

    def submit(self, job: Job[T]) -> Callable[[], None]:
        """Returns what cancels it. Raises QueueFull, Draining."""
        with self._changed:
            self._refuse()
            self._waiting.append(job)
            self._changed.notify_all()

        def cancel() -> None:
            job.cancel()
            with self._changed:
                self._changed.notify_all()

        return cancel

    def wait(self) -> bool:
        """Until a job waits. False once the desk is closed."""
        with self._changed:
            self._changed.wait_for(lambda: self._closed or any(not job.over for job in self._waiting))
            return not self._closed

    @property
    def closed(self) -> bool:
        return self._closed

    def next(self, fits: Callable[[T], bool] = lambda _: True) -> Job[T] | None:
        """The first waiting job that fits, which runs from here on, if there is one."""
        with self._changed:
            self._drop_cancelled()
            for job in self._waiting:
                if fits(job.prepared):
                    self._waiting.remove(job)
                    self._running.append(job)
                    return job
            return None

    def done(self, job: Job[T]) -> None:
        """A running job is over, and nothing is computed for it any more."""
        with self._changed:
            self._running.remove(job)
            self._ended_at.append(self._clock())
            self._changed.notify_all()

    def drain(self, within_s: float) -> bool:
        """Take nothing new, wait until all is done, and let fail what is left then. Whether all was done."""
        with self._changed:
            self._draining = True
            done = self._changed.wait_for(self._empty, within_s)
        if not done:
            self._fail_all()
        return done

    def close(self) -> None:
        """Let fail what is left, and end those who wait for work."""
        with self._changed:
            self._draining = self._closed = True
        self._fail_all()

    def _refuse(self) -> None:
        if self._draining:
            raise Draining
        self._drop_cancelled()
        if len(self._waiting) >= self._longest_queue:
            raise QueueFull(self._room_in_s())

    def _fail_all(self) -> None:
        with self._changed:
            left = [*self._waiting, *self._running]
            self._waiting.clear()
        for job in left:
            job.tell(Failed(StopRequestedError("the server stopped before the answer was finished", where="serve")))
        with self._changed:
            self._changed.notify_all()

    def _empty(self) -> bool:
        self._drop_cancelled()
        return not self._waiting and not self._running

    def _drop_cancelled(self) -> None:
        if any(job.over for job in self._waiting):
            self._waiting = deque(job for job in self._waiting if not job.over)

    def _room_in_s(self) -> float:
        """At the pace of the latest answers, when one more will be done."""
        if len(self._ended_at) < 2:
            return SOONEST_S
        apart = (self._clock() - self._ended_at[0]) / len(self._ended_at)
        return min(LATEST_S, max(SOONEST_S, apart))
