"""Calls to a server: many at once, within a time limit, and with retries and backoff."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from queue import Empty, SimpleQueue
from random import Random
from typing import TypeVar

from lastresort.errors import InfrastructureError, LateError

T = TypeVar("T")
Work = Callable[[int, threading.Event], T]


def run_concurrently(work: Work[T], count: int, *, workers: int, on_result: Callable[[int, T], None]) -> None:
    """Run work(index, stop) for every index below count, `workers` at a time. on_result runs in the calling thread.

    After the first failure nothing new starts. Calls under way may finish and their results are passed on, then the failure
    is raised. On Ctrl-C the results that have arrived are passed on, and nothing is waited for. The threads are daemons,
    because those of concurrent.futures would keep the program alive until their servers answer.
    """
    todo: SimpleQueue[int] = SimpleQueue()
    for index in range(count):
        todo.put(index)
    done: SimpleQueue[tuple[int, T | None, BaseException | None]] = SimpleQueue()
    stop = threading.Event()

    def run() -> None:
        while not stop.is_set():
            try:
                index = todo.get_nowait()
            except Empty:
                break
            try:
                done.put((index, work(index, stop), None))
            except BaseException as error:  # noqa: BLE001 - carried over to the calling thread and raised there
                stop.set()
                done.put((index, None, error))
        done.put((-1, None, None))

    running = min(workers, count)
    first_error: BaseException | None = None
    try:
        for number in range(running):
            threading.Thread(target=run, name=f"lastresort-call-{number}", daemon=True).start()
        while running:
            index, result, error = done.get()
            if index < 0:
                running -= 1
            elif error is None:
                on_result(index, result)  # type: ignore[arg-type]
            elif first_error is None or isinstance(first_error, CallAbandoned):
                first_error = error
    except KeyboardInterrupt:
        stop.set()
        _drain(done, on_result)
        raise
    finally:
        stop.set()
    if first_error is not None:
        raise first_error


def _drain(done: SimpleQueue[tuple[int, T | None, BaseException | None]], on_result: Callable[[int, T], None]) -> None:
    while True:
        try:
            index, result, error = done.get_nowait()
        except Empty:
            return
        if index >= 0 and error is None:
            on_result(index, result)  # type: ignore[arg-type]


class TransientFailure(Exception):
    """A failure that a retry may get past. after_s: how long the server asks to wait, None if it does not say. maybe_paid: whether
    the server may have answered, and charges for it. waited_s: how long a server that took the request was waited for, None where
    something else failed.
    """

    def __init__(
        self, reason: str, after_s: float | None = None, *, maybe_paid: bool = True, waited_s: float | None = None
    ) -> None:
        super().__init__(reason)
        self.reason, self.after_s, self.maybe_paid, self.waited_s = reason, after_s, maybe_paid, waited_s


def within(limit_s: float, call: Callable[[], T]) -> T:
    """The call's result. Raises TransientFailure after limit_s, and leaves the call behind in a thread of its own.

    A client's own time limit is for each read, so that a server which sends a byte now and then is waited for without end.
    """
    done: SimpleQueue[tuple[T | None, BaseException | None]] = SimpleQueue()

    def run() -> None:
        try:
            done.put((call(), None))
        except BaseException as error:  # noqa: BLE001 - carried over to the calling thread and raised there
            done.put((None, error))

    threading.Thread(target=run, name="lastresort-request", daemon=True).start()
    try:
        result, error = done.get(timeout=limit_s)
    except Empty:
        raise TransientFailure(f"no whole answer within {limit_s:.0f} seconds", waited_s=limit_s) from None
    if error is not None:
        raise error
    return result  # type: ignore[return-value]


class CallAbandoned(Exception):
    """No more retries, because the whole run is stopping."""


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """How often to retry and how long to wait. Waits double from first_wait_s to longest_wait_s, each times a random 0.5 to 1.5.

    repeat_late: whether to send again what a server took and did not answer in time: it may be paid for each time, and a slow model
    is as slow again. Otherwise such a call fails at once. If a server asks for more than longest_asked_s before a call that is to
    be sent again, the run stops and can be resumed.
    """

    attempts: int = 8  # enough to outlast a rate limit per minute
    repeat_late: bool = True
    first_wait_s: float = 1.0
    longest_wait_s: float = 60.0
    longest_asked_s: float = 300.0


def retry(
    call: Callable[[], T],
    *,
    patience: RetryPolicy,
    random: Random,
    sleep: Callable[[float], object],
    stopping: Callable[[], bool],
    where: str,
) -> T:
    """The call's result, retried after each TransientFailure.

    Raises InfrastructureError once patience is used up (LateError where the last answer took too long), CallAbandoned if `stopping`
    returns true before another attempt.
    """
    for attempt in range(1, patience.attempts + 1):
        try:
            return call()
        except TransientFailure as failure:
            late = failure.waited_s is not None and not patience.repeat_late
            if not late and failure.after_s is not None and failure.after_s > patience.longest_asked_s:
                raise _given_up(f"{failure.reason}, and asks to wait {failure.after_s:.0f} seconds", where) from failure
            if late or attempt == patience.attempts:
                attempts = "1 attempt" if attempt == 1 else f"{attempt} attempts"
                raise _given_up(f"{failure.reason}, after {attempts}", where, failure.waited_s) from failure
            sleep(wait_s(attempt, failure.after_s, patience, random))
            if stopping():
                raise CallAbandoned from failure
    raise AssertionError("unreachable: the last attempt returns or raises")


def wait_s(attempt: int, after_s: float | None, patience: RetryPolicy, random: Random) -> float:
    """Seconds to wait after this attempt (counted from 1). Never less than the server asked for."""
    backoff = min(patience.longest_wait_s, patience.first_wait_s * 2.0 ** (attempt - 1)) * (0.5 + random.random())
    return max(backoff, after_s or 0.0)


def retry_after_s(header: str | None, now_s: float) -> float | None:
    """Seconds that a Retry-After header asks for, as a number or a date. now_s: seconds since 1970. None if unreadable."""
    if not header:
        return None
    try:
        return max(0.0, float(header))
    except ValueError:
        pass
    try:
        return max(0.0, parsedate_to_datetime(header).timestamp() - now_s)
    except (ValueError, OverflowError, OSError):
        return None


def _given_up(reason: str, where: str, waited_s: float | None = None) -> InfrastructureError:
    remedy = "Finished answers are kept. Wait until it is back."
    if waited_s is None:
        return InfrastructureError(reason, where=where, remedy=remedy)
    late = LateError(reason, where=where, remedy=remedy)
    late.waited_s = waited_s
    return late
