"""Is one system better than another on the same items?"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from lastresort.errors import ContractError
from lastresort.evals.evidence.bar import binomial_tail
from lastresort.evals.evidence.resample import bootstrap_mean, mean_interval, sign_flip_p
from lastresort.evals.evidence.tango import tango_interval
from lastresort.evals.evidence.units import Array, as_scores, group_means


@dataclass(frozen=True, slots=True)
class Comparison:
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
) -> Comparison:
    """Whether B is better than A, from the scores of both on the same items in the same order.

    0/1 scores: exact one-sided McNemar and Tango's interval. Graded scores: paired sign-flip test and BCa bootstrap.
    groups: label of each item; each group's mean difference is then one unit, flipped and resampled as a whole.
    Raises ContractError if the lists differ in length, are empty, or hold scores outside their range.
    Source: DESIGN part 8. Oracle: scipy `binomtest`, statsmodels `mcnemar`, scipy `permutation_test` and `bootstrap`.
    """
    binary = binary and groups is None
    differences = paired_differences(a_scores, b_scores, binary=binary, groups=groups)
    n, b_only, a_only = len(differences), int((differences > 0).sum()), int((differences < 0).sum())
    if binary:
        p = mcnemar_p(b_only, a_only)
        interval = tango_interval(b_only, a_only, n, confidence)
    else:
        p = sign_flip_p(differences, seed)
        interval = mean_interval(differences, bootstrap_mean(differences, seed), confidence)
    return Comparison(p, float(differences.mean()), interval, n, b_only, a_only)


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
