"""In which strata of the general suite a base has something to lose, from a pilot whose items are never scored. Pure.

A stratum is informative if the lower limit of the base's score, one-sided at 95% (Clopper-Pearson), is at least chance + 2 d, with
d the margin: then a loss of d shows as a loss, not as noise about guessing. Of the informative levels of a family the one closest
to the middle between chance and 1 is used, because there a change of ability moves the score most; at the ceiling a model can lose
much ability before it loses an item. In a tie the lower level is used. There is one level per family, so that no family counts more
than another. A level at the ceiling is used if the family has no other. Fewer than four families make the suite uninformative; a
family asked by likelihood and in words counts once.

The limit is computed once per stratum, so of strata just below the mark one in twenty passes. They are pooled with others, and the
gate's test does not rest on any single one.

The pilot asks all strata a few items, then more of those that may still pass. A stratum is judged once, on all items of its last
look (`headroom`). Before that it is dropped if it is unlikely to pass, and asked no more if it can no longer fail: neither lets a
base that only guesses pass more often. Levels of constraints are asked one after the other, because a request of a level demands
more than one of the level below: if that scores below the middle between chance and 1, no higher level is closer to it.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from lastresort.errors import ContractError
from lastresort.gate.suites.general import CONSTRAINTS, Stratum
from lastresort.records.uninformative import FewFamilies

CONFIDENCE = 0.95
FEWEST_FAMILIES = 4


@dataclass(frozen=True, slots=True)
class Pilot:
    """The base on the pilot items of a stratum: right of n."""

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
    """used: one stratum per informative family, in the order of the pilot. why: None where there are enough families."""

    used: tuple[Stratum, ...]
    why: FewFamilies | None


def headroom(pilots: Sequence[Pilot], *, margin: float, fewest: int = FEWEST_FAMILIES) -> Headroom:
    """The strata to use. margin: d. Raises ContractError for a stratum without pilot items or a margin outside (0, 1)."""
    if not 0 < margin < 1 or any(pilot.n < 1 or not 0 <= pilot.right <= pilot.n for pilot in pilots):
        raise ContractError(
            f"found margin {margin} and {len(pilots)} pilots, one of them perhaps empty", where="headroom"
        )
    levels: dict[str, list[Pilot]] = defaultdict(list)
    for pilot in pilots:
        if pilot.passes(margin):
            levels[pilot.stratum.family].append(pilot)
    used = tuple(min(level_strata, key=_off_the_middle).stratum for level_strata in levels.values())
    families = len({stratum.kin for stratum in used})
    if families >= fewest:
        return Headroom(used, None)
    families_asked = len({pilot.stratum.kin for pilot in pilots})
    return Headroom(used, FewFamilies(families=families, asked=families_asked, needed=fewest, margin=margin))


def _off_the_middle(pilot: Pilot) -> tuple[float, int]:
    return round(abs(pilot.score - pilot.middle), 9), pilot.stratum.level


CHOICE_LOOKS = (8, 16)  # 9 right of 16 are enough in a family with four options
CONSTRAINT_LOOKS = (12, 32, 64)  # small models keep few, and it takes many items to tell that from chance
QUICK_CONSTRAINT_LOOKS = (12, 32)
LEAST_PROBABILITY = 0.05  # of passing, below which a stratum is dropped


def look_sizes(stratum: Stratum, *, quick: bool) -> tuple[int, ...]:
    """The number of items asked after each look."""
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
    """The strata to ask again, with the number of items after that look; empty when the pilot is over.

    asked: items so far. pilots: of items that fit the context; a stratum without any is dropped.
    """
    next_stops = {}
    for stratum in strata:
        stops = [stop for stop in look_sizes(stratum, quick=quick) if stop > asked.get(stratum, 0)]
        if stops and _is_open(stratum, asked, pilots, margin, stops[-1]):
            next_stops[stratum] = stops[0]
    return next_stops


def _is_open(
    stratum: Stratum, asked: Mapping[Stratum, int], pilots: Mapping[Stratum, Pilot], margin: float, last: int
) -> bool:
    if stratum in asked:
        return stratum in pilots and LEAST_PROBABILITY <= pass_probability(pilots[stratum], margin, last) < 1
    if stratum.family not in CONSTRAINTS or stratum.level == 1:
        return True
    below = pilots.get(Stratum(stratum.family, stratum.level - 1))
    return below is not None and below.score > below.middle and pass_probability(below, margin, below.n) == 1


def pass_probability(pilot: Pilot, margin: float, of: int) -> float:
    """The probability that the stratum passes with `of` items, given those seen: beta-binomial with Jeffreys' prior.

    0 or 1 if the remaining items cannot change it. of: at least as many as were seen.
    """
    n_left, n_wanted = max(0, of - pilot.n), _right_to_pass(pilot.stratum, max(of, pilot.n), margin) - pilot.right
    if n_wanted <= 0 or n_wanted > n_left:
        return float(n_wanted <= 0)
    right, wrong = pilot.right + 0.5, pilot.n - pilot.right + 0.5
    return sum(
        math.comb(n_left, more) * math.exp(_log_beta(right + more, wrong + n_left - more) - _log_beta(right, wrong))
        for more in range(n_wanted, n_left + 1)
    )


def _right_to_pass(stratum: Stratum, n: int, margin: float) -> int:
    """The fewest right of n with which the stratum passes; n + 1 if none do."""
    return next((right for right in range(n + 1) if Pilot(stratum, right, n).passes(margin)), n + 1)


def _log_beta(a: float, b: float) -> float:
    return math.lgamma(a) + math.lgamma(b) - math.lgamma(a + b)
