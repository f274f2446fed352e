"""How many items of each stratum a pilot asks: a look at all of them, then more of those that may still do. Pure.

A stratum is judged once, on all items of its last look (`headroom`). It is given up before that where it is unlikely to pass, or
held for good where it can no longer fail: neither makes it likelier that a base which only guesses passes. Of constraints the
levels are asked one after the other, as a request of a level makes more demands than one of the level below: where that scores
below the middle between chance and 1, no higher level lies nearer to it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from lastresort.evals.suites.headroom import Pilot
from lastresort.evals.suites.strata import CONSTRAINTS, Stratum

CHOICE_LOOKS = (8, 16)  # of 16 items 9 right show a family of four options to have something to lose
CONSTRAINT_LOOKS = (12, 32, 64)  # few are kept by small models, and it takes many items to see that it is not by chance
QUICK_CONSTRAINT_LOOKS = (12, 32)
HOPE = 0.05  # of passing, below which a stratum is given up


def looks_at(stratum: Stratum, *, quick: bool) -> tuple[int, ...]:
    """Items that have been asked after each look."""
    if stratum.family not in CONSTRAINTS:
        return CHOICE_LOOKS
    return QUICK_CONSTRAINT_LOOKS if quick else CONSTRAINT_LOOKS


def next_looks(
    strata: Sequence[Stratum],
    asked: Mapping[Stratum, int],
    pilots: Mapping[Stratum, Pilot],
    margin: float,
    *,
    quick: bool,
) -> dict[Stratum, int]:
    """Up to which item each stratum that is looked at again is asked; empty when the pilot is over.

    asked: items so far. pilots: what was right of those that the context can hold; one of which it holds none is not asked on.
    """
    again = {}
    for stratum in strata:
        stops = [stop for stop in looks_at(stratum, quick=quick) if stop > asked.get(stratum, 0)]
        if stops and _is_open(stratum, asked, pilots, margin, stops[-1]):
            again[stratum] = stops[0]
    return again


def _is_open(
    stratum: Stratum, asked: Mapping[Stratum, int], pilots: Mapping[Stratum, Pilot], margin: float, last: int
) -> bool:
    if stratum in asked:
        return stratum in pilots and HOPE <= hope(pilots[stratum], margin, last) < 1
    if stratum.family not in CONSTRAINTS or stratum.level == 1:
        return True
    below = pilots.get(Stratum(stratum.family, stratum.level - 1))
    return below is not None and below.score > below.middle and hope(below, margin, below.n) == 1


def hope(pilot: Pilot, margin: float, of: int) -> float:
    """The probability that the stratum passes with `of` items, after what was seen: beta-binomial, from Jeffreys' prior.

    0 or 1 where the items that are left cannot change it. of: at least as many as were seen.
    """
    left, wanted = max(0, of - pilot.n), _right_to_pass(pilot.stratum, max(of, pilot.n), margin) - pilot.right
    if wanted <= 0 or wanted > left:
        return float(wanted <= 0)
    right, wrong = pilot.right + 0.5, pilot.n - pilot.right + 0.5
    return sum(
        math.comb(left, more) * math.exp(_log_beta(right + more, wrong + left - more) - _log_beta(right, wrong))
        for more in range(wanted, left + 1)
    )


def _right_to_pass(stratum: Stratum, n: int, margin: float) -> int:
    """The fewest right of n that show the stratum to have something to lose; n + 1 where none do."""
    return next((right for right in range(n + 1) if Pilot(stratum, right, n).passes(margin)), n + 1)


def _log_beta(a: float, b: float) -> float:
    return math.lgamma(a) + math.lgamma(b) - math.lgamma(a + b)
