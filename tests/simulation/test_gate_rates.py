"""Simulated gates keep their promises; docs/gate-simulations.md holds the figures of many more, and shows what the code gives.

0/1 scores are summed over all tables, so that their chances may not exceed 5% at all; what is drawn may by 3 standard errors.
"""

from __future__ import annotations

import functools

import numpy as np
import pytest

from gate_simulation import (
    ALPHA,
    GATES,
    HALVES,
    Rates,
    changes,
    critical_z,
    gates,
    graded_p,
    graded_size,
    plan,
    power,
    size,
)
from gate_table import (
    RUNS,
    TABLES,
    PowerCell,
    SizeCell,
    power_row,
    shown_rows,
    size_row,
)
from lastresort.evals.evidence.noninferiority import POWER, items_needed, items_that_decide, non_inferior, power_of
from lastresort.evals.evidence.paired import reweighted_mean
from lastresort.evals.evidence.sequential import LOOKING, Looks, look_schedule, p_by_looking
from lastresort.evals.evidence.tango import exact_p_more_than, score_z
from page_tables import allowed

FEW = 600


@pytest.mark.sampled_slow(3, each="side")
@pytest.mark.sampled(6, each="side")
@pytest.mark.parametrize(("n", "margin"), [(50, 0.02), (50, 0.05), (100, 0.03), (501, 0.05)])
@pytest.mark.parametrize("side", ["NON_INFERIOR", "REGRESSED"])
def test_a_loss_that_equals_the_margin_is_judged_wrongly_at_most_5_percent(n: int, margin: float, side: str) -> None:
    assert size(n, margin, side=side, exact=True).chance <= ALPHA + 1e-6


@pytest.mark.parametrize(("n", "margin"), [(200, 0.03), (501, 0.05), (1_000, 0.03), (2_000, 0.02)])
def test_the_score_test_would_not_keep_that(n: int, margin: float) -> None:
    """Above 500 items, too: what the exact test is made for."""
    assert max(size(n, margin, side=side, exact=False).chance for side in ("NON_INFERIOR", "REGRESSED")) > ALPHA + 0.003


def test_beyond_the_exact_test_the_excess_is_small() -> None:
    for side, most in (("NON_INFERIOR", 0.0502), ("REGRESSED", 0.0525)):
        assert ALPHA - 0.01 < size(20_001, 0.02, side=side, exact=False).chance < most


@pytest.mark.slow
def test_the_chance_of_a_table_is_what_drawing_gives() -> None:
    """The sum over tables against 200,000 draws, of the size at its worst share."""
    n, margin = 100, 0.03
    found = size(n, margin, side="NON_INFERIOR", exact=True)
    chances = [(found.share - margin) / 2, (found.share + margin) / 2, 1 - found.share]
    tables, times = np.unique(
        np.random.default_rng(5).multinomial(n, chances, size=200_000)[:, :2], axis=0, return_counts=True
    )
    z = score_z(tables[:, 0], tables[:, 1], n, -margin)
    seen = [times[i] for i in np.flatnonzero(z > 1) if exact_p_more_than(*map(int, tables[i]), n, -margin) <= ALPHA]
    assert sum(seen) / 200_000 == pytest.approx(found.chance, abs=4 * np.sqrt(0.05 * 0.95 / 200_000))


@pytest.mark.parametrize(
    ("kind", "share", "margin"), [("halves", 0.1, 0.025), ("wholes and halves", 0.1, 0.05), ("rare", 0.06, 0.05)]
)
def test_graded_scores_keep_the_error(kind: str, share: float, margin: float) -> None:
    found = graded_size(kind, share, 100, margin, margin, FEW)
    assert max(found.non_inferior, found.regressed) <= allowed(ALPHA, FEW)


@pytest.mark.slow
def test_bca_would_not_keep_that() -> None:
    assert graded_size("wholes and halves", 0.1, 50, 0.025, 0.025, FEW, bca=True).bca > allowed(ALPHA, FEW)  # type: ignore[operator]


