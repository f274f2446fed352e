"""Mean scores along sizes of the training set, with the noise of items and of seeds. Pure.

A study measures the same items for every size and seed. With x of shape (sizes, seeds, units), the mean of a size lies within

    sqrt(t_units^2 var_units / units + t_seeds^2 var_seeds / seeds + (z another / units)^2)

of its truth: the variances are those of the means over seeds and over units, so that the noise of single answers is counted twice
and never left out, and t are Student's quantiles for so many units and seeds. Two seeds give 12.7 in place of 2.0, and three 4.3:
few seeds say little about how much seeds matter. Nothing is pooled over the sizes: the subsets of a seed are nested, which moves
their scores together, and small subsets may vary more than large ones.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from lastresort.errors import ContractError
from lastresort.evals.evidence.units import Array

LEAST_SEEDS = 2  # one says nothing about how much seeds matter


@dataclass(frozen=True, slots=True)
class CurveMeans:
    """means: shape (sizes,). unit_variance, seed_variance: of these means, by the noise of units and of seeds, same shape."""

    means: Array
    unit_variance: Array
    seed_variance: Array
    units: int
    seeds: int

    def margins(self, level: float) -> Array:
        """How far each mean, taken alone, lies from its truth on either side, but for a probability of `level`."""
        from scipy.special import ndtri, stdtrit

        of_units = float(stdtrit(self.units - 1, 1 - level)) ** 2 * self.unit_variance
        stretch = float(stdtrit(self.seeds - 1, 1 - level)) if self.seeds >= LEAST_SEEDS else 0.0
        of_seeds = stretch**2 * self.seed_variance
        another = float(ndtri(1 - level)) / self.units
        return np.asarray(np.sqrt(of_units + of_seeds + another**2))

    def intervals(self) -> list[tuple[float, float]]:
        """95%, two-sided, of each mean alone."""
        margins = self.margins((1 - 0.95) / 2)
        return [(float(mean - own), float(mean + own)) for mean, own in zip(self.means, margins, strict=True)]


def curve_means(values: Array) -> CurveMeans:
    """values: scores or differences of scores, shape (sizes, seeds, units), one seed only where nothing depends on it. 1/units is
    added to the noise of all means, since units that are all equal show none and one more could differ by 1.

    Raises ContractError where that is not their shape, or there is a single unit.
    """
    if values.ndim != 3 or values.shape[2] < 2:
        raise ContractError(f"values of shape {values.shape}", expected="(sizes, seeds, at least 2 units)")
    sizes, seeds, units = values.shape
    by_seed = values.mean(axis=2)
    return CurveMeans(
        values.mean(axis=(1, 2)),
        values.mean(axis=1).var(axis=1, ddof=1) / units,
        by_seed.var(axis=1, ddof=1) / seeds if seeds >= LEAST_SEEDS else np.zeros(sizes),
        units,
        seeds,
    )
