"""Which strata of the general suite a base model has room to lose in, from a pilot whose items are never scored.

The rule. A stratum is informative where the lower limit of the base's score, one-sided at 95 % (Clopper-Pearson), is at least
chance + 2 d, d the margin: a loss of d is then seen as a loss, not as noise about guessing. Of the informative levels of a family
the one is taken whose score lies nearest to the middle between chance and 1. There a change of ability moves the score most; at
the ceiling a model can lose much ability before it loses an item, near chance it has nothing to lose. Of equal ones the lower
level is taken. One level a family, so that no family counts for more than another. A level at the ceiling is informative all the
same where the family has no other. Fewer than four families make the suite uninformative; a family that is asked by likelihood
and in words counts once.

The limit is made once a stratum, so of strata that are just short of the mark one in twenty passes; they are pooled with others
and the gate's test does not rest on any single one.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

from lastresort.errors import ContractError
from lastresort.evals.suites.strata import Stratum

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
        """One-sided 95 % limit."""
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
