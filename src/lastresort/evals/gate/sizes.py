"""How many items each measure of a gate needs, and whether a bounded gate lacks power. Pure."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from lastresort.errors import ContractError
from lastresort.evals.evidence import items_needed, power_of

# Without a pilot: the mean squared difference of two scores where nothing was lost. A tenth of 0/1 answers differ; of graded
# scores as many, by half a point as often as by a whole one.
SPREAD = {True: 0.1, False: 0.0625}


@dataclass(frozen=True, slots=True)
class Wanted:
    """A measure before it is asked. margin: on its own scale. spread: mean squared difference in a pilot, of 0/1 scores the
    share of items that differ; None takes `SPREAD`. says: share of items that say something about it, above 0.
    """

    name: str
    margin: float
    binary: bool = True
    spread: float | None = None
    says: float = 1.0


@dataclass(frozen=True, slots=True)
class Planned:
    """n: items to draw. n_needed: items to draw for the planned power. power: about what n gives, of this measure alone."""

    name: str
    n: int
    n_needed: int
    power: float

    @property
    def lacks_power(self) -> bool:
        return self.n < self.n_needed


def planned_power(measures: int) -> float:
    """Of each of k measures, 1 - .2/k: a model that lost nothing then ships with probability .8, however they hang together."""
    if measures < 1:
        raise ContractError(f"a gate of {measures} measures", expected="at least one")
    return 1 - 0.2 / measures


def planned(
    wanted: Sequence[Wanted], *, alpha: float, at_most: int | None = None, measures: int | None = None
) -> tuple[Planned, ...]:
    """The items of each measure. at_most: of each, as `--gate quick` sets it, which can cost power and nothing else. measures: of
    the whole gate, where these are some of them.

    Raises ContractError where a share that says something is not in (0, 1], and as `items_needed` does.
    """
    power = planned_power(len(wanted) if measures is None else measures)
    return tuple(_planned(one, power, alpha, at_most) for one in wanted)


def _planned(one: Wanted, power: float, alpha: float, at_most: int | None) -> Planned:
    if not 0 < one.says <= 1:
        raise ContractError(
            f"{one.name}: a share of {one.says!r} of items that say something", expected="0 < share <= 1"
        )
    spread = SPREAD[one.binary] if one.spread is None else one.spread
    needed = math.ceil(items_needed(one.margin, spread, power=power, alpha=alpha, binary=one.binary) / one.says)
    n = needed if at_most is None else min(needed, at_most)
    reached = power_of(math.floor(n * one.says), one.margin, spread, alpha=alpha, binary=one.binary)
    return Planned(one.name, n, needed, reached)
