"""The statistics of studies keep their rates. Tables: docs/simulations.md, by `scripts/study_rates.py`."""

from __future__ import annotations

import numpy as np
import pytest
from scripts.study_rates import (
    ARM_DESIGNS,
    COST_DESIGNS,
    COSTS,
    CROSSING_STUDIES,
    ERRORS,
    FORECAST_DESIGNS,
    SIZES,
    SOURCE_DESIGNS,
    SOURCE_GAINS,
    WAYS,
    Design,
    TwoCosts,
    TwoWays,
    arms,
    costs,
    crossings,
    false_headlines,
    false_shifts,
    forecasts,
    leaks,
    looks,
    scores_of,
    sources,
)

from lastresort.errors import ContractError
from lastresort.evals.evidence.crossing import CurveCrossing, crossing
from lastresort.evals.evidence.curve_means import curve_means
from lastresort.evals.evidence.learning_curve import LearningCurve, NoForecast, learning_curve
from lastresort.study.call_costs import ADAPTER_SLOWER
from lastresort.study.compare import compare_preferred
from lastresort.study.conclude import LEVEL
from lastresort.study.effect import compare_in_order
from lastresort.study.grid import LEAST_SOURCE_UNITS
from page_tables import allowed
from study_support import arm_of

STEEP, FLAT, NEVER, ALWAYS, EQUAL, ENDS_EQUAL, FALLS, COMES_AND_GOES = WAYS


@pytest.mark.sampled_slow(6)
@pytest.mark.sampled(4)
@pytest.mark.parametrize(("ways", "design"), CROSSING_STUDIES)
def test_a_study_says_something_false_of_a_size_no_more_often_than_promised(ways: TwoWays, design: Design) -> None:
    """Of all studies: where ways are equal, all that is said is false."""
    runs = crossings(ways, design, 150, 7)
    assert runs.false <= allowed(0.05, runs.runs) * runs.runs


def test_of_clear_curves_it_is_said_where_they_cross_or_that_the_lead_falls() -> None:
    design = Design(5, 0.1, 100)
    assert all(crossings(ways, design, 60, 8).told >= 55 for ways in (STEEP, NEVER, FALLS))
    assert all(crossings(ways, design, 60, 8).whole >= 50 for ways in (STEEP, FALLS))


@pytest.mark.parametrize("ways", [1, 5])
def test_that_all_ways_are_beaten_is_not_said_more_often_for_their_number(ways: int) -> None:
    all_beaten, _ = false_headlines(ways, Design(3, 0.1, 100), 150, 9)
    assert all_beaten <= allowed(0.025, 150) * 150


@pytest.mark.sampled(4)
@pytest.mark.parametrize("ways", COSTS, ids=lambda ways: ways.name)
@pytest.mark.parametrize("design", COST_DESIGNS, ids=lambda design: design.cells)
def test_nothing_false_is_said_of_costs_though_times_are_off_by_a_fifth(ways: TwoCosts, design: Design) -> None:
    runs = 100
    assert costs(ways, design, runs, 17).false <= allowed(0.05, runs) * runs


def test_the_times_alone_would_say_something_false_of_equal_costs() -> None:
    """What the bounds guard against: an error that all calls share is no noise of items."""
    design = Design(5, 0.05, 300)
    for ways in COSTS[1:4]:
        assert costs(ways, design, 60, 18, bounded=False).false >= 15


def test_costs_that_are_equal_where_all_is_off_as_far_as_it_may_be_keep_the_error() -> None:
    """4 x 40 = 160, 1.25 x 14 = 17.5, and writing seems to take .75 times as long as reading. Beyond, what is said is false."""
    ways, design = TwoCosts("at a corner", (160, 17.5), 40, (14.0,) * 6, adapter=ADAPTER_SLOWER), Design(5, 0.05, 100)
    found = costs(ways, design, 200, 20, off=(2.0, 0.5))
    assert found.false <= allowed(0.05, 200) * 200
    further = TwoCosts("beyond it", (160, 17.5), 33, (11.5,) * 6, adapter=(6.0, 1.9))
    assert costs(further, design, 60, 21, off=(2.0, 0.5)).false > 30


def test_of_clear_costs_it_is_said_which_way_is_cheaper() -> None:
    assert all(costs(ways, Design(3, 0.1, 100), 40, 19).told >= 36 for ways in COSTS[6:])


def test_few_seeds_are_not_taken_for_many() -> None:
    """What Student's quantile guards against: normal limits of two seeds' mean hold it in 70%, not 95%."""
    dice, held, plain = np.random.default_rng(3), 0, 0
    for _ in range(300):
        scores = scores_of([0.5], dice.standard_normal(100), Design(2, 0.5, 100), dice)
        curve = curve_means(scores)
        low, high = curve.intervals()[0]
        held += low <= 0.5 <= high
        plain += abs(curve.means[0] - 0.5) <= 1.96 * float(np.sqrt(curve.unit_variance + curve.seed_variance)[0])
    assert held >= 300 * (1 - allowed(0.05, 300))
    assert plain < 0.85 * 300


