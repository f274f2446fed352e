"""What would more examples do, by separate trainings on several sizes? Pure.

    err(n) = c + a g(n),    0 <= c <= 1,  a >= 0,    g(n) = n^-b with 0.1 <= b <= 1.5, or exp(-n/s)

by generalised least squares: all sizes are measured on the same items, so that their errors move together. The subsets of a seed
are nested, so that its errors may too; by how much, few seeds do not say. So the variance of seeds counts twice, once as if they
were independent between sizes and once as if common to all, and is stretched as Student's distribution of so few seeds asks. The
second form, which ends in a plateau, is there because six sizes do not tell the two apart, and only one of them promises more. The
interval of what more examples gain holds the gain of every curve whose misfit is not larger than the least by more than F allows. A
bootstrap is no substitute for this profile where c is 0. Not beyond four times the examples; "cannot tell" with fewer than six
sizes or two seeds, where the error does not fall beyond its noise, where no such curve fits, or where the interval is too wide to
be of use.

Source: Viering and Loog 2023 (2103.10948); Seber and Wild 1989, section 5.4. Simulations: tests/simulation/test_study_rates.py.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from lastresort.errors import ContractError
from lastresort.evals.evidence.curve_means import LEAST_SEEDS
from lastresort.evals.evidence.units import Array

TIMES = (2, 4)  # as many examples
LEAST_SIZES = 6
PROFILE = 0.95
FLAT, MISFIT = 0.01, 0.01  # levels at which a curve that does not fall, and any such curve, is refuted
WIDEST = 0.15  # of an interval, as a share of all items
_EXPONENTS, _SCALES = np.geomspace(0.1, 1.5, 45), np.geomspace(0.05, 5.0, 45)
_LEVELS = np.linspace(0.0, 1.0, 201)

WhyNoForecast = Literal["FEW_SIZES", "FEW_SEEDS", "NOT_FALLING", "OTHER_FORM", "TOO_WIDE"]


@dataclass(frozen=True, slots=True)
class GainAt:
    """times: of the examples of the largest size. gain: by how much the error is lower there. interval: its limits."""

    times: int
    gain: float
    interval: tuple[float, float]


@dataclass(frozen=True, slots=True)
class LearningCurve:
    """The fit. level: c, which no number of examples passes. exponent: b, None where the curve ends in a plateau. now: the error at
    the largest size. after: with more examples, as far as that can be told.
    """

    level: float
    exponent: float | None
    now: float
    after: tuple[GainAt, ...]


@dataclass(frozen=True, slots=True)
class NoForecast:
    reason: WhyNoForecast


def learning_curve(sizes: Sequence[int], errors: Array) -> LearningCurve | NoForecast:
    """errors: 1 less the score, shape (sizes, seeds, units). sizes: growing, above 0.

    Raises ContractError where sizes do not grow or are not as many.
    """
    from scipy.special import fdtri

    n = np.asarray(sizes, dtype=np.float64)
    if errors.ndim != 3 or len(n) != len(errors) or n[0] <= 0 or (np.diff(n) <= 0).any():
        raise ContractError(f"{len(n)} sizes, errors of shape {errors.shape}", expected="sizes that grow, one a row")
    if len(n) < LEAST_SIZES:
        return NoForecast("FEW_SIZES")
    if errors.shape[1] < LEAST_SEEDS:
        return NoForecast("FEW_SEEDS")
    means, precision = errors.mean(axis=(1, 2)), _precision(errors)
    free = len(n) * (errors.shape[1] - 1)
    shapes = _shapes(n / n[-1])
    fits = _fits(shapes, means, precision)
    best = np.unravel_index(fits.misfits.argmin(), fits.misfits.shape)
    least = float(fits.misfits[best])
    ones = np.ones(len(n))
    level = float(ones @ precision @ means) / float(ones @ precision @ ones)
    flat = float((means - level) @ precision @ (means - level))
    if flat - least <= float(fdtri(2, free, 1 - FLAT)) * 2:
        return NoForecast("NOT_FALLING")
    if least > float(fdtri(len(n) - 3, free, 1 - MISFIT)) * (len(n) - 3):
        return NoForecast("OTHER_FORM")
    slack = least + float(fdtri(1, free, PROFILE)) - fits.misfits
    width = np.sqrt(np.maximum(slack, 0.0) / fits.information[:, None])
    after = []
    for times in TIMES:
        falls = (_shapes(np.ones(1)) - _shapes(np.full(1, float(times))))[:, 0][:, None]
        low = float((np.maximum(0.0, fits.heights - width) * falls)[slack >= 0].min())
        high = float(((fits.heights + width) * falls)[slack >= 0].max())
        if high - low > WIDEST:
            break
        after.append(GainAt(times, float((fits.heights * falls)[best]), (low, high)))
    if not after:
        return NoForecast("TOO_WIDE")
    shape, c = int(best[0]), float(_LEVELS[best[1]])
    now = c + float(fits.heights[best] * _shapes(np.ones(1))[shape, 0])
    exponent = float(_EXPONENTS[shape]) if shape < len(_EXPONENTS) else None
    return LearningCurve(c, exponent, min(1.0, now), tuple(after))


def _shapes(scaled: Array) -> Array:
    """g at each size over the largest one, shape (shapes, sizes)."""
    return np.concatenate([scaled[None] ** -_EXPONENTS[:, None], np.exp(-scaled[None] / _SCALES[:, None])])


def _precision(errors: Array) -> Array:
    """The inverse of the covariance of the means, of which that of seeds is an upper bound for equal spreads and any correlation
    of nested subsets.
    """
    from scipy.special import ndtri, stdtrit

    sizes, seeds, units = errors.shape
    by_unit = np.cov(errors.mean(axis=1)) / units
    tail = (1 + PROFILE) / 2
    stretch = float(stdtrit(seeds - 1, tail) / ndtri(tail))
    between = stretch**2 * float(errors.mean(axis=2).var(axis=1, ddof=1).mean()) / seeds
    floor = 0.25 / units / units  # where all answers are equal, one more could still differ
    return np.asarray(np.linalg.inv(by_unit + between + (between + floor) * np.eye(sizes)))


@dataclass(frozen=True, slots=True)
class _Fits:
    """Of every shape and level the best height, at least 0, and its misfit, shape (shapes, levels); information: of the height, by
    shape.
    """

    heights: Array
    misfits: Array
    information: Array


def _fits(shapes: Array, means: Array, precision: Array) -> _Fits:
    rest, weighed = means[None] - _LEVELS[:, None], shapes @ precision
    information = (weighed * shapes).sum(axis=1)
    heights = np.maximum(0.0, (weighed @ rest.T) / information[:, None])
    misses = rest[None] - heights[:, :, None] * shapes[:, None]
    return _Fits(heights, np.asarray(((misses @ precision) * misses).sum(axis=2)), information)
