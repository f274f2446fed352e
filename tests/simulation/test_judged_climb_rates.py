"""Climbs that a judge scores and labels correct err no more than promised, and the labels' part of the error is spent once.

Two cautious bounds hide one another, so each half of the error is held to its own: that of the tests where the judge is known, and
that of the labels where items are endless. The tables of docs/simulations.md are by `scripts/judges.py`.
"""

from __future__ import annotations

from dataclasses import replace

import pytest
from scripts.judges import CLIMBS, ONE_LIMIT, TESTED, Climbed, OneTest, climb_cells, row_of_climbs, row_of_test

from climb_table import PAGE
from lastresort.evals.evidence import corrected
from lastresort.evals.evidence.bar import FALSE_NOT_MET, binomial_limit
from lastresort.evals.evidence.corrected import LABELS_SHARE
from lastresort.evals.evidence.outlook import Errors
from page_tables import allowed, block, line
from simulated_judge import TESTS, JudgedCell, simulate
from simulated_ladder import ALPHA, ladder_of, met_at

HALF = LABELS_SHARE * ALPHA
AT, GOOD = 0.8, 0.97
KNOWN = JudgedCell((AT,), labels=None, n=150)
ENDLESS = replace(ONE_LIMIT, rates=(AT,))


def most_wrong(cell: JudgedCell) -> float:
    """Where the judge is known, a bound of how often a climb errs: what the tests of bad systems use of half of their error."""
    assert cell.n is not None
    ladder, judged = (
        ladder_of(dict(zip(TESTS, cell.rates, strict=False)), cell.n, goal_cost=cell.goal_cost),
        cell.judged(AT),
    )
    bad = [test for test, rate in ladder.rates.items() if rate == AT]
    return sum(met_at(judged, cell.n, (1 - LABELS_SHARE) * ladder.error_of(test), judged) for test in bad)


@pytest.mark.slow
def test_where_the_judge_is_known_a_rung_is_wrongly_met_as_often_as_half_of_its_error_says() -> None:
    climbs, expected = 3_000, most_wrong(KNOWN)
    assert 0.6 * HALF < expected <= HALF
    found = simulate(KNOWN, climbs)
    assert 2 * expected - allowed(expected, climbs) <= found.wrong_met / climbs <= allowed(expected, climbs)
    assert found.lost <= climbs * allowed(LABELS_SHARE * FALSE_NOT_MET, climbs)


@pytest.mark.slow
def test_the_simulation_sees_tests_that_leave_nothing_to_the_labels(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(corrected, "errors_left", Errors)
    assert simulate(KNOWN, 3_000).wrong_met > 3_000 * allowed(most_wrong(KNOWN), 3_000)


@pytest.mark.slow
@pytest.mark.parametrize(
    "cell",
    [replace(KNOWN, rates=(AT,) * 4), replace(KNOWN, rates=(GOOD, AT, AT, AT), goal_cost=True)],
    ids=["all at the bar", "a prompt that hands on"],
)
def test_where_the_judge_is_known_a_climb_with_its_repair_errs_no_more_than_its_tests_may(cell: JudgedCell) -> None:
    found = simulate(cell, 2_000)
    assert 0 < found.wrong_met <= 2_000 * allowed(most_wrong(cell), 2_000)


@pytest.mark.sampled(2)
@pytest.mark.parametrize("tests", [1, 4], ids=["one test", "three rungs and a repair"])
def test_where_items_are_endless_the_labels_are_wrong_once_for_all_tests(tests: int) -> None:
    """However many tests there are, MET is wrong only where the one limit of the labels is."""
    found = simulate(replace(ENDLESS, rates=(AT,) * tests), 1_500)
    for wrong in (found.wrong_met, found.lost):
        assert 0.4 * HALF < wrong / 1_500 <= allowed(HALF, 1_500)


def test_the_simulation_sees_limits_that_fail_too_often(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(corrected, "binomial_limit", lambda right, n, error: binomial_limit(right, n, 2.5 * error))
    assert simulate(ENDLESS, 1_500).wrong_met > 1_500 * allowed(HALF, 1_500)


def lines(name: str) -> list[str]:
    found = block(name).search(PAGE.read_text(encoding="utf-8"))
    assert found is not None
    return found[2].strip().splitlines()[2:]


@pytest.mark.sampled_slow(12)
@pytest.mark.slow
@pytest.mark.parametrize("one", climb_cells(), ids=lambda one: f"{one.profile} {one.cell.labels} {one.cell.n}")
def test_every_cell_of_the_table_keeps_the_promises_and_is_what_the_page_shows(one: Climbed) -> None:
    found = simulate(one.cell, CLIMBS)
    assert found.wrong_met <= CLIMBS * allowed(ALPHA, CLIMBS)
    assert found.lost <= CLIMBS * allowed(FALSE_NOT_MET, CLIMBS)
    assert line(row_of_climbs(one, found)) in lines("judged climbs"), "run python -m scripts.judges climbs"


@pytest.mark.sampled_slow(6)
@pytest.mark.slow
@pytest.mark.parametrize("case", TESTED, ids=str)
def test_every_line_of_single_tests_is_what_the_page_shows(case: OneTest) -> None:
    assert line(row_of_test(case)) in lines("judged tests"), "run python -m scripts.judges tests"


@pytest.mark.slow
def test_a_line_of_each_table_is_what_the_code_gives() -> None:
    """The others, which take minutes, in `make test-all`."""
    cells = list(climb_cells())
    assert len(lines("judged climbs")) == len(cells)
    for again in (cell for cell in cells if cell.cell.n is None):
        shown = line(row_of_climbs(again, simulate(again.cell, CLIMBS)))
        assert shown in lines("judged climbs"), "run python -m scripts.judges climbs"
    assert len(lines("judged tests")) == len(TESTED)
    assert line(row_of_test(TESTED[1])) in lines("judged tests"), "run python -m scripts.judges tests"