@pytest.mark.sampled_slow(6)
@pytest.mark.sampled(8)
@pytest.mark.parametrize("name", [name for name in ERRORS if "not" not in name])
@pytest.mark.parametrize("design", FORECAST_DESIGNS, ids=lambda design: design.cells)
def test_intervals_of_what_more_examples_gain_hold_it(name: str, design: Design) -> None:
    for coverage in forecasts(name, design, 60, 4).values():
        assert coverage.told - coverage.held <= allowed(0.05, max(1, coverage.told)) * coverage.told


@pytest.mark.parametrize("name", [".1 + .15 n^-.5", ".3 n^-.3", ".2 + .02 n^-1"])
def test_what_more_examples_gain_is_told_where_three_seeds_agree(name: str) -> None:
    assert forecasts(name, Design(3, 0.05, 300, 0.8), 30, 5)[2].told >= 27


def test_a_curve_that_does_not_fall_is_called_so() -> None:
    assert forecasts(".4 (does not fall)", Design(3, 0.05, 100), 100, 6)[2].told <= 4


@pytest.mark.parametrize("gains", [(0.0,) * 6, (0.0, 0.0, 0.0, 0.2, 0.3, 0.4)])
@pytest.mark.parametrize("seeds", [1, 2])
def test_a_size_at_which_nothing_is_gained_is_named_no_more_often_than_said(
    gains: tuple[float, ...], seeds: int
) -> None:
    """One seed is the hardest case, since a size is shown where all its seeds are."""
    runs = 400
    false, named = false_shifts(gains, Design(seeds, 0.0, 100), runs, 9)
    assert false <= allowed(LEVEL, runs) * runs
    assert named == false or named > 0.95 * runs


@pytest.mark.parametrize("changed", [0.1, pytest.param(0.3, marks=pytest.mark.slow)])
def test_answers_that_change_at_random_are_a_format_leak_no_more_often_than_said(changed: float) -> None:
    """A test of every size and seed by itself finds one in up to a quarter of studies."""
    assert leaks(changed, 0.0, 2, 100, 4) <= allowed(LEVEL, 100) * 100
    assert leaks(changed, 0.4, 2, 20, 4) >= 12


@pytest.mark.parametrize("design", ARM_DESIGNS, ids=lambda design: design.cells)
def test_of_two_trainings_that_are_alike_neither_is_called_better_more_often_than_said(design: Design) -> None:
    runs = 300
    assert sum(arms(0.0, design, runs, 11)) <= allowed(0.05, runs) * runs


def test_the_better_of_two_trainings_is_found_where_five_seeds_agree() -> None:
    orpo, dpo = arms(0.2, Design(5, 0.1, 200), 60, 12)
    assert orpo >= 55
    assert dpo == 0


def test_a_look_after_each_seed_costs_what_the_docs_say() -> None:
    """About 4% for one look, and 15% for eleven."""
    once, ever = looks(15, Design(5, 0.4, 200), 100, 8)
    assert once <= allowed(0.05, 100) * 100
    assert 2 * once < ever <= 30


@pytest.mark.sampled_slow(6)
@pytest.mark.sampled(6)
@pytest.mark.parametrize("gains", SOURCE_GAINS, ids=str)
@pytest.mark.parametrize("design", SOURCE_DESIGNS, ids=lambda design: design.cells)
def test_nothing_false_is_said_of_synthetic_rows_more_often_than_promised(
    gains: tuple[float, float], design: Design
) -> None:
    """Of either comparison, whichever of them has no difference."""
    runs = 200
    assert sources(gains, design, runs, 14).false <= allowed(0.05, runs) * runs


def test_rows_that_help_are_found_where_five_seeds_agree() -> None:
    found = sources((0.2, -0.2), Design(5, 0.1, 200), 60, 16)
    assert found.better >= 55
    assert found.worse == found.false == 0


def test_the_fewest_items_that_are_allowed_hold_the_error_where_seeds_agree() -> None:
    """Right or wrong answers, all by chance; with 2 items, 12.6% of such studies would say something."""
    dice, said, runs = np.random.default_rng(1), 0, 1000
    for _ in range(runs):
        real, both = (
            np.repeat((dice.random((1, LEAST_SOURCE_UNITS)) < 0.5).astype(float), 3, axis=0) for _ in range(2)
        )
        said += compare_in_order(real, [both])[0].effect != "CANNOT_TELL"
    assert said <= allowed(0.05, runs) * runs


