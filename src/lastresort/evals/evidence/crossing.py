"""At which numbers of examples is one way better than another, and at which worse? Pure.

Every size is tested by itself, by the mean difference with the noise of items and of seeds (`curve_means`). "Better" is tested from
the largest size down and "worse" from the smallest up, each at half of the level; a series ends at the first size that does not
show it. So a false statement about any size has at most the probability of the level, however many sizes there are, whatever the
form of the curves. Where the lead falls, both series end at once; the same two in reverse then say so.

The estimate between two sizes is drawn straight over the logarithm of the size, on the nearest curve that does not fall.

Source: Maurer, Hothorn and Lehmacher 1995 (tests in a fixed order); Barlow et al. 1972 (isotonic regression, as max-min of means).
Simulations: tests/simulation/test_study_rates.py.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import takewhile
from typing import Literal

import numpy as np

from lastresort.errors import ContractError
from lastresort.evals.evidence.curve_means import LEAST_SEEDS, curve_means
from lastresort.evals.evidence.units import Array

CrossingKind = Literal["BEFORE", "WITHIN", "BEYOND", "FALLS", "CANNOT_TELL"]
_TIE = 1e-12


@dataclass(frozen=True, slots=True)
class CurveCrossing:
    """Where the second way passes the first, in examples.

    BEFORE: it is better at every size, from `high` on. BEYOND: worse at every size, up to `low`. WITHIN: worse at each size up to
    `low` and better at each from `high` on, either of them None where that is not shown of any size; `at` is the estimate between
    them. FALLS: the other way round, better up to `low` and worse from `high` on. CANNOT_TELL: nothing is shown.
    """

    kind: CrossingKind
    at: float | None = None
    low: float | None = None
    high: float | None = None


def crossing(
    sizes: Sequence[int], differences: Array, bounds: Sequence[Array] = (), *, confidence: float = 0.95
) -> CurveCrossing:
    """differences: the second way less the first, shape (sizes, seeds, units). sizes: growing, above 0. bounds: the same
    differences by other figures that may be the true ones: nothing is said that does not hold by all of them. The estimate is
    that of `differences`.

    With one seed the answer is CANNOT_TELL. Raises ContractError where sizes do not grow or are not as many.
    """
    if len(sizes) != len(differences) or len(sizes) < 2 or min(sizes) <= 0 or (np.diff(sizes) <= 0).any():
        raise ContractError(f"sizes {list(sizes)}", expected="at least two above 0 that grow, one a row of differences")
    curves = [curve_means(one) for one in (differences, *bounds)]
    if differences.shape[1] < LEAST_SEEDS:
        return CurveCrossing("CANNOT_TELL")
    margins = [curve.margins((1 - confidence) / 2) + _TIE for curve in curves]
    least_lead = np.min([curve.means - own for curve, own in zip(curves, margins, strict=True)], axis=0)
    most_lead = np.max([curve.means + own for curve, own in zip(curves, margins, strict=True)], axis=0)
    better, worse = [bool(one) for one in least_lead > 0], [bool(one) for one in most_lead < 0]
    least, most = float(sizes[0]), float(sizes[-1])
    if all(better):
        return CurveCrossing("BEFORE", high=least)
    if all(worse):
        return CurveCrossing("BEYOND", low=most)
    last_worse, first_better = _leading(worse) - 1, len(sizes) - _leading(better[::-1])
    low = float(sizes[last_worse]) if last_worse >= 0 else None
    high = float(sizes[first_better]) if first_better < len(sizes) else None
    if low is not None and high is not None:
        between = slice(last_worse, first_better + 1)
        return CurveCrossing("WITHIN", _place(sizes[between], curves[0].means[between]), low, high)
    if low is not None or high is not None:
        return CurveCrossing("WITHIN", None, low, high)
    if better[0] and worse[-1]:
        last_better, first_worse = _leading(better) - 1, len(sizes) - _leading(worse[::-1])
        return CurveCrossing("FALLS", None, float(sizes[last_better]), float(sizes[first_worse]))
    return CurveCrossing("CANNOT_TELL")


def _leading(flags: Sequence[bool]) -> int:
    return len(list(takewhile(bool, flags)))


def _place(sizes: Sequence[int], means: Array) -> float:
    """Where means that begin below 0 and end above it cross 0."""
    count = len(means)
    grown = [
        max(min(float(means[start : end + 1].mean()) for end in range(at, count)) for start in range(at + 1))
        for at in range(count)
    ]
    after = next(at for at, mean in enumerate(grown) if mean > 0)
    share = grown[after - 1] / (grown[after - 1] - grown[after])
    below, above = math.log(sizes[after - 1]), math.log(sizes[after])
    return math.exp(below + share * (above - below))
