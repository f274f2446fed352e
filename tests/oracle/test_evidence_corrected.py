"""Scores corrected by labels, against an independent implementation and values worked by hand."""

from __future__ import annotations

from types import ModuleType

import numpy as np
import pytest

from lastresort.evals.evidence.bar import binomial_limit
from lastresort.evals.evidence.corrected import correction


@pytest.fixture
def truescore() -> ModuleType:
    return pytest.importorskip("truescore", reason="truescore is not installed")


def sample(seed: int, *, grades: bool) -> tuple[list[float], list[float], list[float]]:
    """Labels of people, the judge on them, and the judge on the test."""
    random = np.random.default_rng(seed)
    if grades:
        people = random.integers(0, 5, 40) / 4
        return (
            people.tolist(),
            np.clip(people + random.integers(-1, 3, 40) / 4, 0, 1).tolist(),
            (random.integers(0, 5, 90) / 4).tolist(),
        )
    people = (random.random(40) < 0.6).astype(float)
    judged = (random.random(40) < np.where(people == 1, 0.9, 0.2)).astype(float)
    return people.tolist(), judged.tolist(), (random.random(90) < 0.7).astype(float).tolist()


@pytest.mark.parametrize("seed", range(5))
def test_the_corrected_rate_is_that_of_rogan_and_gladen(truescore: ModuleType, seed: int) -> None:
    """truescore's gold cases are part of its sample, so the judged share of the test is weighed to be that of both together."""
    people, judged, scores = sample(seed, grades=False)
    found = truescore.rogan_gladen_estimate(judged + scores, people, list(range(40)))
    by = correction(people, judged, bar=0.7, alpha=0.05, beta=0.05, binary=True)
    assert by.estimate.true(float(np.mean(judged + scores))) == pytest.approx(found.point)


@pytest.mark.parametrize("seed", range(5))
def test_the_corrected_mean_is_that_of_prediction_powered_inference(truescore: ModuleType, seed: int) -> None:
    people, judged, scores = sample(seed, grades=True)
    found = truescore.ppi_estimate(judged + scores, people, list(range(40)), lambda_=1.0)
    by = correction(people, judged, bar=0.7, alpha=0.05, beta=0.05, binary=False)
    assert by.estimate.true(float(np.mean(scores))) == pytest.approx(found.point)


def test_the_limits_of_the_bar_by_hand() -> None:
    """40 right answers, 36 accepted; 10 wrong ones, 1 accepted; a bar of .8. The error .025 is divided as .8/sqrt(40) to
    .2/sqrt(10), 2 to 1. The limits are those of Clopper and Pearson at these parts.
    """
    people, judged = [1.0] * 40 + [0.0] * 10, [1.0] * 36 + [0.0] * 4 + [1.0] + [0.0] * 9
    by = correction(people, judged, bar=0.8, alpha=0.05, beta=0.05, binary=True)
    se_high, f_high = 1 - binomial_limit(4, 40, 0.025 * 2 / 3), 1 - binomial_limit(9, 10, 0.025 / 3)
    se_low, f_low = binomial_limit(36, 40, 0.025 * 2 / 3), binomial_limit(1, 10, 0.025 / 3)
    assert by.met_above == pytest.approx(0.8 * se_high + 0.2 * f_high)
    assert by.not_met_below == pytest.approx(0.8 * se_low + 0.2 * f_low)
    assert (by.estimate.judged(0), by.estimate.judged(1)) == pytest.approx((0.1, 0.9))
    assert by.on_true_scale(0.74, (0.7, 0.8))[0] == pytest.approx(0.8)


def test_without_wrong_answers_among_the_labels_nothing_shows_that_a_bar_is_met() -> None:
    by = correction([1.0] * 50, [1.0] * 50, bar=0.8, alpha=0.05, beta=0.05, binary=True)
    assert not by.can_be_met
    assert by.can_be_missed
    assert by.estimate is None
