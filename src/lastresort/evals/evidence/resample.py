"""Means of few or oddly distributed differences: sign-flip test and BCa bootstrap."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from lastresort.evals.evidence.units import Array

EXACT_FLIPS_UP_TO = 16
MONTE_CARLO_FLIPS = 19_999
RESAMPLES = 9_999
_CHUNK_CELLS = 2_000_000
_TIE = 1e-12


def sign_flip_p(differences: Array, seed: int) -> float:
    """One-sided p of "the mean difference is above 0", every difference being as likely with either sign.

    Exact over all sign patterns up to 16 differences that are not 0; beyond that 19,999 seeded patterns and
    p = (k + 1)/(m + 1). 1 if nothing differs. differences: shape (n,).
    Oracle: scipy `permutation_test(permutation_type="samples")`.
    """
    moved = differences[differences != 0]
    if not len(moved):
        return 1.0
    seen = float(moved.sum())
    bound = seen - _TIE * max(1.0, float(np.abs(moved).sum()))
    if len(moved) <= EXACT_FLIPS_UP_TO:
        patterns = np.arange(2 ** len(moved))[:, None] >> np.arange(len(moved)) & 1
        return float((((1 - 2 * patterns) @ moved) >= bound).mean())
    generator = np.random.default_rng(seed)
    step, reached, left = max(1, _CHUNK_CELLS // len(moved)), 0, MONTE_CARLO_FLIPS
    while left > 0:
        signs = 1.0 - 2.0 * generator.integers(0, 2, size=(min(step, left), len(moved)), dtype=np.int8)
        reached += int((signs @ moved >= bound).sum())
        left -= len(signs)
    return (reached + 1) / (MONTE_CARLO_FLIPS + 1)


@dataclass(frozen=True, slots=True)
class BootstrapMean:
    """The bootstrap of a mean with what BCa needs: sorted means of resamples, bias z0, acceleration a."""

    means: Array
    bias: float
    acceleration: float

    def interval(self, confidence: float) -> tuple[float, float]:
        """Two-sided BCa limits, (1 - confidence)/2 beyond each."""
        return self._limit((1 - confidence) / 2), self._limit((1 + confidence) / 2)

    def p_below(self, value: float) -> float:
        """The level whose one-sided lower limit is `value`: the p of "the true mean is above value"."""
        from scipy.special import ndtr, ndtri

        count = len(self.means)
        share = float(np.searchsorted(self.means, value - _TIE, side="left")) / count
        share = min(max(share, 0.5 / count), 1 - 0.5 / count)
        shifted = float(ndtri(share)) - self.bias
        stretch = 1 + self.acceleration * shifted
        if stretch <= 0:
            return 1.0 if shifted > 0 else 0.0
        return float(ndtr(shifted / stretch - self.bias))

    def _limit(self, level: float) -> float:
        from scipy.special import ndtr, ndtri

        shifted = self.bias + float(ndtri(level))
        adjusted = float(ndtr(self.bias + shifted / (1 - self.acceleration * shifted)))
        return float(np.quantile(self.means, adjusted))


def bootstrap_mean(values: Array, seed: int) -> BootstrapMean | None:
    """BCa bootstrap of the mean of `values`, shape (n,); None where all are equal and resamples tell nothing.

    9,999 seeded resamples; the acceleration is the jackknife's, which for a mean is sum u^3 / (6 (sum u^2)^1.5).
    Source: Efron 1987. Oracle: scipy `bootstrap(method="BCa")`.
    """
    from scipy.special import ndtri

    deviation = values - values.mean()
    if float(np.abs(deviation).max()) <= _TIE:
        return None
    generator = np.random.default_rng(seed)
    n, step = len(values), max(1, _CHUNK_CELLS // len(values))
    parts = [
        values[generator.integers(0, n, size=(min(step, RESAMPLES - start), n))].mean(axis=1)
        for start in range(0, RESAMPLES, step)
    ]
    means = np.sort(np.concatenate(parts))
    centre = float(values.mean())
    below = np.searchsorted(means, centre - _TIE, side="left")
    up_to = np.searchsorted(means, centre + _TIE, side="right")
    share = float(below + up_to) / (2 * RESAMPLES)
    acceleration = float((deviation**3).sum() / (6 * (deviation**2).sum() ** 1.5))
    return BootstrapMean(means, float(ndtri(share)), acceleration)


def unseen_share(n: int, error: float) -> float:
    """Largest share of items that n draws may all have missed with probability `error`."""
    return float(-math.expm1(math.log(error) / n))


def mean_interval(values: Array, bootstrap: BootstrapMean | None, confidence: float) -> tuple[float, float]:
    """BCa interval of the mean of differences in [-1, 1], from their bootstrap.

    Where all n differences are equal the bootstrap has no width; then the limits are what the mean would be if the
    largest share of items that n draws can miss were 1 or -1.
    """
    if bootstrap is not None:
        return bootstrap.interval(confidence)
    constant, unseen = float(values[0]), unseen_share(len(values), (1 - confidence) / 2)
    return (1 - unseen) * constant - unseen, (1 - unseen) * constant + unseen
