"""Stop requests to long-running work. It checks between batches and between steps; nothing interrupts it from outside."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from threading import Event
from typing import Literal, Protocol

from lastresort.errors import BudgetError, StoppedError, StopRequestedError

FILE_NAME = "stop"  # in the folder of a run: whoever creates it ends the run at its next check


@dataclass(frozen=True, slots=True)
class StopRequest:
    """Why to stop, and how to go on. where, expected, remedy and resume are those of the error."""

    reason: Literal["signal", "file", "time", "money"]
    found: str
    where: str = ""
    expected: str = ""
    remedy: str = ""
    resume: str = ""

    def error(self) -> StoppedError:
        kind = BudgetError if self.reason in ("time", "money") else StopRequestedError
        return kind(self.found, where=self.where, expected=self.expected, remedy=self.remedy, resume=self.resume)


class Stop(Protocol):
    """Where long-running work looks for requests. Looking is cheap, and any thread may do it."""

    def requested(self) -> StopRequest | None:
        """The first request, None while the work may go on."""


GoOn = Callable[[str, Stop], bool | None]
"""(question, where requests to stop are looked for meanwhile) -> the user's answer; None where nobody gives one in time."""


NOTHING_KEPT = "Nothing was written. Run the command again."


def check(stop: Stop, *, resume: str | None = None) -> None:
    """Raise the error of a request, if there is one. Whatever is finished has been recorded by then.

    resume: in the place of the request's own, for work that keeps nothing.
    """
    request = stop.requested()
    if request is not None:
        raise (request if resume is None else replace(request, resume=resume)).error()


@dataclass(frozen=True, slots=True)
class Never:
    """Never asks to stop."""

    def requested(self) -> StopRequest | None:
        return None


NEVER = Never()


@dataclass(frozen=True, slots=True)
class StopFile:
    """A file whose presence asks to stop, so that other processes can ask, from any machine that shares the folder."""

    path: Path

    def requested(self) -> StopRequest | None:
        if not self.path.exists():
            return None
        return StopRequest("file", "the file asks to stop", where=str(self.path))


@contextmanager
def stop_file(folder: Path) -> Iterator[StopFile]:
    """The stop file of a run's folder, for who holds its lock. It is removed at the end, since it was obeyed or came too late, and
    at the beginning: one that is there then was for a process that was killed.
    """
    file = StopFile(folder / FILE_NAME)
    file.path.unlink(missing_ok=True)
    try:
        yield file
    finally:
        file.path.unlink(missing_ok=True)


class StopSignal:
    """A request from within the process: a signal handler, another thread, a button in a notebook."""

    def __init__(self) -> None:
        self._event = Event()

    def request(self) -> None:
        self._event.set()

    def requested(self) -> StopRequest | None:
        return StopRequest("signal", "a signal asked to stop") if self._event.is_set() else None


@dataclass(frozen=True, slots=True)
class FirstOf:
    """Several places to look, in this order."""

    stops: tuple[Stop, ...]

    def requested(self) -> StopRequest | None:
        return next((found for stop in self.stops if (found := stop.requested()) is not None), None)
