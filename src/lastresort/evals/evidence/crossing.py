"""From how many examples on is one way better than another? Pure.

The difference of the two curves is taken to grow with the number of examples, or not to fall: it is replaced by the nearest
sequence that does not (isotonic regression), and between two sizes it is drawn straight over the logarithm of the size. It crosses
0 once or nowhere. Where it crosses is computed for 2,000 curves as they might have come out (`curve_means`), and the interval holds
the middle 95% of these. A curve that lies above 0 from the smallest size on crosses before it; one that never does, beyond the
largest.

Source: Barlow et al. 1972 (isotonic regression, as max-min of means); Fieller 1954 (a set of places that no test refutes). That the
interval holds the place at its rate: tests/simulation/test_study_rates.py.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from lastresort.errors import ContractError
from lastresort.evals.evidence.curve_means import LEAST_SEEDS, curve_means
from lastresort.evals.evidence.units import Array

CrossingKind = Literal["BEFORE", "WITHIN", "BEYOND", "CANNOT_TELL"]
_TIE = 1e-12


@dataclass(frozen=True, slots=True)
class CurveCrossing:
    """Where the second way passes the first, in examples.

    kind: WITHIN the sizes, BEFORE the smallest, BEYOND the largest, as far as that is shown. at: the estimate, None outside of the
    sizes. low, high: of the interval, None where it is open on that side.
    """

    kind: CrossingKind
    at: float | None
    low: float | None
    high: float | None


def crossing(
    sizes: Sequence[int], differences: Array, *, seed: int, confidence: float = 0.95, unseen: float = 1.0
) -> CurveCrossing:
    """differences: the second way less the first, shape (sizes, seeds, units). sizes: growing, above 0. unseen: as of
    `curve_means`.

    With one seed the answer is CANNOT_TELL. Raises ContractError where sizes do not grow or are not as many.
    """
    if len(sizes) != len(differences) or len(sizes) < 2 or min(sizes) <= 0 or (np.diff(sizes) <= 0).any():
        raise ContractError(f"sizes {list(sizes)}", expected="at least two above 0 that grow, one a row of differences")
    found = curve_means(differences, confidence, unseen)
    logs = np.log(np.asarray(sizes, dtype=np.float64))
    at = float(_places(logs, found.means[None])[0])
    estimate = math.exp(at) if math.isfinite(at) else None
    if differences.shape[1] < LEAST_SEEDS:
        return CurveCrossing("CANNOT_TELL", estimate, None, None)
    places = np.sort(_places(logs, found.draws(seed)))
    tail = (1 - confidence) / 2
    low, high = places[math.floor(tail * len(places))], places[math.ceil((1 - tail) * len(places)) - 1]
    if high == -np.inf:
        return CurveCrossing("BEFORE", None, None, float(sizes[0]))
    if low == np.inf:
        return CurveCrossing("BEYOND", None, float(sizes[-1]), None)
    if low == -np.inf and high == np.inf:
        return CurveCrossing("CANNOT_TELL", estimate, None, None)
    return CurveCrossing(
        "WITHIN",
        estimate,
        float(math.exp(low)) if np.isfinite(low) else None,
        float(math.exp(high)) if np.isfinite(high) else None,
    )


def _places(logs: Array, curves: Array) -> Array:
    """The logarithm at which each curve, shape (draws, sizes), crosses 0; -inf or inf outside. Touching 0 is not crossing."""
    grown = _isotonic(curves)
    above = grown > _TIE
    first = above.argmax(axis=1)
    never, already = ~above.any(axis=1), above[:, 0]
    rows = np.arange(len(grown))
    after, before = np.maximum(first, 1), np.maximum(first, 1) - 1
    rise = grown[rows, after] - grown[rows, before]
    share = np.divide(-grown[rows, before], rise, out=np.zeros(len(grown)), where=rise > 0)
    places = logs[before] + np.clip(share, 0.0, 1.0) * (logs[after] - logs[before])
    return np.where(never, np.inf, np.where(already, -np.inf, places))


def _isotonic(curves: Array) -> Array:
    """The nearest curves that do not fall: at i the largest over j <= i of the smallest over k >= i of the mean from j to k."""
    sizes = curves.shape[1]
    sums = np.concatenate([np.zeros((len(curves), 1)), curves.cumsum(axis=1)], axis=1)
    found = np.full_like(curves, -np.inf)
    for start in range(sizes):
        means = (sums[:, start + 1 :] - sums[:, [start]]) / np.arange(1, sizes - start + 1)
        least = np.minimum.accumulate(means[:, ::-1], axis=1)[:, ::-1]  # over all ends at or after each place
        found[:, start:] = np.maximum(found[:, start:], least)
    return found