def test_changes_are_what_they_are_called() -> None:
    for kind in ("halves", "wholes and halves", "rare"):
        chances = changes(kind, 0.12, 0.03)
        assert (chances >= 0).all()
        assert chances.sum() == pytest.approx(1)
        assert chances @ HALVES == pytest.approx(-0.03)
        assert 1 - chances[2] == pytest.approx(0.12)


def test_graded_p_is_the_programs_where_it_matters() -> None:
    """What is not asked, near the margin and far from it, is above or below every alpha in question."""
    generator = np.random.default_rng(2)
    for n, margin in ((50, 0.05), (100, 0.025), (900, 0.025)):
        for table in generator.multinomial(n, changes("wholes and halves", 0.1, 0.01), size=40):
            drawn = reweighted_mean(np.repeat(HALVES, table), 0)
            told = graded_p(tuple(table.tolist()), margin)
            for alpha in (0.05, 0.025):
                assert (told[0] <= alpha) == (drawn.p_above(-margin) <= alpha)
                assert (told[1] <= alpha / 6) == (drawn.p_below(-margin) <= alpha / 6)


@pytest.mark.sampled(2)
@pytest.mark.parametrize("cell", [PowerCell(0.05, 0.1, 0.05, 0.8), PowerCell(0.05, 0.05, 0.025, 0.96)], ids=str)
def test_planned_power_is_reached_and_not_far_exceeded(cell: PowerCell) -> None:
    n = items_needed(cell.margin, cell.share, power=cell.wanted, alpha=cell.alpha)
    reached = power(n, cell.margin, cell.share, cell.alpha)
    assert cell.wanted <= reached < cell.wanted + 0.07
    assert power_of(n, cell.margin, cell.share, alpha=cell.alpha) == pytest.approx(cell.wanted, abs=0.005)
    assert power(n // 2, cell.margin, cell.share, cell.alpha) < cell.wanted


@pytest.mark.parametrize(
    ("loss", "kept"),
    [
        (0.05, True),
        pytest.param(-0.01, True, marks=pytest.mark.slow),
        pytest.param(0.25, False, marks=pytest.mark.slow),
    ],
)
def test_the_items_that_a_hold_names_decide_as_often_as_it_says(loss: float, kept: bool) -> None:
    """Drawn as the difference that was seen, at the error of a test of a fixed size and of a gate that also looks on its way."""
    runs, margin, share, alpha = 200, 0.15, 0.28, 0.05
    n = items_that_decide(margin, share, -loss, 60, alpha=alpha * (1 - LOOKING))
    assert n is not None
    assert n > 60
    generator, once, looked = np.random.default_rng(11), 0, 0
    chances = [(share + loss) / 2, 1 - share, (share - loss) / 2]
    schedule = look_schedule(n)
    looks = Looks(schedule, fixed=len(schedule) - 1)
    for _ in range(runs):
        drawn = generator.choice([-1, 0, 1], p=chances, size=n)
        base, tuned = (drawn < 0).astype(float).tolist(), (drawn > 0).astype(float).tolist()
        wins, losses = int((drawn > 0).sum()), int((drawn < 0).sum())
        p = exact_p_more_than(wins, losses, n, -margin) if kept else exact_p_more_than(losses, wins, n, margin)
        at_end = p <= alpha * (1 - LOOKING)
        seen = p_by_looking(base, tuned, looks, margin=margin)
        once += at_end
        looked += at_end or (seen.kept if kept else seen.regressed)[-1] <= alpha
    error = 3 * np.sqrt(POWER * (1 - POWER) / runs)
    assert POWER - error <= once / runs <= POWER + error
    assert once <= looked <= runs * 0.92, "the looks add a little to it"


@pytest.mark.slow
def test_planned_power_is_reached_by_graded_scores() -> None:
    margin, share, runs = 0.05, 0.2, 400
    spread = float(changes("wholes and halves", share, 0.0) @ HALVES**2)
    n = items_needed(margin, spread, binary=False)
    found = graded_size("wholes and halves", share, n, 0.0, margin, runs, seed=3)
    assert 0.8 - 3 * np.sqrt(0.16 / runs) <= found.non_inferior < 0.9


@functools.cache
def small_gate(losses: str, alpha: float = ALPHA, at_most: int | None = None) -> Rates:
    """Wide margins, so that a gate of few items has its power."""
    asked = GATES[4][2:]
    wide = [type(one)(one.name, 0.1, 0.1) for one in asked]
    sizes = plan(wide, alpha, at_most)
    lost = [0.1 * (losses == "all" or (losses == "one" and number == 0)) for number in range(len(wide))]
    return gates(wide, sizes, lost, alpha=alpha, runs=FEW)


@pytest.mark.sampled(2)
@pytest.mark.parametrize("losses", ["all", "one"])
def test_a_gate_ships_a_loss_that_equals_the_margin_at_most_5_percent(losses: str) -> None:
    found = small_gate(losses)
    assert found.ship <= allowed(ALPHA, FEW)
    assert found.reject <= allowed(ALPHA, FEW)


def test_an_unchanged_model_ships_with_the_planned_power_and_is_not_rejected() -> None:
    found = small_gate("none")
    assert found.ship >= 0.8 - 3 * np.sqrt(0.16 / FEW)
    assert found.reject <= 0.01


@pytest.mark.slow
def test_a_small_gate_only_lacks_power() -> None:
    full, quick = small_gate("none"), small_gate("none", at_most=40)
    assert quick.ship < full.ship - 0.2
    assert quick.reject <= allowed(ALPHA, FEW)
    assert small_gate("all", at_most=40).ship <= allowed(ALPHA, FEW)


@pytest.mark.slow
def test_a_large_loss_is_rejected() -> None:
    """A gate that never rejects would keep the promise about rejecting."""
    asked = [type(one)(one.name, 0.05, 0.3) for one in GATES[4][2:]]
    assert gates(asked, [300, 300], [0.2, 0.0], alpha=ALPHA, runs=200).reject > 0.95


def test_rounded_p_values_give_the_verdicts_of_the_programs_own() -> None:
    """The tables of a gate, judged by `non_inferior`, say what the thresholds of the simulation say."""
    for b, c in ((2, 2), (0, 9), (1, 14), (3, 8), (0, 5)):
        base, tuned = [0.0] * b + [1.0] * (60 - b), [1.0] * b + [0.0] * c + [1.0] * (60 - b - c)
        told = non_inferior(base, tuned, margin=0.1, binary=True)
        assert (told.p <= ALPHA) == (float(score_z(b, c, 60, -0.1)) >= critical_z(60, -0.1, ALPHA))
        assert (told.p_regressed <= ALPHA) == (float(score_z(c, b, 60, 0.1)) >= critical_z(60, 0.1, ALPHA))


def test_lines_of_the_page_are_what_the_code_gives() -> None:
    assert size_row(SizeCell(0.03, 100)) in shown_rows("sizes"), "run python tests/gate_table.py"
    assert power_row(PowerCell(0.05, 0.1, 0.05, 0.8)) in shown_rows("powers"), "run python tests/gate_table.py"


@pytest.mark.parametrize("name", sorted(TABLES))
def test_the_page_has_a_line_for_every_cell(name: str) -> None:
    _, cells, _ = TABLES[name]
    assert len(cells) == len(shown_rows(name)), "run python tests/gate_table.py"


def share(text: str) -> float:
    return float(text.split(" ± ")[0])


def test_the_page_shows_the_promises_kept() -> None:
    """In percent: what is summed may not exceed 5 at all."""
    most = 100 * allowed(ALPHA, RUNS)
    assert all(max(share(row[2]), share(row[5])) <= 100 * ALPHA for row in shown_rows("sizes"))
    assert all(max(share(row[4]), share(row[5])) <= most for row in shown_rows("graded"))
    assert all(share(row[5]) >= share(row[3]) for row in shown_rows("powers"))
    for row in shown_rows("gates"):
        ship, reject, ship_in_two, reject_in_two = (share(row[column]) for column in (4, 6, 7, 8))
        assert max(reject, reject_in_two) <= most
        assert row[1] == "none" or max(ship, ship_in_two) <= most
        assert row[1] != "none" or " to " not in row[3] or ship >= 80
