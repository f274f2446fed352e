"""Is one system better than another on the same items?

Means of few or oddly distributed differences: sign-flip test, BCa bootstrap, and limits that reckon with the unseen.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from lastresort.errors import ContractError
from lastresort.evals.evidence.bar import binomial_tail
from lastresort.evals.evidence.tango import tango_interval
from lastresort.evals.evidence.units import Array, as_scores, group_means

EXACT_FLIPS_UP_TO = 16
MONTE_CARLO_FLIPS = 19_999
RESAMPLES = 9_999
_CHUNK_CELLS = 2_000_000
_TIE = 1e-12


def generator_of(seed: int) -> np.random.Generator:
    """Of any whole number: numpy takes none below 0, where the draws lie that no gate scores."""
    return np.random.default_rng(seed % 2**64)


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
    generator = generator_of(seed)
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
    generator = generator_of(seed)
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


@dataclass(frozen=True, slots=True)
class ReweightedMean:
    """Means of a sample under random weights, with one unseen unit of the worst, or the best, value added.

    sums, totals: of weight times value, and of weight, in each of 9,999 draws. unseen: the weight of the unit that was not seen.
    """

    sums: Array
    totals: Array
    unseen: Array

    def p_above(self, value: float) -> float:
        """p of "the true mean is above `value`": how often it is not, with one unit of -1 added to the sample."""
        return self._share(self.sums - self.unseen <= value * (self.totals + self.unseen) + _TIE)

    def p_below(self, value: float) -> float:
        """p of "the true mean is below `value`", with a unit of 1."""
        return self._share(self.sums + self.unseen >= value * (self.totals + self.unseen) - _TIE)

    def interval(self, confidence: float) -> tuple[float, float]:
        """Two-sided limits, (1 - confidence)/2 beyond each; the limits at which the p reach that level."""
        weight, level = self.totals + self.unseen, (1 - confidence) / 2
        low, high = (self.sums - self.unseen) / weight, (self.sums + self.unseen) / weight
        return float(np.quantile(low, level)), float(np.quantile(high, 1 - level))

    def _share(self, reached: np.ndarray[tuple[int, ...], np.dtype[np.bool_]]) -> float:
        return (int(reached.sum()) + 1) / (len(reached) + 1)


def reweighted_mean(values: Array, seed: int) -> ReweightedMean:
    """For tests on the mean of units in [-1, 1], from their values, shape (n,): exponential weights, one for each unit.

    Of 0/1 values these are the exact binomial test; of equal values, the chance that n units all miss what would turn the
    verdict. A bootstrap cannot know of losses that it has not seen: where few scores change, BCa calls a loss that equals
    the margin smaller more than 10% of the time. That the error is kept for every distribution is a conjecture that no
    simulation has broken.
    Source: Gaffke 2005; Learned-Miller and Thomas 2019. Simulations: docs/gate-simulations.md.
    """
    seen, counts = np.unique(values, return_counts=True)
    generator = generator_of(seed)
    unseen = generator.standard_exponential(RESAMPLES)
    step = max(1, _CHUNK_CELLS // len(seen))
    sums, totals = [], []
    for start in range(0, RESAMPLES, step):
        weights = generator.standard_gamma(counts, size=(min(step, RESAMPLES - start), len(seen)))
        sums.append(weights @ seen)
        totals.append(weights.sum(axis=1))
    return ReweightedMean(np.concatenate(sums), np.concatenate(totals), unseen)


@dataclass(frozen=True, slots=True)
class PairedComparison:
    """B against A on the same items.

    p: one-sided, of "B is better". difference: mean of B - A, with its two-sided interval. n: items, or groups.
    b_only, a_only: items (groups) on which B, or A, scored higher.
    """

    p: float
    difference: float
    interval: tuple[float, float]
    n: int
    b_only: int
    a_only: int


def better(
    a_scores: Sequence[float],
    b_scores: Sequence[float],
    *,
    binary: bool,
    groups: Sequence[str] | None = None,
    seed: int = 0,
    confidence: float = 0.95,
) -> PairedComparison:
    """Whether B is better than A, from the scores of both on the same items in the same order.

    0/1 scores: exact one-sided McNemar and Tango's interval. Graded scores: paired sign-flip test and BCa bootstrap.
    groups: label of each item; each group's mean difference is then one unit, flipped and resampled as a whole.
    Raises ContractError if the lists differ in length, are empty, or hold scores outside their range.
    Source: McNemar 1947; Tango 1998; Fisher 1935 (sign flips); Efron 1987 (BCa).
    Oracle: scipy `binomtest`, statsmodels `mcnemar`, scipy `permutation_test` and `bootstrap`.
    """
    binary = binary and groups is None
    differences = paired_differences(a_scores, b_scores, binary=binary, groups=groups)
    n, (b_only, a_only) = len(differences), _one_sided(differences)
    if binary:
        interval = tango_interval(b_only, a_only, n, confidence)
    else:
        interval = mean_interval(differences, bootstrap_mean(differences, seed), confidence)
    p = p_above_zero(differences, binary=binary, seed=seed)
    return PairedComparison(p, float(differences.mean()), interval, n, b_only, a_only)


def p_above_zero(differences: Array, *, binary: bool, seed: int = 0) -> float:
    """The p of `better` from `paired_differences`, shape (n,), without the interval, which takes most of the time."""
    return mcnemar_p(*_one_sided(differences)) if binary else sign_flip_p(differences, seed)


def _one_sided(differences: Array) -> tuple[int, int]:
    """How many are above 0, and below."""
    return int((differences > 0).sum()), int((differences < 0).sum())


def mcnemar_p(b_only: int, a_only: int) -> float:
    """P(X >= b_only), X binomial(b_only + a_only, 1/2): exact one-sided McNemar; 1 if no item differs."""
    return binomial_tail(b_only, b_only + a_only, 0.5)


def paired_differences(
    old: Sequence[float], new: Sequence[float], *, binary: bool, groups: Sequence[str] | None
) -> Array:
    """new - old of each item, or each group's mean of it, shape (n,).

    Graded scores may lie in [-1, 1] (a suite's loss is one), their differences too. Raises ContractError otherwise.
    """
    if len(old) != len(new):
        raise ContractError(f"{len(old)} and {len(new)} scores", expected="both systems on the same items")
    if not len(old):
        raise ContractError("a comparison without items", expected="at least one")
    low = 0.0 if binary else -1.0
    differences = as_scores(new, binary=binary, low=low) - as_scores(old, binary=binary, low=low)
    if abs(differences).max() > 1:
        raise ContractError(f"a difference of {abs(differences).max():g}", expected="differences from -1 to 1")
    return differences if groups is None else group_means(differences, groups)
