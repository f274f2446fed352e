"""The pilot of a base: look by look, until its suite has seen enough; and what asking more would take. Nothing of it is scored."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean

from lastresort.evals.suites.asking import ask
from lastresort.evals.suites.suite import Item, Transcript
from lastresort.ladder.gate.plans import Plan
from lastresort.models.protocol import Model
from lastresort.records.suite_answers import SuiteAnswers
from lastresort.types import Progress


@dataclass(frozen=True, slots=True)
class Piloted:
    """items: all that were asked. said: of those that the context can hold. seconds: by the id of an item."""

    items: tuple[Item, ...]
    said: tuple[tuple[Item, Transcript], ...]
    seconds: dict[str, float]

    def seconds_of(self, items: Sequence[Item]) -> float:
        """About what asking these takes: what the pilot's items of the same stratum took, of other strata what all of them did."""
        strata: dict[tuple[str, int], list[float]] = defaultdict(list)
        for item in self.items:
            strata[item.family, item.level].append(self.seconds[item.id])
        whole = fmean(self.seconds.values()) if self.seconds else 0.0
        means = {stratum: fmean(found) for stratum, found in strata.items()}
        return sum(means.get((item.family, item.level), whole) for item in items)


def pilot_of(model: Model, plan: Plan, margin: float, kept: SuiteAnswers, progress: Progress) -> Piloted:
    """Ask the base what the plan wants to know of it."""
    found = Piloted((), (), {})
    while items := plan.look(found.items, found.said, margin):
        progress.stage(f"{plan.name}: a pilot of the base", len(items))
        asked = ask(model, plan.pilot, items, kept, progress=progress)
        found = Piloted(
            (*found.items, *items), (*found.said, *asked.said(items)), found.seconds | asked.seconds_by_item
        )
    return found
