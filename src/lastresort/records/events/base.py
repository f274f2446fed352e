"""What every event has. An event knows its key, by which the newest of one rung, candidate or training is found."""

from __future__ import annotations

from typing import TypeVar

from pydantic import ConfigDict

from lastresort.records.document import CheckedValue
from lastresort.types import BarSoFar, MeasureSoFar

Interval = tuple[float, float]


class EventValue(CheckedValue):
    """Part of an event."""

    model_config = ConfigDict(frozen=True, extra="forbid", ser_json_inf_nan="constants", defer_build=True)


class BaseEvent(EventValue):
    """What every event has. kind: its name in the record, which is the name of the class."""

    kind: str

    @property
    def key(self) -> str:
        """Which of its kind, "" where there is one a run."""
        return ""


class OfRung(BaseEvent):
    """An event of which every rung has its own."""

    rung: str

    @property
    def key(self) -> str:
        return self.rung


class OfCandidate(OfRung):
    """An event of which every candidate, or training, of a rung has its own."""

    candidate: str

    @property
    def key(self) -> str:
        return self.candidate


E = TypeVar("E", bound=BaseEvent)


LOSSES = 60
READ = 0.5  # of the work on an item, once its prompt is read: what its answer takes is not known before


class Stage(EventValue):
    """What a run is at. label: in words. rung, candidate, split: "" where it is none. total: None where it is unknown. loss:
    of the last step of a training. losses: of its last steps, up to LOSSES. read: prompts that are read, in part too, and not
    answered. note: shown after the progress. eta_s: None before anything is done. spent_s, spent_usd: of the whole run so far.
    test: while the bar is tested. gate: its measures, after its first look.
    """

    # Nothing is decided from it, so a record with more in it can still be read.
    model_config = ConfigDict(extra="ignore")

    label: str
    rung: str = ""
    candidate: str = ""
    split: str = ""
    done: int = 0
    read: float = 0.0
    total: int | None = None
    loss: float | None = None
    losses: tuple[float, ...] = ()
    note: str = ""
    eta_s: float | None = None
    spent_s: float = 0.0
    spent_usd: float = 0.0
    test: BarSoFar | None = None
    gate: tuple[MeasureSoFar, ...] = ()

    @property
    def place(self) -> tuple[str, str, str]:
        return self.rung, self.candidate, self.split

    @property
    def worked(self) -> float:
        """Units of work that are done, those begun in part."""
        return self.done + READ * self.read


def time_left_s(spent_s: float, begun: int, done: float, total: int | None) -> float | None:
    """Of a stage, at the pace since it began with `begun` units done; None where nothing is known of it."""
    if total is None or not begun < done <= total:
        return None
    return spent_s / (done - begun) * (total - done)
