"""Agreement of two raters: equal to statsmodels and scikit-learn, and to tables worked by hand."""

from __future__ import annotations

import random

import numpy as np
import pytest
from sklearn.metrics import cohen_kappa_score
from statsmodels.stats.inter_rater import cohens_kappa
from statsmodels.stats.proportion import proportion_confint

from lastresort.errors import ContractError
from lastresort.evals.evidence.agreement import agreement

GRADES = ("1", "2", "3", "4", "5")


def rated(seed: int, n: int, categories: tuple[str, ...], alike: float) -> list[tuple[str, str]]:
    rng = random.Random(seed)
    found = []
    for _ in range(n):
        first = rng.choice(categories)
        found.append((first, first if rng.random() < alike else rng.choice(categories)))
    return found


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("categories", [("a", "tie", "b"), ("yes", "no"), GRADES])
@pytest.mark.parametrize("weights", ["none", "quadratic"])
def test_kappa_is_that_of_the_peers(seed: int, categories: tuple[str, ...], weights: str) -> None:
    pairs = rated(seed, 17 + 20 * seed, categories, alike=0.2 * seed)
    found = agreement(pairs, categories, weights=weights)  # type: ignore[arg-type]
    table = np.array([[pairs.count((row, column)) for column in categories] for row in categories])
    theirs = cohens_kappa(table, wt=None if weights == "none" else "fc", return_results=False)
    assert found.kappa == pytest.approx(theirs)
    first, second = zip(*pairs, strict=True)
    named = None if weights == "none" else weights
    assert found.kappa == pytest.approx(cohen_kappa_score(first, second, labels=list(categories), weights=named))
    assert found.share == np.trace(table) / len(pairs)
    assert found.interval == pytest.approx(proportion_confint(np.trace(table), len(pairs), method="wilson"))
    low, high = found.kappa_interval or (1, -1)
    assert -1 <= low <= (found.kappa or 0) <= high <= 1


def test_cohens_table_by_hand() -> None:
    """20 both yes, 15 both no, 5 and 10 apart of 50: p = .7, e = (.5 * .6 + .5 * .4) = .5, kappa = .4."""
    pairs = [("yes", "yes")] * 20 + [("no", "no")] * 15 + [("yes", "no")] * 5 + [("no", "yes")] * 10
    found = agreement(pairs, ("yes", "no"))
    assert (found.n, found.share, found.weights) == (50, 0.7, "none")
    assert found.kappa == pytest.approx(0.4)
    assert found.kappa_interval == pytest.approx(tuple((limit - 0.5) / 0.5 for limit in found.interval))


def test_perfect_agreement_is_not_certain() -> None:
    found = agreement([("a", "a"), ("b", "b")] * 10, ("a", "b"))
    assert (found.share, found.kappa) == (1.0, 1.0)
    assert found.kappa_interval == (pytest.approx((0.8389 - 0.5) / 0.5, abs=1e-3), 1.0)


def test_where_both_say_one_thing_kappa_cannot_be_told() -> None:
    found = agreement([("a", "a")] * 9, ("a", "b"))
    assert (found.share, found.kappa, found.kappa_interval) == (1.0, None, None)


def test_where_one_says_one_thing_kappa_is_nought() -> None:
    assert agreement([("a", "a")] * 6 + [("b", "a")] * 3, ("a", "b")).kappa == pytest.approx(0)


@pytest.mark.parametrize(
    ("pairs", "categories"), [([], ("a", "b")), ([("a", "a")], ("a",)), ([("a", "c")], ("a", "b"))], ids=repr
)
def test_what_cannot_be_compared_is_refused(pairs: list[tuple[str, str]], categories: tuple[str, ...]) -> None:
    with pytest.raises(ContractError):
        agreement(pairs, categories)
