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
LEAST_READ = 0.1  # of the prompts to come: the first few take long, as the first batch does
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

    def come_to(self, done: int, read: float, note: str, begun: int, spent_s: float) -> Stage:
        """It began with `begun` units done, `spent_s` ago. The time left is by the pace since, None where nothing is known."""
        now = self.model_copy(update={"done": done, "read": read, "note": note or self.note, "eta_s": None})
        too_few = done == begun and read < LEAST_READ * ((self.total or 0) - done)
        if too_few or self.total is None or not begun < now.worked <= self.total:
            return now
        return now.model_copy(update={"eta_s": spent_s / (now.worked - begun) * (self.total - now.worked)})
