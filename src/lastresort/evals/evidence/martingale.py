"""Evidence that grows item by item and may be looked at after every item: test martingales and their inversion."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import numpy.typing as npt

from lastresort.evals.evidence.units import Array

GRID = 1000
_CHUNK_CELLS = 2_000_000
_MOST_STEPS = 60
_PRECISION = 1e-12


def log_evidence_above(successes: npt.ArrayLike, n: npt.ArrayLike, bar: npt.ArrayLike) -> Array:
    """ln E against "the rate is at most the bar", after n 0/1 items of which `successes` were right; broadcasts.

    ln E = ln B(1+S, 1+n-S) + ln I^c_t(1+S, 1+n-S) - ln(1-t) - S ln t - (n-S) ln(1-t): the likelihood averaged over
    rates uniform on (t, 1), over the likelihood at t. Under any rate <= t it exceeds 1/a at some item with probability
    at most a (Ville). For "at least the bar" pass n - successes and 1 - bar. -inf where the mass above t underflows.
    Source: Robbins 1970 (mixture of likelihood ratios). Oracle: numerical integration.
    """
    from scipy.special import betaincc, betaln

    s, total, t = (np.asarray(v, dtype=np.float64) for v in (successes, n, bar))
    failures = total - s
    with np.errstate(divide="ignore"):
        mass_above = np.log(betaincc(1 + s, 1 + failures, t))
    value = betaln(1 + s, 1 + failures) + mass_above - s * np.log(t) - (1 + failures) * np.log1p(-t)
    return np.asarray(value, dtype=np.float64)


def binary_interval(successes: int, n: int, error: float) -> tuple[float, float]:
    """Confidence sequence of a rate at confidence 1 - 2 error: all t at which neither E reaches 1/error.

    E falls in t up to the observed rate, where it is at most 1, so that the limit is the only root below the rate.
    """
    return lower_limit(successes, n, error), 1.0 - lower_limit(n - successes, n, error)


@lru_cache(maxsize=4096)
def lower_limit(successes: int, n: int, error: float) -> float:
    """The largest t that E rejects as too low at `error`, 0 where it rejects none."""
    return float(lower_limits(successes, n, error))


def lower_limits(successes: npt.ArrayLike, n: npt.ArrayLike, error: float) -> Array:
    """`lower_limit` of each; broadcasts. Within 1e-12.

    Newton's method in ln t, where ln E falls along a nearly straight line: d ln E / d ln t = t (1+n-S - 1/E) / (1-t) - S. Halves
    the bracket where a step leaves it.
    """
    s, total = (np.asarray(v, dtype=np.float64) for v in np.broadcast_arrays(successes, n))
    high = s / total
    low, t = np.zeros(high.shape), np.where(high > 0, high / 2, 0.5)
    for _ in range(_MOST_STEPS):
        value = log_evidence_above(s, total, t)
        excess = value + np.log(error)
        low, high = np.where(excess >= 0, t, low), np.where(excess >= 0, high, t)
        slope = s - t * (1 + total - s - np.exp(-value)) / (1 - t)
        with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
            step = t * np.exp(excess / slope)
        arrived = abs(step - t) <= _PRECISION * t  # which may be an end of the bracket, as t is
        inside = (low < step) & (step < high) & (slope > 0)
        t = np.where(arrived | inside, step, (low + high) / 2)
        if np.all(arrived | (s <= 0)):
            break
    return np.where(s > 0, t, 0.0)


def log_wealth_above(scores: Array, bar: npt.ArrayLike) -> Array:
    """ln of the betting martingale against "the mean is at most the bar", after every score in [0, 1].

    Wealth is prod(1 + l_i (x_i - t)), l_i = clip((m-t)/(v+(m-t)^2), 0, 1/(2t)), m and v the mean and variance of the
    scores before i, starting at 1/2 and 1/4 with weight 1. Under any mean <= t it exceeds 1/a with probability at most
    a. For "at least the bar" pass 1 - scores and 1 - bar.
    scores: shape (..., n). bar: broadcasts with shape (..., 1). Returns shape (..., n).
    Source: Waudby-Smith and Ramdas 2024, predictable plug-in bets (section 4).
    """
    x = np.asarray(scores, dtype=np.float64)
    t = np.asarray(bar, dtype=np.float64)
    mean, variance = moments_before(x)
    bets = best_bet(mean, variance, t)
    return np.asarray(np.cumsum(np.log1p(bets * (x - t)), axis=-1), dtype=np.float64)


def best_bet(mean: npt.ArrayLike, variance: npt.ArrayLike, bar: npt.ArrayLike) -> Array:
    """The stake (m-t)/(v+(m-t)^2), approximately growth-optimal, kept in [0, 1/(2t)] so that wealth stays positive."""
    m, v, t = (np.asarray(value, dtype=np.float64) for value in (mean, variance, bar))
    edge = m - t
    spread = v + edge**2
    stake = np.divide(edge, spread, out=np.zeros(np.broadcast(edge, spread).shape), where=spread > 0)
    return np.asarray(np.clip(stake, 0.0, 1.0 / (2.0 * t)), dtype=np.float64)


def moments_before(scores: Array) -> tuple[Array, Array]:
    """Mean and variance of what came before each score, each of the shape of `scores` (..., n).

    Before the first: 1/2 and 1/4, which go on to count as one score.
    """
    n = scores.shape[-1]
    index = np.arange(1, n + 1)
    mean_after = (0.5 + np.cumsum(scores, axis=-1)) / (index + 1)
    variance_after = (0.25 + np.cumsum((scores - mean_after) ** 2, axis=-1)) / (index + 1)
    first = np.ones((*scores.shape[:-1], 1))
    mean = np.concatenate([0.5 * first, mean_after[..., :-1]], axis=-1)
    variance = np.concatenate([0.25 * first, variance_after[..., :-1]], axis=-1)
    return mean, variance


def graded_interval(scores: Array, error: float) -> tuple[float, float]:
    """Confidence sequence of a mean at confidence 1 - 2 error: all t whose wealth never reached 1/error on either side.

    Searched on a grid of 0.001 and rounded outwards; widened to hold the mean seen, where a run of luck turned.
    """
    low = lowest_uncrossed(scores, error)
    high = 1.0 - lowest_uncrossed(1.0 - scores, error)
    mean = float(scores.mean())
    return min(low, mean), max(high, mean)


def lowest_uncrossed(scores: Array, error: float) -> float:
    """The grid point below the lowest bar that was never rejected from above."""
    bars = np.arange(1, GRID) / GRID
    step = max(1, _CHUNK_CELLS // len(scores))
    for start in range(0, len(bars), step):
        chunk = bars[start : start + step]
        wealth = log_wealth_above(scores[None, :], chunk[:, None])
        uncrossed = np.flatnonzero(wealth.max(axis=-1) < -np.log(error))
        if len(uncrossed):
            return float(chunk[uncrossed[0]]) - 1 / GRID
    return float(bars[-1])


def first_crossing(log_values: Array, error: float) -> int | None:
    """Index of the first item at which evidence reaches 1/error, None if at none, or at an error of 0. log_values: shape (n,)."""
    if error == 0:
        return None
    crossed = np.flatnonzero(log_values >= -np.log(error))
    return int(crossed[0]) if len(crossed) else None
