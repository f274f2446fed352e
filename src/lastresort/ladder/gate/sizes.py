"""How many items of a suite a gate asks. Pure."""

from __future__ import annotations

import math
from dataclasses import dataclass

from lastresort.evals.gate.sizes import Wanted, planned
from lastresort.evals.suites.suite import Item, Suite, Transcript
from lastresort.ladder.gate.plans import Said, base_scores

# By alpha, the fewest, in whole steps of 16, of which a loss of 2 points can be excluded.
QUICK_ITEMS = {0.05: 160, 0.025: 208}
FEWEST, MOST, STEP = 64, 4096, 16


@dataclass(frozen=True, slots=True)
class Size:
    """items: to be asked. needed: what the planned power takes, if no more answers differ than `SPREAD` has it."""

    items: int
    needed: int


def size_of(suite: Suite, said: Said, margin: float, *, measures: int, alpha: float, quick: bool) -> Size:
    """Items of the suite that give each of its measures what it needs, in steps of 16, whatever model answers.

    said: the pilot of the base, which tells how many items say something about a measure. margin: of the suite. measures: of all
    suites that are asked. alpha: .05 or .025. quick: QUICK_ITEMS at most, which can cost power and nothing else; so can MOST.
    """
    of_any = sum(_says_something(suite, one) for one in said)
    wanted = [
        Wanted(measure.name, margin * measure.margin_factor, measure.binary, says=share)
        for measure in suite.measures
        if (share := len(base_scores(said, measure)) / of_any if of_any else 1.0) > 0
    ]
    needed = max((one.n_needed for one in planned(wanted, alpha=alpha, measures=measures)), default=0)
    needed = math.ceil(max(FEWEST, needed) / STEP) * STEP
    return Size(min(needed, QUICK_ITEMS[alpha] if quick else MOST), needed)


def _says_something(suite: Suite, one: tuple[Item, Transcript]) -> bool:
    """By one measure at least; what a pilot alone asks says nothing by any."""
    item, transcript = one
    return any(measure.pair(item, transcript, transcript) is not None for measure in suite.measures)
