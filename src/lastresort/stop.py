"""Asking long work to end. Whoever computes looks between batches and between steps; nothing is thrown into it from outside."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from threading import Event
from typing import Literal, Protocol

from lastresort.errors import BudgetError, StoppedError, StopRequestedError

FILE_NAME = "stop"  # in the folder of a run: whoever creates it ends the run at its next check


@dataclass(frozen=True, slots=True)
class StopRequest:
    """Why to end, and how to go on. where, expected and remedy are those of the error."""

    reason: Literal["signal", "file", "time", "money"]
    found: str
    where: str = ""
    expected: str = ""
    remedy: str = "Go on with --resume."

    def error(self) -> StoppedError:
        kind = BudgetError if self.reason in ("time", "money") else StopRequestedError
        return kind(self.found, where=self.where, expected=self.expected, remedy=self.remedy)


class Stop(Protocol):
    """What long work looks at. Looking is cheap and may be done by any thread."""

    def requested(self) -> StopRequest | None:
        """The first request there is, None while the work may go on."""


def check(stop: Stop) -> None:
    """Raises the request's StoppedError where there is one; what is finished is kept by then."""
    request = stop.requested()
    if request is not None:
        raise request.error()


@dataclass(frozen=True, slots=True)
class Never:
    """Nobody asks."""

    def requested(self) -> StopRequest | None:
        return None


NEVER = Never()


@dataclass(frozen=True, slots=True)
class StopFile:
    """A file that asks for the end by being there: the way of other processes, on any machine that shares the folder."""

    path: Path

    def requested(self) -> StopRequest | None:
        if not self.path.exists():
            return None
        return StopRequest("file", "the file asks to stop", where=str(self.path))


@contextmanager
def stop_file(folder: Path) -> Iterator[StopFile]:
    """The one in the folder of a run. At the end it is taken away: it was followed, or came too late."""
    file = StopFile(folder / FILE_NAME)
    try:
        yield file
    finally:
        file.path.unlink(missing_ok=True)


class StopSignal:
    """A request from within the process: by the handler of a signal, another thread, a notebook's button."""

    def __init__(self) -> None:
        self._event = Event()

    def request(self) -> None:
        self._event.set()

    def requested(self) -> StopRequest | None:
        return StopRequest("signal", "a signal asked to stop") if self._event.is_set() else None


@dataclass(frozen=True, slots=True)
class FirstOf:
    """Several that are looked at in their order."""

    stops: tuple[Stop, ...]

    def requested(self) -> StopRequest | None:
        return next((found for stop in self.stops if (found := stop.requested()) is not None), None)
