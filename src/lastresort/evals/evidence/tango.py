"""The difference of two paired proportions: Tango's score statistic, its interval, and the exact unconditional test.

Throughout b items are right only with the new system, c only with the old one, n items in all; the true difference is
P(new right, old wrong) - P(new wrong, old right).
Source: Tango 1998, Statistics in Medicine 17:891-908.
"""

from __future__ import annotations

import math
from functools import lru_cache

import numpy as np
import numpy.typing as npt

from lastresort.evals.evidence.units import Array

EXACT_UP_TO = 20_000
_TIE = 1e-9
_COARSE, _FINE = 240, 40
_REACH = 8.0
_NEGLIGIBLE = 1e-14
_HALVINGS = 20


def score_z(b: npt.ArrayLike, c: npt.ArrayLike, n: int, difference: float) -> Array:
    """Tango's z of the hypothesis that the true difference is `difference` (in (-1, 1)); large means "more than that".

    z = (b - c - n D)/sqrt(n (2q + D(1-D))), q = (sqrt(B^2 - 4AC) - B)/(2A), A = 2n, B = -b - c + (2n - b + c) D,
    C = -c D (1-D); q is the likelihood's maximum for P(new wrong, old right) under D. b, c: same shape; returns it.
    0 where the difference seen is exactly D and leaves no variance.
    """
    more, less = np.asarray(b, dtype=np.float64), np.asarray(c, dtype=np.float64)
    variance = score_variance(more, less, n, difference)
    gap = more - less - n * difference
    return np.asarray(np.divide(gap, np.sqrt(variance), out=np.zeros_like(gap), where=variance > 0), dtype=np.float64)


def score_variance(b: npt.ArrayLike, c: npt.ArrayLike, n: float, difference: float) -> Array:
    """The variance of b - c at the likeliest table under the true difference `difference`, the square below `score_z`."""
    more, less = np.asarray(b, dtype=np.float64), np.asarray(c, dtype=np.float64)
    quadratic = 2.0 * n
    linear = -more - less + (2.0 * n - more + less) * difference
    constant = -less * difference * (1.0 - difference)
    root = np.sqrt(np.maximum(linear**2 - 4.0 * quadratic * constant, 0.0))
    q = np.maximum((root - linear) / (2.0 * quadratic), max(0.0, -difference))
    return np.asarray(n * (2.0 * q + difference * (1.0 - difference)), dtype=np.float64)


def tango_interval(b: int, c: int, n: int, confidence: float = 0.95) -> tuple[float, float]:
    """All differences that the two-sided score test does not reject at 1 - confidence."""
    return _lower(b, c, n, confidence), -_lower(c, b, n, confidence)


def _lower(b: int, c: int, n: int, confidence: float) -> float:
    from scipy.special import ndtri

    z = float(ndtri((1 + confidence) / 2))
    low, high = -1.0, (b - c) / n
    for _ in range(60):
        middle = (low + high) / 2
        rejected = middle > -1.0 and float(score_z(b, c, n, middle)) > z
        low, high = (middle, high) if rejected else (low, middle)
    return high


def settled_limit(b: int, c: int, n: int, limit: float, difference: float, alpha: float, p: float) -> float:
    """The lower limit of the score test, or where it and the test of `difference` fall on different sides, that of the test.

    limit: of `tango_interval` at confidence 1 - 2 alpha. p: of `p_more_than` at `difference`. The two tests differ only near
    their limits; the interval shown with a verdict must not contradict it.
    """
    shown = p <= alpha
    if shown == (limit > difference):
        return limit
    low, high = (difference, max(difference, (b - c) / n)) if shown else (-1.0, difference)
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        low, high = (middle, high) if p_more_than(b, c, n, middle) <= alpha else (low, middle)
    return high if shown else low


def p_more_than(b: int, c: int, n: int, difference: float) -> float:
    """One-sided p of "the true difference is more than `difference`"; exact up to 20,000 items, the score test above."""
    from scipy.special import ndtr

    if n > EXACT_UP_TO:
        return float(ndtr(-score_z(b, c, n, difference)))
    return exact_p_more_than(b, c, n, difference)


def p_less_than(b: int, c: int, n: int, difference: float) -> float:
    """One-sided p of "the true difference is less than `difference`": the same test with the systems exchanged."""
    return p_more_than(c, b, n, -difference)


@lru_cache(maxsize=4096)
def exact_p_more_than(b: int, c: int, n: int, difference: float) -> float:
    """Exact unconditional p: the chance of a table with a z at least as large, at the worst share of differing items."""
    return exact_p_of_z(float(score_z(b, c, n, difference)), n, difference)


def exact_p_of_z(z: float, n: int, difference: float) -> float:
    """Chance of a table of n items with a z of at least `z`, at the worst share of differing items.

    At the true difference D the share psi of differing items is unknown; the chance is maximised over psi in [|D|, 1], on
    a grid that is dense near |D|, then around its best point.
    """
    fewest = fewest_wins(z, n, difference)
    edge = max(abs(difference), 1e-9)
    position = np.linspace(0.0, 1.0, _COARSE)
    chances = tail_chance(edge + (1 - edge) * position**2, fewest, n, difference)
    best = int(chances.argmax())
    near = np.linspace(position[max(best - 1, 0)], position[min(best + 1, _COARSE - 1)], _FINE)
    refined = tail_chance(edge + (1 - edge) * near**2, fewest, n, difference)
    return float(min(1.0, max(chances.max(), refined.max())))


def fewest_wins(z: float, n: int, difference: float) -> Array:
    """For each number m = 0..n of differing items the smallest b with z(b, m - b) >= z; m + 1 where there is none.

    z grows with b at fixed m, so that b and all above belong to the tail: found by halving, for all m at once.
    """
    differing = np.arange(n + 1)
    low, high = np.zeros(n + 1, dtype=np.int64), differing + 1
    while (low < high).any():
        wins = np.minimum((low + high) // 2, differing)
        in_tail = score_z(wins, differing - wins, n, difference) >= z - _TIE
        open_ones = low < high
        high = np.where(open_ones & in_tail, wins, high)
        low = np.where(open_ones & ~in_tail, wins + 1, low)
    return high.astype(np.float64)


def tail_chance(psi: Array, fewest: Array, n: int, difference: float) -> Array:
    """P(table in the tail) at each share psi of differing items, shape of psi: sum of P(m) P(b >= fewest | m).

    Summed over the m within `_REACH` standard deviations of n psi, beyond which P(m) is below 1e-14.
    """
    from scipy.special import bdtrc, gammaln, xlog1py, xlogy

    share = psi[:, None]
    far = _REACH * np.sqrt(n * psi * (1 - psi)) + _REACH**2
    start = np.maximum(np.floor(n * psi - far), 0)
    m = start[:, None] + np.arange(min(n, math.ceil(2 * far.max())) + 1)
    exists = m <= n
    m = np.minimum(m, n)
    win = np.clip((1.0 + difference / share) / 2.0, 0.0, 1.0)
    log_choose = gammaln(n + 1) - gammaln(m + 1) - gammaln(n - m + 1)
    p_m = np.exp(log_choose + xlogy(m, share) + xlog1py(n - m, -share)) * exists
    needed = fewest[m.astype(np.intp)]
    counts = p_m > _NEGLIGIBLE
    asked = counts & (needed > 0) & (needed <= m)
    tail = np.where(counts & (needed <= 0), 1.0, 0.0)
    tail[asked] = bdtrc(needed[asked] - 1, m[asked], np.broadcast_to(win, m.shape)[asked])
    return np.asarray((p_m * tail).sum(axis=1), dtype=np.float64)
