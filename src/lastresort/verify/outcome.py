"""Is the server worse than what was measured, by the gate's rules? Is what an experiment saw more than chance? Pure: scores in, a
verdict out; counts and texts in, a probability out.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import combinations, product
from typing import Generic, TypeVar

from lastresort.evals.evidence.bar import binomial_tail
from lastresort.evals.evidence.noninferiority import NonInferiority, items_needed, non_inferior
from lastresort.evals.evidence.selection import CHEAPER_MARGIN
from lastresort.gate.verdict.compare import mean_score

MARGIN = CHEAPER_MARGIN  # of the gate's target: what a tuned system may lose against the best prompt
ALPHA, POWER = 0.05, 0.8
SPREAD = {
    True: 0.02,
    False: 0.01,
}  # assumed where a server computes the same in another precision, by whether scores are 0/1
ROUNDED = 0.02  # of the texts: what rounding alone is taken to change behind any server
CHANCE = 0.01  # how often, at most, a cause may be named that is none: the level of its tests together


@dataclass(frozen=True, slots=True)
class ServedScores:
    """The same items twice, in the test's order. served: None where no answer arrived. groups: label of each, if there are any."""

    recorded: Sequence[float]
    served: Sequence[float | None]
    binary: bool
    groups: Sequence[str] | None = None
    seed: int = 0


@dataclass(frozen=True, slots=True)
class ServedVerdict:
    """tested: on what arrived. recorded, served: mean scores of that. spoilt: missing answers took NON_INFERIOR from it."""

    tested: NonInferiority
    recorded: float
    served: float
    spoilt: bool

    @property
    def worse(self) -> bool:
        """Whether a loss is shown that is larger than the margin, or may be."""
        return self.tested.verdict == "REGRESSED" or (self.tested.verdict == "UNDERPOWERED" and self.tested.loss_seen)


def needed(binary: bool) -> int:
    """Items (or groups) that show no loss with the planned power, if the server answers as measured."""
    return items_needed(MARGIN, SPREAD[binary], power=POWER, alpha=ALPHA, binary=binary)


def least(binary: bool) -> int:
    """Items (or groups) below which no result shows it, even without any difference."""
    return items_needed(MARGIN, 0.0, power=POWER, alpha=ALPHA, binary=binary)


def rounding_explains(differing: int, n: int) -> bool:
    """Whether so many other texts are too few to look for a cause: rounding alone changes as many with more than 5% probability,
    if it changes 2% of them. So a cause takes 2 of at most 18, 3 of 19 to 41, 5 of 80 and 10 of 256.
    """
    return differing < 2 or binomial_tail(differing, n, ROUNDED) > ALPHA


def judge(scores: ServedScores) -> ServedVerdict:
    """Missing answers count as nothing, and yet never help: NON_INFERIOR must also hold if all of them were wrong.

    At least one answer must have arrived.
    """
    there = [place for place, score in enumerate(scores.served) if score is not None]
    arrived = [score for score in scores.served if score is not None]
    recorded = [scores.recorded[place] for place in there]
    groups = None if scores.groups is None else [scores.groups[place] for place in there]
    tested = _tested(recorded, arrived, groups, scores)
    spoilt = False
    if tested.verdict == "NON_INFERIOR" and len(there) < len(scores.served):
        worst = [0.0 if score is None else score for score in scores.served]
        spoilt = _tested(scores.recorded, worst, scores.groups, scores).verdict != "NON_INFERIOR"
    if spoilt:
        tested = replace(tested, verdict="UNDERPOWERED")
    return ServedVerdict(tested, mean_score(recorded, groups), mean_score(arrived, groups), spoilt)


def _tested(
    recorded: Sequence[float], served: Sequence[float], groups: Sequence[str] | None, scores: ServedScores
) -> NonInferiority:
    return non_inferior(
        recorded,
        served,
        margin=MARGIN,
        binary=scores.binary,
        groups=groups,
        alpha=ALPHA,
        seed=scores.seed,
    )


T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class TwoArms(Generic[T]):
    """What two kinds of one request gave, sent one at a time in an order that was drawn."""

    first: tuple[T, ...]
    second: tuple[T, ...]

    @property
    def vary(self) -> bool:
        return len({*self.first, *self.second}) > 1


def exchanged_p(turns: Sequence[TwoArms[T]], statistic: Callable[[Sequence[T], Sequence[T]], int]) -> float:
    """P(as large a sum of the statistic) if the kind of a request makes no difference. Exact, whatever else the server does
    meanwhile, because the order was drawn: what a request gave could as well have come to one of the other kind.

    statistic: of what the first kind gave and the second.
    Source: Fisher 1935, The Design of Experiments; Pitman 1937.
    """
    seen, sums = 0, Counter({0: 1})
    for pair in turns:
        seen += statistic(pair.first, pair.second)
        exchanged = Counter(statistic(*kinds) for kinds in _exchanges(pair))
        before, sums = sums, Counter()
        for (total, ways), (value, more) in product(before.items(), exchanged.items()):
            sums[total + value] += ways * more
    return sum(ways for total, ways in sums.items() if total >= seen) / sum(sums.values())


def _exchanges(pair: TwoArms[T]) -> Iterator[tuple[list[T], list[T]]]:
    """All that it could have been."""
    given, size = (*pair.first, *pair.second), len(pair.first)
    for chosen in combinations(range(len(given)), size):
        rest = (place for place in range(len(given)) if place not in chosen)
        yield [given[place] for place in chosen], [given[place] for place in rest]


def apart(first: Sequence[str], second: Sequence[str]) -> int:
    """Equal pairs within the first less those of one of each kind."""
    return sum(a == b for a, b in combinations(first, 2)) - sum(a == b for a, b in product(first, second))


def together_p(both: int, marked: int, differing: int, n: int) -> float:
    """P(as many of the differing texts are marked), if `marked` of n are and that has nothing to do with which texts differ.

    Source: Fisher 1935 (exact test of a 2 x 2 table). Oracle: scipy `fisher_exact`.
    """
    from scipy.stats import hypergeom

    return float(hypergeom.sf(both - 1, n, marked, differing))
