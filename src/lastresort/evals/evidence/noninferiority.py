"""Did a system get worse by more than a margin?

How many items a comparison with a margin needs, before it is made and after it could not decide. Pure.

Is one way of training as good as another on the same items, each trained with several seeds?
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from lastresort.errors import ContractError
from lastresort.evals.evidence.paired import paired_differences, reweighted_mean
from lastresort.evals.evidence.tango import p_less_than, p_more_than, score_variance, settled_limit, tango_interval
from lastresort.evals.evidence.units import Array
from lastresort.types import FARTHEST

POWER = 0.8
_LEAST_SPREAD = 1e-6


def items_needed(
    margin: float,
    spread: float,
    *,
    power: float = POWER,
    alpha: float = 0.05,
    binary: bool = True,
    difference: float = 0.0,
) -> int:
    """Items (or groups) at which a true difference is distinguished from a loss of `margin`, with probability `power`.

    n d - h = (z_alpha s0 + z_power s1) sqrt(n), d = |difference + margin|, s1 the standard deviation of a difference and s0 the
    one that Tango's test takes it for under a loss of `margin`. h items are taken off: half of one for the exact test, whose
    tables are steps, one for graded scores, whose test reckons with an item that it has not seen. About 6.18 spread/d^2 at .05
    and .8. Never less than where no item differs, or all are lost, which is ln(alpha)/ln(largest chance of that on the other
    side of the margin): 1 - margin, or (1 + margin)/2.

    margin: in (0, 1). spread: mean squared difference, of 0/1 scores the share of items that differ. difference: the true one,
    tuned - base; 0 where nothing was lost. Raises ContractError on numbers outside their range, or a difference of -margin.
    Tests: tests/simulation/test_gate_power.py.
    """
    from scipy.special import ndtri

    _check(margin, spread, power, alpha, difference)
    distance = abs(difference + margin)
    assumed, true = _deviations(margin, spread, difference, binary)
    root = -float(ndtri(alpha)) * assumed + float(ndtri(power)) * true
    planned = ((root + math.sqrt(root**2 + 4 * _taken_off(binary) * distance)) / (2 * distance)) ** 2
    least = _least(alpha, 1 - margin if difference > -margin else (1 + margin) / 2)
    if difference == 0 and _untouched(least, spread, binary) >= power:
        fewest = _fewest_untouched(margin, alpha, binary)
        if _untouched(fewest, spread, binary) >= power:
            return fewest
    return max(math.ceil(planned), least)


def power_of(n: int, margin: float, spread: float, *, alpha: float = 0.05, binary: bool = True) -> float:
    """About the probability that n items show a loss below `margin` where nothing was lost: `items_needed`, turned round."""
    from scipy.special import ndtr, ndtri

    _check(margin, spread, POWER, alpha, 0.0)
    if n < _least(alpha, 1 - margin):
        return 0.0
    assumed, true = _deviations(margin, max(spread, _LEAST_SPREAD), 0.0, binary)
    quantile = ((n * margin - _taken_off(binary)) / math.sqrt(n) + float(ndtri(alpha)) * assumed) / true
    none_differs = _untouched(n, spread, binary)
    if none_differs and n < _fewest_untouched(margin, alpha, binary):
        none_differs = 0.0
    return max(float(ndtr(quantile)), none_differs)


def _least(alpha: float, chance: float) -> int:
    """Items that all do what one does with this chance with a probability of at most alpha."""
    return math.ceil(math.log(alpha) / math.log(chance))


def _fewest_untouched(margin: float, alpha: float, binary: bool) -> int:
    """Items that show a loss below `margin` if none of them differs, at most a part in 500 too many. Where alpha is small the exact
    test asks for more than `_least`, since tables with many differing items have as large a z.
    """
    from scipy.special import ndtri

    n = _least(alpha, 1 - margin)
    if not binary:
        return n
    n = max(n, math.ceil(float(ndtri(alpha)) ** 2 * (1 - margin) / margin))
    while p_more_than(0, 0, n, -margin) > alpha:
        n += math.ceil(n / 500)
    return n


def _deviations(margin: float, spread: float, difference: float, binary: bool) -> tuple[float, float]:
    """Standard deviations of one item's difference: as the score test takes it for at the expected table, and the true one."""
    spread = max(spread, abs(difference))
    variance = spread - difference**2
    if not binary:
        return math.sqrt(variance), math.sqrt(variance)
    assumed = float(score_variance((spread + difference) / 2, (spread - difference) / 2, 1, -margin))
    return math.sqrt(assumed), math.sqrt(variance)


def _untouched(n: int, spread: float, binary: bool) -> float:
    """A chance, at most the true one, that none of n items differs, which alone shows that nothing was lost if n are enough."""
    return (1 - spread) ** n if binary or spread == 0 else 0.0


def _taken_off(binary: bool) -> float:
    return 0.5 if binary else 1.0


