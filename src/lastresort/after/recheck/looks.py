"""How often the frozen test set of a run has been looked at since the climb, and what error each look may make.

A test set that is used again and again will say yes by chance one day. All rechecks of a run share one error, separate from the
climb's: look k has 1/(k (k+1)) of it, which adds up to the whole over all k.
"""

from __future__ import annotations

from dataclasses import dataclass

from lastresort.climb.prepare import BETA
from lastresort.errors import DataError
from lastresort.evals.evidence import smallest_deciding_test
from lastresort.records.events import RecheckCounted
from lastresort.records.record import Record
from lastresort.report.recheck import TestLook
from lastresort.types import Unit


@dataclass(frozen=True, slots=True)
class RecheckNumber:
    """number: of the recheck among all of its run. look: of those among them that test systems against the bar, else None."""

    number: int
    look: int | None


def look_of(number: int, systems: int, confidence: float) -> TestLook:
    """The error of this look and of each of its systems."""
    budget = round(1 - confidence, 12)
    alpha = budget / (number * (number + 1))
    return TestLook(number=number, systems=systems, alpha=alpha, each=alpha / systems, budget=budget)


def check_size(look: TestLook, n: int, *, bar: float, binary: bool, unit: Unit) -> None:
    """Raises DataError where not even a perfect score on n items (or groups) could show at this error rate that the bar is met."""
    smallest = smallest_deciding_test(bar, look.each, BETA, binary=binary)
    if n < smallest:
        raise DataError(
            f"a test set of {n} {unit}s: at the error rate of {look.each:.2g} that is left for look {look.number} since the climb, "
            f"not even a perfect score shows that the bar of {bar:g} is met",
            expected=f"at least {smallest} {unit}s, or fewer looks",
            remedy="The test set is worn out: climb again with fresh items.",
        )


def earlier_number(record: Record, key: str) -> RecheckNumber | None:
    """Of the recheck that asked the same question before, None where there is none."""
    counted = record.last(RecheckCounted, key)
    return None if counted is None else RecheckNumber(counted.number, counted.look)


def next_number(record: Record, *, looks: bool) -> RecheckNumber:
    """looks: whether the next recheck tests systems against the bar."""
    before = record.all(RecheckCounted)
    seen = sum(counted.look is not None for counted in before)
    return RecheckNumber(len(before) + 1, seen + 1 if looks else None)


def count(record: Record, key: str, found: RecheckNumber, what: str) -> None:
    """Count a recheck before it sees an answer: one that is stopped has looked, too. The same question counts once."""
    if record.last(RecheckCounted, key) is None:
        record.append(RecheckCounted(question=key, number=found.number, look=found.look, what=what))
