"""Is one way of training as good as another on the same items, each trained with several seeds?"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from lastresort.errors import ContractError
from lastresort.evals.evidence.noninferiority import Standing
from lastresort.evals.evidence.paired import paired_differences
from lastresort.evals.evidence.resample import reweighted_mean


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
