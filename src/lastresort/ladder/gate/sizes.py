"""How many items of a suite a gate asks. Pure."""

from __future__ import annotations

import math

from lastresort.evals.evidence import items_needed
from lastresort.evals.gate.sizes import SPREAD, planned_power
from lastresort.evals.suites.suite import Item, Suite, Transcript
from lastresort.ladder.gate.plans import Said, base_scores

# By alpha, the fewest, in whole steps, of which a loss of 2 points can be excluded.
QUICK_ITEMS = {0.05: 160, 0.025: 208}
FEWEST, MOST, STEP = 64, 4096, 16


def items_to_ask(suite: Suite, said: Said, margin: float, *, measures: int, alpha: float, quick: bool) -> int:
    """Items of the suite that give each of its measures what it needs, in steps of 16, whatever model answers.

    said: the pilot of the base, which tells how many items say something about a measure. margin: of the suite. measures: of all
    suites that are asked. alpha: .05 or .025. quick: QUICK_ITEMS at most, which can cost power and nothing else.
    """
    wanted, of_any = FEWEST, sum(_says_something(suite, one) for one in said)
    for measure in suite.measures:
        share = len(base_scores(said, measure)) / of_any if of_any else 1.0
        if share == 0:
            continue
        needed = items_needed(
            margin * measure.margin_factor,
            SPREAD[measure.binary],
            power=planned_power(measures),
            alpha=alpha,
            binary=measure.binary,
        )
        wanted = max(wanted, math.ceil(needed / share))
    limited = min(wanted, QUICK_ITEMS[alpha] if quick else MOST)
    return math.ceil(limited / STEP) * STEP


def _says_something(suite: Suite, one: tuple[Item, Transcript]) -> bool:
    """By one measure at least; what a pilot alone asks says nothing by any."""
    item, transcript = one
    return any(measure.pair(item, transcript, transcript) is not None for measure in suite.measures)
