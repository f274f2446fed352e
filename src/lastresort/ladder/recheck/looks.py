"""How often the frozen test set of a run has been looked at since the climb, and what error each look may make.

A test set that is asked again and again will some day say yes by chance. All rechecks of a run share one error, apart from
the climb's own: look k has 1/(k (k+1)) of it, which over all k, however many there will be, adds up to the whole.
"""

from __future__ import annotations

from dataclasses import dataclass

from lastresort.errors import DataError
from lastresort.evals.evidence import smallest_deciding_test
from lastresort.ladder.prepare import BETA
from lastresort.records.record import Record
from lastresort.report.wording import percent_in_text as percent
from lastresort.types import Unit

EVENT = "recheck"


@dataclass(frozen=True, slots=True)
class Look:
    """number: 1 for the first after the climb. alpha: its error of a false MET. each: of each of its systems. budget: of all
    looks together.
    """

    number: int
    systems: int
    alpha: float
    each: float
    budget: float


@dataclass(frozen=True, slots=True)
class Numbered:
    """number: of the recheck among all of its run. look: of those among them that test systems against the bar, else None."""

    number: int
    look: int | None


def look_of(number: int, systems: int, confidence: float) -> Look:
    """The error of this look and of each of its systems."""
    budget = round(1 - confidence, 12)
    alpha = budget / (number * (number + 1))
    return Look(number, systems, alpha, alpha / systems, budget)


def check_size(look: Look, n: int, *, bar: float, binary: bool, unit: Unit) -> None:
    """Raises DataError if even a perfect score on n items (or groups) could not show at this error that the bar is met."""
    smallest = smallest_deciding_test(bar, look.each, BETA, binary=binary)
    if n < smallest:
        raise DataError(
            f"a test set of {n} {unit}s, on which look {look.number} since the climb could not show even with a perfect score "
            f"that the bar of {bar:g} is met, at the {look.each:.2g} that its error has come down to",
            expected=f"at least {smallest} {unit}s, or fewer looks",
            remedy="The test set is worn out: climb again with fresh items.",
        )


def told(look: Look) -> str:
    """What a look at a frozen test set is worth, in words."""
    systems = "" if look.systems == 1 else f", {_share(look.each)} for each of its {look.systems} systems"
    return (
        f"This is look {look.number} at the frozen test set since the climb. All looks of a run together say MET wrongly with a "
        f"chance of at most {percent(look.budget)}, apart from the climb's own; this one has {_share(look.alpha)} of it{systems}. "
        "That holds for models and prompts chosen without these items: what was mended after seeing them is fitted to them."
    )


def numbered(record: Record, key: str) -> Numbered | None:
    """The recheck that asked the same before, None where none did."""
    noted = record.last(EVENT, key)
    return None if noted is None else Numbered(noted["number"], noted["look"])


def next_number(record: Record, *, looks: bool) -> Numbered:
    """What the next recheck is. looks: whether it tests systems against the bar."""
    before = record.notes(EVENT)
    seen = sum(noted["look"] is not None for noted in before)
    return Numbered(len(before) + 1, seen + 1 if looks else None)


def note(record: Record, key: str, found: Numbered, what: str) -> None:
    """Count a recheck, before it has seen an answer: one that is broken off has looked, too. The same again counts once."""
    if record.last(EVENT, key) is None:
        record.note(EVENT, {"number": found.number, "look": found.look, "what": what}, key=key)


def _share(alpha: float) -> str:
    return f"{100 * alpha:.2g} %"
