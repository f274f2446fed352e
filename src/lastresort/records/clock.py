"""How long a run took: the wall clock of the processes that worked on it, without the time that it was stopped."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from lastresort.records.events.base import BaseEvent
from lastresort.records.events.run import BudgetSpent, ClimbFinished, ClimbResumed, ClimbStopped
from lastresort.records.record import Record
from lastresort.records.view import standing_finish


@dataclass(frozen=True, slots=True)
class RunClock:
    """noted_s: what its processes noted so far, up to the finish that still stands. noted_at: the moment up to which they did, UTC.
    ended: the climb stopped or finished then, and no process has taken it up since. left: who took it up last was refused, or
    only looks. since_finish_s: noted after that finish, which counts once something comes of it, such as a gate that takes hours.
    """

    noted_s: float
    noted_at: datetime
    ended: bool = False
    left: bool = False
    since_finish_s: float = 0.0

    @property
    def runs(self) -> bool:
        """Whether a process that holds the run climbs it, rather than looks at one that nobody climbs."""
        return not self.ended and not self.left

    def at(self, now: datetime) -> float:
        """Seconds of a run that a process holds now: it climbs, and notes its time as it goes, or looks at one that ended."""
        if not self.runs:
            return self.noted_s
        return self.noted_s + self.since_finish_s + max(0.0, (now - self.noted_at).total_seconds())


def clock_of(record: Record) -> RunClock:
    began, _ = record.times()
    noted = max([began, *_written(record, BudgetSpent, ClimbResumed)])
    ended = any(one >= noted for one in _written(record, ClimbStopped, ClimbFinished))
    last = record.last(BudgetSpent)
    finish = None if record.last(ClimbFinished) is None else standing_finish(record)
    all_s = worked_s(record)
    noted_s = all_s if finish is None else finish.worked_s
    left = last is not None and last.left
    return RunClock(noted_s, noted, ended, left, since_finish_s=all_s - noted_s)


def _written(record: Record, *kinds: type[BaseEvent]) -> list[datetime]:
    """When the newest event of each kind was."""
    return [at for kind in kinds if (at := record.written_at(kind)) is not None]


def worked_s(record: Record) -> float:
    """Seconds that were noted. What a process that was killed had not noted yet is not among them."""
    return sum(spent.seconds for spent in record.all(BudgetSpent))
