"""Did a system get worse by more than a margin?"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from lastresort.errors import ContractError
from lastresort.evals.evidence.paired import paired_differences
from lastresort.evals.evidence.resample import reweighted_mean
from lastresort.evals.evidence.sizes import POWER, items_that_decide
from lastresort.evals.evidence.tango import p_less_than, p_more_than, settled_limit, tango_interval
from lastresort.evals.evidence.units import Array

Standing = Literal["NON_INFERIOR", "REGRESSED", "UNDERPOWERED"]


@dataclass(frozen=True, slots=True)
class NonInferiority:
    """The tuned system against its base on the same items, given the largest loss that is accepted.

    p: of "the loss is smaller than the margin". p_regressed: of "the loss is larger than the margin", which `holm`
    corrects over suites. difference: mean of tuned - base. interval: its two-sided limits at confidence 1 - 2 alpha, so
    that each is a one-sided limit at alpha, on the side of the margin on which the verdict is. loss_seen: the upper limit is
    below 0, a loss is shown, of whatever size. n: items, or groups. spread: mean squared difference, of 0/1 scores the share of
    items that differ. n_needed: items (groups) that would decide, of `items_that_decide`; None beside NON_INFERIOR, and where it
    cannot be told.
    """

    verdict: Standing
    p: float
    p_regressed: float
    loss_seen: bool
    difference: float
    interval: tuple[float, float]
    n: int
    spread: float
    n_needed: int | None = None


def non_inferior(
    base_scores: Sequence[float],
    tuned_scores: Sequence[float],
    *,
    margin: float,
    binary: bool,
    groups: Sequence[str] | None = None,
    alpha: float = 0.05,
    power: float = POWER,
    seed: int = 0,
) -> NonInferiority:
    """Whether the tuned system lost less than `margin`, more than it, or cannot be told.

    NON_INFERIOR if p <= alpha; else REGRESSED if p_regressed <= alpha; else UNDERPOWERED.
    0/1 scores: exact unconditional test on Tango's z up to 20,000 items, the score test above. Graded scores: the limits of
    `reweighted_mean`. groups: each group's mean is one unit.
    margin: strictly between 0 and 1. power: with which n_needed would decide. Raises ContractError as `better` does, and
    on a margin outside its range.
    Source: DESIGN part 8; Tango 1998; Gaffke 2005. Simulations: docs/gate-simulations.md.
    """
    if not 0 < margin < 1 or not 0 < alpha < 0.5:
        raise ContractError(f"margin {margin!r} at alpha {alpha!r}", expected="0 < margin < 1 and 0 < alpha < 0.5")
    binary = binary and groups is None
    differences = paired_differences(base_scores, tuned_scores, binary=binary, groups=groups)
    measure = _measure_binary if binary else _measure_graded
    p, p_regressed, interval = measure(differences, margin, alpha, seed)
    verdict: Standing = "UNDERPOWERED"
    if p <= alpha:
        verdict = "NON_INFERIOR"
    elif p_regressed <= alpha:
        verdict = "REGRESSED"
    spread, seen = float((differences**2).mean()), float(differences.mean())
    needed = items_that_decide(margin, spread, seen, len(differences), power=power, alpha=alpha, binary=binary)
    return NonInferiority(
        verdict=verdict,
        p=p,
        p_regressed=p_regressed,
        loss_seen=interval[1] < 0,
        difference=seen,
        interval=interval,
        n=len(differences),
        spread=spread,
        n_needed=None if verdict == "NON_INFERIOR" else needed,
    )


def holm(p_values: Sequence[float]) -> list[float]:
    """Holm's adjusted p values in the order given: rejecting those <= alpha keeps the chance of any false one <= alpha.

    Source: Holm 1979. Oracle: statsmodels `multipletests(method="holm")`.
    """
    adjusted = [0.0] * len(p_values)
    largest = 0.0
    for rank, index in enumerate(sorted(range(len(p_values)), key=p_values.__getitem__)):
        largest = max(largest, min(1.0, (len(p_values) - rank) * p_values[index]))
        adjusted[index] = largest
    return adjusted


Measured = tuple[float, float, tuple[float, float]]


def _measure_binary(differences: Array, margin: float, alpha: float, seed: int) -> Measured:
    n, wins, losses = len(differences), int((differences > 0).sum()), int((differences < 0).sum())
    low, high = tango_interval(wins, losses, n, 1 - 2 * alpha)
    p, p_regressed = p_more_than(wins, losses, n, -margin), p_less_than(wins, losses, n, -margin)
    low = settled_limit(wins, losses, n, low, -margin, alpha, p)
    high = -settled_limit(losses, wins, n, -high, margin, alpha, p_regressed)
    return p, p_regressed, (low, high)


def _measure_graded(differences: Array, margin: float, alpha: float, seed: int) -> Measured:
    drawn = reweighted_mean(differences, seed)
    return drawn.p_above(-margin), drawn.p_below(-margin), drawn.interval(1 - 2 * alpha)
