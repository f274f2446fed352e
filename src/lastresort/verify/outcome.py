"""Is the server worse than what was measured? Pure: scores in, a verdict out, by the gate's rules."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

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
        power=POWER,
        seed=scores.seed,
    )
