"""How long a run took: the wall clock of the processes that worked on it, without the time that it lay stopped."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from lastresort.records.events import BudgetSpent, ClimbResumed
from lastresort.records.record import Record


@dataclass(frozen=True, slots=True)
class RunClock:
    """noted_s: what its processes noted so far. noted_at: the moment up to which they did, UTC."""

    noted_s: float
    noted_at: datetime

    def at(self, now: datetime) -> float:
        """Seconds of a run that a process works on now, which is noted every few seconds."""
        return self.noted_s + max(0.0, (now - self.noted_at).total_seconds())


def clock_of(record: Record) -> RunClock:
    began, _ = record.times()
    noted = [record.written_at(kind) for kind in (BudgetSpent, ClimbResumed)]
    return RunClock(worked_s(record), max([began, *(one for one in noted if one is not None)]))


def worked_s(record: Record) -> float:
    """Seconds that were noted. What a process that was killed had not noted yet is not among them."""
    return sum(spent.seconds for spent in record.all(BudgetSpent))
