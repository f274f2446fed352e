"""Which strata of the general suite a base model has room to lose in, from a pilot whose items are never scored.

The rule. A stratum is informative where the lower limit of the base's score, one-sided at 95% (Clopper-Pearson), is at least
chance + 2 d, d the margin: a loss of d is then seen as a loss, not as noise about guessing. Of the informative levels of a family
the one is taken whose score lies nearest to the middle between chance and 1. There a change of ability moves the score most; at
the ceiling a model can lose much ability before it loses an item, near chance it has nothing to lose. Of equal ones the lower
level is taken. One level a family, so that no family counts for more than another. A level at the ceiling is informative all the
same where the family has no other. Fewer than four families make the suite uninformative; a family that is asked by likelihood
and in words counts once.

The limit is made once a stratum, so of strata that are just short of the mark one in twenty passes; they are pooled with others
and the gate's test does not rest on any single one.

How many items of each stratum a pilot asks: a look at all of them, then more of those that may still do. Pure.

A stratum is judged once, on all items of its last look (`headroom`). It is given up before that where it is unlikely to pass, or
held for good where it can no longer fail: neither makes it likelier that a base which only guesses passes. Of constraints the
levels are asked one after the other, as a request of a level makes more demands than one of the level below: where that scores
below the middle between chance and 1, no higher level lies nearer to it.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from lastresort.errors import ContractError
from lastresort.gate.suites.strata import CONSTRAINTS, Stratum

CONFIDENCE = 0.95
FEWEST_FAMILIES = 4


@dataclass(frozen=True, slots=True)
class Pilot:
    """What the base scored on the pilot items of a stratum: right of n."""

    stratum: Stratum
    right: int
    n: int

    @property
    def score(self) -> float:
        return self.right / self.n

    @property
    def lower(self) -> float:
        """One-sided 95% limit."""
        from scipy.special import betaincinv

        return 0.0 if self.right == 0 else float(betaincinv(self.right, self.n - self.right + 1, 1 - CONFIDENCE))

    @property
    def middle(self) -> float:
        """Between chance and 1, where a change of ability moves the score most."""
        return (1 + self.stratum.chance) / 2

    def passes(self, margin: float) -> bool:
        """Whether the base is shown to have something to lose."""
        return self.lower >= self.stratum.chance + 2 * margin


@dataclass(frozen=True, slots=True)
class Headroom:
    """used: one stratum an informative family, in the order of the pilot. informative: whether there are enough of them."""

    used: tuple[Stratum, ...]
    informative: bool
    reason: str


def headroom(pilots: Sequence[Pilot], *, margin: float, fewest: int = FEWEST_FAMILIES) -> Headroom:
    """The strata to use. margin: d, in (0, 1). Raises ContractError for an empty pilot of a stratum or a margin outside."""
    if not 0 < margin < 1 or any(pilot.n < 1 or not 0 <= pilot.right <= pilot.n for pilot in pilots):
        raise ContractError(
            f"found margin {margin} and {len(pilots)} pilots, one of them perhaps empty", where="headroom"
        )
    levels: dict[str, list[Pilot]] = defaultdict(list)
    for pilot in pilots:
        if pilot.passes(margin):
            levels[pilot.stratum.family].append(pilot)
    used = tuple(min(found, key=_off_the_middle).stratum for found in levels.values())
    families = len({stratum.kin for stratum in used})
    return Headroom(
        used, families >= fewest, _reason(families, len({pilot.stratum.kin for pilot in pilots}), fewest, margin)
    )


def _off_the_middle(pilot: Pilot) -> tuple[float, int]:
    return round(abs(pilot.score - pilot.middle), 9), pilot.stratum.level


def _reason(families: int, of: int, fewest: int, margin: float) -> str:
    told = f"in {families} of {of} families the base is shown to score at least 2 x {margin:g} above chance"
    return told if families >= fewest else f"{told}; {fewest} are needed"


CHOICE_LOOKS = (8, 16)  # of 16 items 9 right show a family of four options to have something to lose
CONSTRAINT_LOOKS = (12, 32, 64)  # few are kept by small models, and it takes many items to see that it is not by chance
QUICK_CONSTRAINT_LOOKS = (12, 32)
HOPE = 0.05  # of passing, below which a stratum is given up


def look_sizes(stratum: Stratum, *, quick: bool) -> tuple[int, ...]:
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
        stops = [stop for stop in look_sizes(stratum, quick=quick) if stop > asked.get(stratum, 0)]
        if stops and _is_open(stratum, asked, pilots, margin, stops[-1]):
            again[stratum] = stops[0]
    return again


def _is_open(
    stratum: Stratum, asked: Mapping[Stratum, int], pilots: Mapping[Stratum, Pilot], margin: float, last: int
) -> bool:
    if stratum in asked:
        return stratum in pilots and HOPE <= pass_probability(pilots[stratum], margin, last) < 1
    if stratum.family not in CONSTRAINTS or stratum.level == 1:
        return True
    below = pilots.get(Stratum(stratum.family, stratum.level - 1))
    return below is not None and below.score > below.middle and pass_probability(below, margin, below.n) == 1


def pass_probability(pilot: Pilot, margin: float, of: int) -> float:
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
