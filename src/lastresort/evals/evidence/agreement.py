"""How far two raters agree on the same items, beyond what their habits alone would make them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from lastresort.errors import ContractError
from lastresort.evals.evidence.bar import wilson_interval
from lastresort.evals.evidence.units import Array

Weights = Literal["none", "quadratic"]
_ROUNDING = 1e-12


@dataclass(frozen=True, slots=True)
class Agreement:
    """n: items that both rated. share: of them rated alike, with its interval.

    kappa: agreement beyond chance, 1 at best and 0 where it is no better than chance; None where both raters only ever
    said one thing, so that chance alone explains everything. weights: how far apart two ratings are; quadratic for grades.
    """

    n: int
    share: float
    interval: tuple[float, float]
    kappa: float | None
    kappa_interval: tuple[float, float] | None
    weights: Weights


def agreement(
    pairs: Sequence[tuple[str, str]],
    categories: Sequence[str],
    *,
    weights: Weights = "none",
    confidence: float = 0.95,
) -> Agreement:
    """Agreement of pairs (one rater, the other), each one of `categories`, which are in their order where weights count.

    kappa = (p - e)/(1 - e), p = sum_ij w_ij n_ij / n, e = sum_ij w_ij r_i c_j / n^2 with the margins r and c;
    w_ij = 1 if i = j, else 0; quadratic: w_ij = 1 - ((i - j)/(k - 1))^2.

    The interval of kappa is Wilson's interval of p with e held. The usual large-sample variance is 0 where all agree, and
    covers 24 to 95% instead of 95% at 30 to 200 items; this covers 92% or more, and is wide for quadratic weights, whose p
    varies less than a share does.

    Raises ContractError for no pairs, fewer than two categories, or a rating that is none of them.
    Source: Cohen 1960; Cohen 1968 (weighted); Wilson 1927. Oracles: statsmodels `cohens_kappa`, scikit-learn
    `cohen_kappa_score`. Coverage: tests/simulation/test_evidence_agreement_rates.py.
    """
    if not pairs or len(categories) < 2:
        raise ContractError(f"{len(pairs)} pairs of {len(categories)} categories", expected="at least 1 and 2")
    place = {name: number for number, name in enumerate(categories)}
    table = np.zeros((len(place), len(place)))
    for pair in pairs:
        if not set(pair) <= set(place):
            raise ContractError(f"the ratings {pair}", expected=f"each one of {', '.join(categories)}")
        table[place[pair[0]], place[pair[1]]] += 1
    n, same = len(pairs), int(np.trace(table))
    interval = wilson_interval(same, n, confidence)
    weight = _weight(len(place), weights)
    observed = float((weight * table).sum()) / n
    chance = float(table.sum(axis=1) @ weight @ table.sum(axis=0)) / n**2
    if 1 - chance < _ROUNDING:
        return Agreement(n, same / n, interval, None, None, weights)

    def beyond_chance(share: float) -> float:
        return (share - chance) / (1 - chance)

    low, high = wilson_interval(min(n * observed, n), n, confidence)
    limits = (max(-1.0, beyond_chance(low)), min(1.0, beyond_chance(high)))
    return Agreement(n, same / n, interval, beyond_chance(observed), limits, weights)


def _weight(size: int, weights: Weights) -> Array:
    if weights == "none":
        return np.eye(size)
    step = np.arange(size, dtype=np.float64)
    return np.asarray(1 - ((step[:, None] - step) / (size - 1)) ** 2)
