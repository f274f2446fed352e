"""Two gates with a choice among repairs between them err no more often than is promised."""

from __future__ import annotations

import pytest

from gate_simulation import GENERAL, gate_verdicts, plan
from lastresort.gate.verdict.decide import CLIMB_ALPHA
from repair_simulation import climbs

RUNS = 4_000
ERROR = 4 * (0.025 * 0.975 / RUNS) ** 0.5  # four standard errors of a share of 2.5%


def test_an_unchanged_model_is_rejected_at_most_at_the_error_of_both() -> None:
    found = climbs(0.0, [0.0] * 3, runs=RUNS)
    assert found.rejected <= 0.05
    assert found.shipped > 0.5  # what is asked decides


@pytest.mark.slow
@pytest.mark.parametrize("k", [3, 7])
def test_the_best_of_k_repairs_that_are_all_spoiled_passes_the_second_gate_no_more_often_than_one(k: int) -> None:
    """The first is spoiled beyond doubt; every repair truly loses the margin, and some seem good on the separate draw."""
    found = climbs(0.1, [GENERAL.margin] * k, runs=RUNS, seed=10 * k)
    assert found.first == 0
    assert 1 - found.rejected > 0
    assert found.shipped <= CLIMB_ALPHA + ERROR


def test_over_both_gates_a_model_at_its_margin_passes_at_most_at_their_error_together() -> None:
    found = climbs(GENERAL.margin, [GENERAL.margin] * 7, runs=RUNS, seed=3)
    assert found.shipped <= 2 * CLIMB_ALPHA + ERROR


def test_a_repair_that_mends_ships_after_a_rejection() -> None:
    assert climbs(0.1, [0.06, 0.0, 0.0], runs=1_000).repaired > 0.4


@pytest.mark.release
def test_choosing_by_the_items_of_the_second_gate_would_err_far_more_often() -> None:
    """What the separate draw is for: any of seven that are all at their margin is lucky on some items."""
    sizes = plan((GENERAL,), CLIMB_ALPHA)
    seen = [
        gate_verdicts((GENERAL,), sizes, [GENERAL.margin], alpha=CLIMB_ALPHA, runs=1_000, seed=seed)
        for seed in range(7)
    ]
    assert all(verdicts.count("SHIP") / 1_000 <= CLIMB_ALPHA + 2 * ERROR for verdicts in seen)
    assert sum(any(verdicts[run] == "SHIP" for verdicts in seen) for run in range(1_000)) / 1_000 > 0.08
