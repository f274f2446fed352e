"""How many examples would help? A forecast from one training's first epoch. Pure.

In the first epoch every batch is new to the model, so its loss before the step is the loss on unseen examples after n seen ones.
That gives a learning curve for nothing, with three faults: each point is one noisy batch, the rate of learning changes along the
way, as it would not between separate trainings of n examples, and rows of replay count as examples, their loss included, unless
they are held to the base. So the forecast is an approximation.

    loss(n) = c + a g(n),    c, a >= 0,    g(n) = n^-b with 0.1 <= b <= 1.5, or exp(-n/s)

by least squares. The second form, which ends in a plateau, is there because few batches do not tell the two apart, and only one of
them promises more. The interval of R, the loss with k times the examples over the loss now, holds every R that some curve reaches
whose sum of squares is not larger than the least by more than F allows (a profile, which a bootstrap is not a substitute for where
c is 0: it covered 60 to 80% instead of 95%). Not beyond four times the examples, and "cannot tell" where there are too few batches,
where the loss does not fall beyond its noise, where it is of neither form, or where the interval is too wide to be of use.

Source: Viering and Loog 2023 (the shapes of learning curves, 2103.10948); Seber and Wild 1989, section 5.4 (profiles). Simulations:
tests/simulation/test_more_examples_rates.py.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from lastresort.errors import ContractError
from lastresort.evals.evidence.units import Array
from lastresort.types import LEAST_BATCHES, CannotTell, LossAt, MoreExamples

TIMES = (2, 4)  # as many examples
LEAST_POINTS, LEAST_SPAN = LEAST_BATCHES, 4.0  # and the last number of examples over the first
PROFILE = 0.99  # so that 95% of the intervals that are narrow enough to be given hold, too
FLAT = 0.005  # level at which a loss that does not fall is refuted; low, since the shape is chosen after seeing it
WIDEST = 0.3  # of the loss now: the interval at the least of TIMES
_SHARES = np.linspace(0.0, 1.0, 401)[:-1]
_SECTIONS, _MISFIT, _NEAR = 4, 0.01, 0.01


def forecast_loss(examples: Sequence[float], losses: Sequence[float]) -> MoreExamples | CannotTell:
    """examples: seen before each batch, growing, above 0. losses: of each batch before its step, in nats a token.

    Raises ContractError where they are not as many, or do not grow.
    """
    from scipy.special import fdtri

    n, loss = np.asarray(examples, dtype=np.float64), np.asarray(losses, dtype=np.float64)
    if n.shape != loss.shape or n.ndim != 1 or (len(n) and (n[0] <= 0 or (np.diff(n) <= 0).any())):
        raise ContractError(
            f"{len(n)} sizes and {len(loss)} losses", expected="as many of each, sizes above 0 and growing"
        )
    points = len(n)
    if points < LEAST_POINTS or n[-1] < LEAST_SPAN * n[0] or not np.isfinite(loss).all():
        return CannotTell("FEW_BATCHES", points)
    scaled, free = n / n[-1], points - 3
    shapes = np.stack([shape(scaled) for shape in SHAPES])
    first = _best(shapes, loss, np.ones(points))
    weights = np.maximum(first.along(scaled), 0.05 * loss.mean()) ** -2.0
    weights /= weights.mean()
    best = _best(shapes, loss, weights)
    spread = best.miss / free
    flat = loss - float(weights @ loss) / points
    if float(weights @ flat**2) - best.miss <= float(fdtri(1, free, 1 - FLAT)) * spread:
        return CannotTell("NOT_FALLING", points)
    if _misfit(np.sqrt(weights) * (loss - best.along(scaled)) / loss.mean()):
        return CannotTell("OTHER_FORM", points)
    allowed = best.miss + float(fdtri(1, free, PROFILE)) * spread
    after = tuple(_at(times, best, shapes, loss, weights, allowed) for times in TIMES)
    low, high = after[0].interval
    if high - low > WIDEST:
        return CannotTell("TOO_WIDE", points)
    return MoreExamples(round(float(n[-1])), float(best.along(np.ones(1))[0]), after)


Shape = Callable[[Array], Array]
"""g of examples over those seen."""


def _power(exponent: float) -> Shape:
    return lambda scaled: np.exp(-exponent * np.log(scaled))


def _decay(scale: float) -> Shape:
    return lambda scaled: np.exp(-scaled / scale)


GRID = 90  # shapes of each form: with 30, narrow intervals fell between them, and held in 86 to 89% of long curves with a plateau
SHAPES: tuple[Shape, ...] = (
    *(_power(float(b)) for b in np.geomspace(0.1, 1.5, GRID)),
    *(_decay(float(s)) for s in np.geomspace(0.05, 5.0, GRID)),
)


@dataclass(frozen=True, slots=True)
class _Fit:
    """level + height shape, and its sum of squares."""

    shape: Shape
    level: float
    height: float
    miss: float

    def along(self, scaled: Array) -> Array:
        return np.asarray(self.level + self.height * self.shape(scaled))


def _best(shapes: Array, loss: Array, weights: Array) -> _Fit:
    """By weighted least squares with both at least 0: on the border where the free fit leaves it. shapes: g of each of SHAPES,
    of shape (shapes, batches). weights: 1 on average.
    """
    mean, middle = float(weights @ loss) / len(loss), shapes @ weights / len(loss)
    centred = shapes - middle[:, None]
    height = centred @ (weights * loss) / (centred**2 @ weights)
    level = mean - height * middle
    through_0 = shapes @ (weights * loss) / (shapes**2 @ weights)
    rises, below = height < 0, (height >= 0) & (level < 0)
    level = np.where(rises, mean, np.where(below, 0.0, level))
    height = np.where(rises, 0.0, np.where(below, through_0, height))
    miss = (loss - level[:, None] - height[:, None] * shapes) ** 2 @ weights
    least = int(miss.argmin())
    return _Fit(SHAPES[least], float(level[least]), float(height[least]), float(miss[least]))


def _at(times: int, best: _Fit, shapes: Array, loss: Array, weights: Array, allowed: float) -> LossAt:
    """A curve that reaches R is proportional to r + g with r = (R g(1) - g(k))/(1 - R), so only its height is fitted."""
    now, later = best.along(np.array([1.0, float(times)])).tolist()
    share, total = later / now, float(weights @ loss**2)
    one, more = np.stack([shape(np.array([1.0, float(times)])) for shape in SHAPES]).T[:, :, None]
    offset = (_SHARES * one - more) / (1 - _SHARES)
    product = offset * float(weights @ loss) + (shapes @ (weights * loss))[:, None]
    square = weights.sum() * offset**2 + 2 * offset * (shapes @ weights)[:, None] + (shapes**2 @ weights)[:, None]
    reached = ((offset >= 0) & (total - product**2 / square <= allowed)).any(axis=0)
    within = _SHARES[reached]
    low, high = (share, share) if not len(within) else (float(within[0]), float(within[-1]))
    return LossAt(times, share, (min(low, share), max(high, share)))


def _misfit(residuals: Array) -> bool:
    """Whether the means of consecutive sections differ from the curve by more than their noise (F test), and by more than 1%, which
    is as near as the grid of shapes comes. residuals: as shares of the mean loss.
    """
    from scipy.special import fdtrc

    sections = np.array_split(residuals, _SECTIONS)
    between = sum(len(one) * float(one.mean()) ** 2 for one in sections)
    within = sum(float(((one - one.mean()) ** 2).sum()) for one in sections)
    free = len(residuals) - _SECTIONS
    if within <= 0 or max(abs(float(one.mean())) for one in sections) < _NEAR:
        return False
    return float(fdtrc(_SECTIONS - 1, free, (between / (_SECTIONS - 1)) / (within / free))) < _MISFIT
