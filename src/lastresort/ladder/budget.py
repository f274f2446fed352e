"""The task's limits of time and money, kept over all sessions of a run."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from lastresort.errors import BudgetError
from lastresort.records.record import Record
from lastresort.spec.task import Task


@dataclass
class Budget:
    """What may be spent, and what has been. hours, usd: limits, None for none. seconds, paid_usd: of earlier sessions."""

    hours: float | None
    usd: float | None
    seconds: float
    paid_usd: float
    clock: Callable[[], float]
    began: float

    @classmethod
    def of(cls, task: Task, record: Record, clock: Callable[[], float]) -> Budget:
        """Start a session of a run: earlier sessions are read from its record."""
        sessions = record.notes("session")
        return cls(
            task.limits.hours,
            task.limits.usd,
            sum(session["seconds"] for session in sessions),
            sum(session["usd"] for session in sessions),
            clock,
            clock(),
        )

    def pay(self, usd: float) -> None:
        """Count money that was really paid: answers from the cache cost nothing again."""
        self.paid_usd += usd

    def out_of_time(self) -> bool:
        return self.hours is not None and self.seconds + self.clock() - self.began > 3600 * self.hours

    def check(self) -> None:
        """Raises BudgetError once a limit is reached; what is finished is in the record by then."""
        if self.out_of_time():
            raise BudgetError(
                f"the time limit of {self.hours:g} hours is reached",
                where="limits.hours",
                remedy="Raise it and go on with --resume.",
            )
        if self.usd is not None and self.paid_usd >= self.usd:
            raise BudgetError(
                f"{self.paid_usd:.2f} USD are spent",
                where="limits.usd",
                expected=f"less than {self.usd:g}",
                remedy="Raise it and go on with --resume.",
            )

    def note_session(self, record: Record) -> None:
        """Put this session's time and money into the record."""
        before = sum(session["usd"] for session in record.notes("session"))
        record.note("session", {"seconds": self.clock() - self.began, "usd": self.paid_usd - before})