@pytest.mark.parametrize("pairs", [1, 5])
def test_pairs_of_one_prompt_count_as_one_unit(pairs: int) -> None:
    """Ways that differ at prompts but not on average. With pairs as units, 5 a prompt would differ in a quarter of studies."""
    dice, said, runs = np.random.default_rng(13), 0, 200
    prompts = tuple(int(one) for one in np.repeat(np.arange(10), pairs))
    for _ in range(runs):
        shared = 0.7 * dice.standard_normal(10)
        ways = []
        for way in ("dpo", "orpo"):
            of_prompt = shared + 0.7 * dice.standard_normal(10)
            noise = 0.1 * dice.standard_normal((5, 1)) + 0.5 * dice.standard_normal((5, len(prompts)))
            margins = of_prompt[list(prompts)] + noise
            ways.append([arm_of(way, margins=tuple(own), held_prompts=prompts) for own in margins.tolist()])
        found = compare_preferred(*ways)
        assert found is not None
        said += found.better != "CANNOT_TELL"
    assert said <= allowed(0.05, runs) * runs


def test_where_curves_cross_is_read_between_the_sizes() -> None:
    """Differences -1, -1, 1, 1 at every item cross in the middle of 20 and 40 on the scale of logarithms."""
    sizes, rise = (10, 20, 40, 80), np.repeat(np.array([-1.0, -1.0, 1.0, 1.0]), 400).reshape(4, 2, 200)
    within = crossing(sizes, rise)
    assert within == CurveCrossing("WITHIN", within.at, 20.0, 40.0)
    assert within.at == pytest.approx(np.sqrt(800))
    assert crossing(sizes, -rise) == CurveCrossing("FALLS", None, 20.0, 40.0)
    assert crossing(sizes, np.abs(rise)) == CurveCrossing("BEFORE", None, None, 10.0)
    assert crossing(sizes, -np.abs(rise)) == CurveCrossing("BEYOND", None, 80.0, None)
    assert crossing(sizes, np.concatenate([rise[1:], 0 * rise[:1]])) == CurveCrossing("WITHIN", None, 10.0, None)
    assert crossing(sizes, np.concatenate([0 * rise[:1], rise[1:]])) == CurveCrossing("WITHIN", None, None, 40.0)


def test_the_estimate_is_of_the_nearest_curve_that_does_not_fall() -> None:
    """-1, .2, -.4, 1 become -1, -.1, -.1, 1, which cross 0 after a share 1/11 of the way from 40 to 80."""
    rise = np.repeat(np.array([-1.0, 0.2, -0.4, 1.0]), 400).reshape(4, 2, 200) * np.array([[1.0], [1.0]])
    rise[1:3] += np.linspace(-30, 30, 200)  # neither is shown
    found = crossing((10, 20, 40, 80), rise)
    assert (found.low, found.high) == (10.0, 80.0)
    assert found.at == pytest.approx(40 * 2 ** (1 / 11))


def test_equal_ways_and_a_single_seed_tell_nothing() -> None:
    assert crossing((10, 20), np.zeros((2, 3, 50))).kind == "CANNOT_TELL"
    assert crossing((10, 20), np.ones((2, 1, 50))).kind == "CANNOT_TELL"
    with pytest.raises(ContractError):
        crossing((20, 10), np.zeros((2, 3, 50)))


def test_what_does_not_hold_by_all_figures_is_not_said() -> None:
    sizes, rise = (10, 20, 40, 80), np.repeat(np.array([-1.0, -1.0, 1.0, 1.0]), 400).reshape(4, 2, 200)
    less = rise - (np.arange(4) == 2)[:, None, None]
    found = crossing(sizes, rise, [less, 2 * rise])
    assert (found.kind, found.low, found.high) == ("WITHIN", 20.0, 80.0)
    assert crossing(sizes, rise, [-rise]) == CurveCrossing("CANNOT_TELL")


def test_too_few_sizes_or_seeds_are_no_curve() -> None:
    def errors_of(truth: list[float]) -> np.ndarray:
        dice = np.random.default_rng(1)
        return 1 - scores_of(truth, dice.standard_normal(300), Design(4, 0.0, 300), dice)

    errors = errors_of([0.4, 0.5, 0.6, 0.7, 0.75, 0.8])
    assert isinstance(learning_curve(SIZES, errors), LearningCurve)
    assert learning_curve(SIZES[1:], errors[1:]) == NoForecast("FEW_SIZES")
    assert learning_curve(SIZES, errors[:, :1]) == NoForecast("FEW_SEEDS")
    assert learning_curve(SIZES, errors_of([0.2, 0.2, 0.2, 0.9, 0.2, 0.9])) == NoForecast("OTHER_FORM")
