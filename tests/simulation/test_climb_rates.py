"""Simulated climbs keep their promises: wrongly MET at most alpha a climb, the first good rung NOT_MET at most beta.

A rate may exceed its promise by 3 standard errors of the simulation. The figures of many more climbs are in docs/simulations.md.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from bar_table import bar_table, items_of, scored_item, without_intervals
from climb_table import BELOW, BROKEN, EIGHT, GRID, LADDERS, OTHERS, Named, promises
from lastresort.climb.bar_test import BarRule, judge_so_far
from lastresort.evals.evidence.noninferiority import non_inferior
from lastresort.types import Judgement
from page_tables import allowed
from simulated_climb import Cell, Items, Tally, non_inferior_by_counts, simulate

CLIMBS = 2_000


def hold_the_promises(cell: Cell, tally: Tally) -> None:
    alpha, beta = promises(cell)
    assert tally.wrong_met <= CLIMBS * allowed(alpha, CLIMBS), cell
    assert tally.lost <= CLIMBS * allowed(beta, CLIMBS), cell
    assert tally.limit_too_high <= CLIMBS * allowed(alpha, CLIMBS), cell
    assert sum(tally.verdicts.values()) == sum(tally.stops.values()) == CLIMBS


@pytest.mark.sampled_slow(5)
@pytest.mark.sampled(11)
@pytest.mark.parametrize("rates", LADDERS, ids=str)
def test_the_grid_keeps_the_promises(rates: tuple[float, ...]) -> None:
    cells = [cell for cell in GRID if cell.rates == rates]
    assert len(cells) == 6
    for cell in cells:
        hold_the_promises(cell, simulate(cell, CLIMBS))


@pytest.mark.sampled_slow(6)
@pytest.mark.sampled(23)
@pytest.mark.parametrize("named", OTHERS, ids=lambda named: named.name)
def test_other_ladders_bars_scores_and_choices_keep_the_promises(named: Named) -> None:
    hold_the_promises(named.cell, simulate(named.cell, CLIMBS))


@pytest.mark.parametrize("named", BROKEN, ids=lambda named: named.name)
def test_the_simulation_sees_a_broken_rule(named: Named) -> None:
    """More than the 5% of a climb, beyond chance."""
    assert simulate(named.cell, CLIMBS).wrong_met > CLIMBS * allowed(0.05, CLIMBS)


def test_the_luck_of_a_choice_on_dev_does_not_enter_the_test() -> None:
    """The best of eight equal ways shines on dev by 5 points; the test is as careful as with one way."""
    one, eight = (simulate(replace(BELOW, shared=0.0, ways=ways), CLIMBS) for ways in ((0.0,), EIGHT))
    assert abs(one.dev_gain / one.tests) < 0.005
    assert eight.dev_gain / eight.tests > 0.05
    assert eight.verdicts["MET"] / eight.tests == pytest.approx(one.verdicts["MET"] / one.tests, abs=0.006)


def test_clear_cases_are_decided() -> None:
    """A test that never decides would keep every promise."""
    good, bad = simulate(Cell((0.5, 0.7, 0.92), n=300), CLIMBS), simulate(Cell((0.5, 0.6, 0.65), n=300), CLIMBS)
    assert good.verdicts["MET"] == good.stops[3] > 0.98 * CLIMBS
    assert bad.verdicts["NOT_MET"] == bad.stops[None] > 0.98 * CLIMBS


def item_by_item(bar: float, alpha: float, right: np.ndarray) -> Judgement:
    rule, order = BarRule(bar, True, alpha), items_of(len(right))
    items = [scored_item(float(answer)) for answer in right]
    judged = (judge_so_far(rule, items[:end], order) for end in range(1, len(items) + 1))
    return next(judgement for judgement in judged if judgement is not None)


@pytest.mark.sampled(3)
@pytest.mark.parametrize(("bar", "alpha", "n"), [(0.8, 0.0125, 150), (0.5, 0.05 / 6, 60), (0.95, 0.1, 90)])
def test_the_table_says_what_the_test_says_item_by_item(bar: float, alpha: float, n: int) -> None:
    generator = np.random.default_rng(3)
    rates = np.repeat([bar, bar - 0.2, (1 + bar) / 2], 12)
    right = generator.random((len(rates), n)) < rates[:, None]
    judged = bar_table(bar, alpha, n).judge(right)
    assert judged == [item_by_item(bar, alpha, row) for row in right]
    assert {judgement.outcome for judgement in judged} == {"MET", "NOT_MET", "UNDECIDED"}


@pytest.mark.parametrize("grouped", [False, True])
def test_what_is_left_out_of_graded_judgements_decides_nothing(grouped: bool) -> None:
    generator, rule = np.random.default_rng(4), BarRule(0.8, grouped, 0.0125)
    order = items_of([str(number // 3) for number in range(240)] if grouped else 120)
    outcomes = set()
    for rate in (0.5, 0.8, 0.99) * 5:
        luck = generator.random(len(order))
        scores = (luck < rate) if grouped else np.clip(rate + 0.2 * (luck - 0.5), 0, 1)
        items = [scored_item(float(score)) for score in scores]
        whole = judge_so_far(rule, items, order)
        with without_intervals():
            bare = judge_so_far(rule, items, order)
        assert whole is not None
        assert bare is not None
        assert replace(bare, interval=whole.interval, decided=whole.decided) == whole
        outcomes.add(whole.outcome)
    assert outcomes == {"MET", "NOT_MET", "UNDECIDED"}


def test_non_inferiority_hangs_on_wins_and_losses_alone() -> None:
    generator = np.random.default_rng(5)
    for rate in (0.7, 0.9, 0.9):
        base, other = ((generator.random(40) < rate).astype(float).tolist() for _ in range(2))
        settings = {"margin": 0.02, "binary": True, "groups": None}
        assert non_inferior_by_counts(base, other, **settings) == non_inferior(base, other, **settings)


@pytest.mark.parametrize("kind", ["right or wrong", "in quarters", "groups of five"])
@pytest.mark.parametrize("shared", [0.0, 0.7, 1.0])
def test_scores_are_drawn_as_told(kind: str, shared: float) -> None:
    """True scores are what they are said to be, rungs are as alike as they should be, items of a group go together."""
    cell = Cell((), kind=kind, shared=shared)  # type: ignore[arg-type]
    items = Items(cell, 500, 100, np.random.default_rng(6))
    low, same, high = (items.scores(np.full(500, rate)) for rate in (0.6, 0.8, 0.8))
    assert [scores.mean() for scores in (low, same, high)] == pytest.approx([0.6, 0.8, 0.8], abs=0.01)
    alike = np.corrcoef(same.ravel(), high.ravel())[0, 1]
    assert alike == pytest.approx(shared, abs=0.02)
    assert (low <= same).all() == (shared == 1.0)
    neighbours = np.corrcoef(same[:, 0::5].ravel(), same[:, 1::5].ravel())[0, 1]
    assert (neighbours > 0.2) == (kind == "groups of five")
