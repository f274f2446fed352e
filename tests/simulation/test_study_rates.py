"""The statistics of studies keep their rates. Tables: docs/simulations.md, by `scripts/study_rates.py`."""

from __future__ import annotations

import numpy as np
import pytest
from scripts.study_rates import ERRORS, SIZES, WAYS, TwoWays, crossings, false_shifts, forecasts, scores_of

from lastresort.errors import ContractError
from lastresort.evals.evidence.crossing import CurveCrossing, crossing
from lastresort.evals.evidence.curve_means import curve_means
from lastresort.evals.evidence.learning_curve import LearningCurve, NoForecast, learning_curve
from lastresort.study.shift import LEVEL
from page_tables import allowed

STEEP, FLAT, NEVER, ALWAYS = WAYS


@pytest.mark.parametrize("ways", WAYS, ids=lambda ways: ways.name)
@pytest.mark.parametrize(("seeds", "spread"), [(2, 0.1), (3, 0.0), (3, 0.2), (5, 0.2)])
def test_an_interval_of_a_crossing_that_says_something_holds_the_true_place(
    ways: TwoWays, seeds: int, spread: float
) -> None:
    found = crossings(ways, seeds, spread, 100, 150, 7)
    assert found.told - found.held <= allowed(0.05, found.runs) * found.runs


def test_clear_crossings_are_told_and_so_is_that_there_is_none() -> None:
    assert all(crossings(ways, 3, 0.1, 100, 60, 8).told >= 57 for ways in (STEEP, NEVER, ALWAYS))


def test_few_seeds_are_not_taken_for_many() -> None:
    """What the stretch guards against: normal limits of two seeds' mean hold it in 70%, not 95%."""
    dice, held, plain = np.random.default_rng(3), 0, 0
    for run in range(300):
        scores = scores_of([0.5], dice.standard_normal(100), 2, 0.5, dice)
        found = curve_means(scores)
        low, high = found.intervals(run)[0]
        held += low <= 0.5 <= high
        error = float(np.sqrt((found.units**2).sum() + (found.seeds**2).sum()))
        plain += abs(found.means[0] - 0.5) <= 1.96 * error
    assert held >= 300 * (1 - allowed(0.05, 300))
    assert plain < 0.85 * 300


@pytest.mark.parametrize("name", [name for name in ERRORS if "not" not in name])
@pytest.mark.parametrize(("seeds", "items"), [(2, 100), (3, 300)])
def test_intervals_of_what_more_examples_gain_hold_it(name: str, seeds: int, items: int) -> None:
    for found in forecasts(name, seeds, 0.05, items, 100, 4).values():
        assert found.told - found.held <= allowed(0.05, 100) * 100
    assert forecasts(name, seeds, 0.05, items, 30, 5)[2].told >= 10


def test_a_curve_that_does_not_fall_is_called_so() -> None:
    assert forecasts(".4 (does not fall)", 2, 0.05, 100, 100, 6)[2].told <= 4


@pytest.mark.parametrize("gains", [(0.0,) * 6, (0.0, 0.0, 0.0, 0.2, 0.3, 0.4)])
@pytest.mark.parametrize("seeds", [1, 2])
def test_a_size_at_which_nothing_is_gained_is_named_no_more_often_than_said(
    gains: tuple[float, ...], seeds: int
) -> None:
    """One seed is the hardest case, since a size is shown where all its seeds are."""
    runs = 400
    false, named = false_shifts(gains, seeds, 0.0, 100, runs, 9)
    assert false <= allowed(LEVEL, runs) * runs
    assert named == false or named > 0.95 * runs


def test_where_curves_cross_is_read_between_the_sizes() -> None:
    """Differences -1, -1, 1, 1 at every item cross in the middle of 20 and 40 on the scale of logarithms."""
    rise = np.repeat(np.array([-1.0, -1.0, 1.0, 1.0]), 400).reshape(4, 2, 200)
    found = crossing((10, 20, 40, 80), rise, seed=0)
    assert found.kind == "WITHIN"
    assert found.at == pytest.approx(np.sqrt(800))
    assert found.low is not None
    assert found.high is not None
    assert 20 < found.low < found.at < found.high < 40
    assert crossing((10, 20, 40, 80), -rise, seed=0).kind == "CANNOT_TELL"  # falls: the mean of all is 0
    assert crossing((10, 20, 40, 80), np.abs(rise), seed=0) == CurveCrossing("BEFORE", None, None, 10.0)
    assert crossing((10, 20, 40, 80), -np.abs(rise), seed=0) == CurveCrossing("BEYOND", None, 80.0, None)


def test_equal_ways_and_a_single_seed_tell_nothing() -> None:
    assert crossing((10, 20), np.zeros((2, 3, 50)), seed=0).kind == "CANNOT_TELL"
    assert crossing((10, 20), np.ones((2, 1, 50)), seed=0).kind == "CANNOT_TELL"
    with pytest.raises(ContractError):
        crossing((20, 10), np.zeros((2, 3, 50)), seed=0)


def test_too_few_sizes_or_seeds_are_no_curve() -> None:
    errors = 1 - scores_of(
        [0.4, 0.5, 0.6, 0.7, 0.75, 0.8], np.random.default_rng(0).standard_normal(100), 2, 0.0, np.random.default_rng(1)
    )
    assert isinstance(learning_curve(SIZES, errors), LearningCurve)
    assert learning_curve(SIZES[1:], errors[1:]) == NoForecast("FEW_SIZES")
    assert learning_curve(SIZES, errors[:, :1]) == NoForecast("FEW_SEEDS")
    broken = 1 - scores_of([0.2, 0.2, 0.2, 0.9, 0.2, 0.9], np.zeros(300), 2, 0.0, np.random.default_rng(2))
    assert learning_curve(SIZES, broken) == NoForecast("OTHER_FORM")
