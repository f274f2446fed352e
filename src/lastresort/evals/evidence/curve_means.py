"""Mean scores along sizes of the training set, with the noise of items and of seeds. Pure.

A study measures the same items for every size and seed, so that the means of all sizes share their items' noise, and those of one
seed its draw of examples. With x of shape (sizes, seeds, units):

    cov = cov_units / units + cov_seeds / seeds

of the means over seeds and over units, which counts the noise of single answers twice, so that it is never left out. The mean of
few seeds has Student's distribution; here it is drawn as normal and stretched until its limits at the confidence are Student's.
With two seeds that is a factor of 6.5, and with three of 2.2: few seeds say little about how much seeds matter.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from lastresort.errors import ContractError
from lastresort.evals.evidence.units import Array

DRAWS = 2000
LEAST_SEEDS = 2  # one says nothing about how much seeds matter


@dataclass(frozen=True, slots=True)
class CurveMeans:
    """means: shape (sizes,). units, seeds: deviations from them, shapes (units + 1, sizes) and (seeds, sizes), scaled so that the
    sum of their squares is the variance of the mean. stretch: of the deviations of seeds.
    """

    means: Array
    units: Array
    seeds: Array
    stretch: float

    def draws(self, seed: int, draws: int = DRAWS) -> Array:
        """Means as they might have come out, shape (draws, sizes)."""
        generator = np.random.default_rng(seed)
        by_units = generator.standard_normal((draws, len(self.units))) @ self.units
        by_seeds = generator.standard_normal((draws, len(self.seeds))) @ self.seeds
        return np.asarray(self.means + by_units + self.stretch * by_seeds)

    def intervals(self, seed: int, confidence: float = 0.95) -> list[tuple[float, float]]:
        """Two-sided, of each mean alone."""
        low, high = np.quantile(self.draws(seed), [(1 - confidence) / 2, (1 + confidence) / 2], axis=0)
        return [(float(a), float(b)) for a, b in zip(low, high, strict=True)]


def curve_means(values: Array, confidence: float = 0.95, unseen: float = 1.0) -> CurveMeans:
    """values: shape (sizes, seeds, units), one seed only where nothing depends on it. unseen: by how much one more unit could
    differ; a share 1/units of it is added to the noise of all means alike, since units that are all equal show none.

    Raises ContractError where that is not their shape, or there is a single unit.
    """
    from scipy.special import ndtri, stdtrit

    if values.ndim != 3 or values.shape[2] < 2:
        raise ContractError(f"values of shape {values.shape}", expected="(sizes, seeds, at least 2 units)")
    _, seeds, units = values.shape
    means = values.mean(axis=(1, 2))
    by_unit, by_seed = values.mean(axis=1).T - means, values.mean(axis=2).T - means
    level = (1 + confidence) / 2
    stretch = 1.0 if seeds < LEAST_SEEDS else float(stdtrit(seeds - 1, level) / ndtri(level))
    another = np.full((1, len(means)), unseen / units)
    return CurveMeans(
        means,
        np.concatenate([by_unit / math.sqrt(units * (units - 1)), another]),
        by_seed / math.sqrt(seeds * max(1, seeds - 1)),
        stretch,
    )