def items_that_decide(
    margin: float,
    spread: float,
    difference: float,
    n: int,
    *,
    alpha: float = 0.05,
    binary: bool = True,
) -> int | None:
    """Items of a comparison that decides with probability `POWER` if the difference seen in `n` is the true one, tested at their
    end. None where that is more than ten times n, or no number would do.
    """
    if math.isclose(difference, -margin, rel_tol=0, abs_tol=1e-12):
        return None
    needed = items_needed(margin, spread, alpha=alpha, binary=binary, difference=difference)
    return max(needed, n + 1) if needed <= FARTHEST * n else None


def _check(margin: float, spread: float, power: float, alpha: float, difference: float) -> None:
    if not (0 < margin < 1 and 0 <= spread <= 1 and 0.5 <= power < 1 and 0 < alpha < 0.5 and -1 <= difference <= 1):
        raise ContractError(
            f"margin {margin!r}, spread {spread!r}, power {power!r}, alpha {alpha!r}, difference {difference!r}",
            expected="0 < margin < 1, 0 <= spread <= 1, 0.5 <= power < 1, 0 < alpha < 0.5, -1 <= difference <= 1",
        )
    if difference == -margin:
        raise ContractError("a difference of exactly the margin, which no number of items tells from it")


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
    seed: int = 0,
) -> NonInferiority:
    """Whether the tuned system lost less than `margin`, more than it, or neither is shown.

    NON_INFERIOR if p <= alpha; else REGRESSED if p_regressed <= alpha; else UNDERPOWERED.
    0/1 scores: exact unconditional test on Tango's z up to 20,000 items, the score test above. Graded scores: the limits of
    `reweighted_mean`. groups: each group's mean is one unit.
    margin: strictly between 0 and 1. Raises ContractError as `better` does, and on a margin outside its range.
    Source: Tango 1998; Gaffke 2005. Simulations: docs/gate-simulations.md.
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
    needed = items_that_decide(margin, spread, seen, len(differences), alpha=alpha, binary=binary)
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


@dataclass(frozen=True, slots=True)
class OverSeeds:
    """The other way of training less the reference, over items and seeds.

    verdict: as of `non_inferior`, from the interval. difference: mean over items and seeds. interval: its two-sided limits at
    confidence 1 - 2 alpha, so that each is a one-sided limit at alpha. by_seed: the mean difference of each seed. seed_sd: their
    standard deviation. n: items, or groups.
    """

    verdict: Standing
    difference: float
    interval: tuple[float, float]
    by_seed: tuple[float, ...]
    seed_sd: float
    n: int


def over_seeds(
    reference: Sequence[Sequence[float]],
    other: Sequence[Sequence[float]],
    *,
    margin: float,
    groups: Sequence[str] | None = None,
    alpha: float = 0.05,
    seed: int = 0,
) -> OverSeeds:
    """Whether training the other way loses less than `margin`, for items like these and seeds like these.

    reference, other: scores in [0, 1], a row a seed, shape (seeds, items); rows in the same order belong to the same seed.
    With x the limit over items of the differences averaged over seeds (`reweighted_mean`), and s the half-width of the t
    interval of the seeds' mean differences, a limit lies sqrt((mean - x)^2 + s^2) from the mean. What differs by item and seed
    counts in both parts, which makes it too wide where seeds do not matter; what leaves it out exceeds its error where they do,
    and so does resampling of seeds: of three, resamples hold two thirds of the variance. groups: label of each item; each
    group's mean is one unit.

    Raises ContractError on fewer than two seeds, rows that do not match, or as `non_inferior` does.
    Source: Zou and Donner 2008 (limits of a sum from those of its parts). Simulations: tests/simulation/test_over_seeds.py.
    """
    if not 0 < margin < 1 or not 0 < alpha < 0.5:
        raise ContractError(f"margin {margin!r} at alpha {alpha!r}", expected="0 < margin < 1 and 0 < alpha < 0.5")
    if len(reference) != len(other) or len(reference) < 2:
        raise ContractError(f"{len(reference)} and {len(other)} seeds", expected="as many of both, at least two")
    rows = [
        paired_differences(old, new, binary=False, groups=groups) for old, new in zip(reference, other, strict=True)
    ]
    if len({len(row) for row in rows}) > 1:
        raise ContractError("seeds that were scored on different items", expected="the same items for every seed")
    table = np.stack(rows)
    mean, by_seed = float(table.mean()), table.mean(axis=1)
    low, high = reweighted_mean(table.mean(axis=0), seed).interval(1 - 2 * alpha)
    seed_sd = float(by_seed.std(ddof=1))
    apart = _quantile(len(rows), alpha) * seed_sd / math.sqrt(len(rows))
    interval = (max(-1.0, mean - math.hypot(mean - low, apart)), min(1.0, mean + math.hypot(high - mean, apart)))
    verdict: Standing = "UNDERPOWERED"
    if interval[0] > -margin:
        verdict = "NON_INFERIOR"
    elif interval[1] < -margin:
        verdict = "REGRESSED"
    return OverSeeds(verdict, mean, interval, tuple(by_seed.tolist()), seed_sd, table.shape[1])


def _quantile(seeds: int, alpha: float) -> float:
    """Of Student's t with seeds - 1 degrees of freedom."""
    from scipy.special import stdtrit

    return float(stdtrit(seeds - 1, 1 - alpha))
