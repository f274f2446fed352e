"""The test that drops candidates on dev keeps its error, and the rule that was taken does what its table says.

Tables: docs/simulations.md, by `scripts/races.py`.
"""

from __future__ import annotations

import numpy as np
import pytest
from scripts.races import (
    REFUSED,
    RULES,
    TAKEN,
    StayingOut,
    WithoutBar,
    after_refusal,
    not_best,
    raced,
    races_of,
)

from lastresort.evals.evidence.selection import evidence_not_best
from lastresort.rungs.race import NOT_BEST
from page_tables import allowed


def against(right: np.ndarray[tuple[int, ...], np.dtype[np.bool_]]) -> list[float]:
    scores = {str(number): row.astype(float).tolist() for number, row in enumerate(right)}
    return list(evidence_not_best(scores).values())


def test_the_simulation_weighs_as_the_race_does() -> None:
    right, _ = races_of(4, 60, 0.7, 0.5, np.array([0.0, 0.1, 0.1, 0.3]), 5, (1,))
    own = right.astype(float)
    wins, losses = np.einsum("rji,rci->rjc", own, 1 - own), np.einsum("rji,rci->rjc", 1 - own, own)
    assert not_best(wins, losses).tolist() == [pytest.approx(against(one)) for one in right]


@pytest.mark.parametrize("candidates", [2, 4, 8])
@pytest.mark.parametrize("alike", [0.0, 0.8])
def test_the_best_is_dropped_no_more_often_than_said_however_often_it_is_looked(candidates: int, alike: float) -> None:
    """All are equally good and independent or alike; a look after every eighth item."""
    races, n, error = 400, 120, 0.2
    right, _ = races_of(candidates, n, 0.7, alike, np.zeros(candidates), races, (2,))
    own, wrong = right.astype(float), (~right).astype(float)
    dropped = np.zeros(races, dtype=bool)
    for look in range(8, n + 1, 8):
        wins = np.einsum("rji,rci->rjc", own[:, :, :look], wrong[:, :, :look])
        losses = wins.transpose(0, 2, 1)
        dropped |= not_best(wins, losses)[:, 0] >= 1 / error
    assert dropped.mean() <= allowed(error, races)
    assert dropped.any()


def test_of_graded_scores_the_best_is_dropped_no_more_often_than_said() -> None:
    """Three candidates with scores in quarters, all equally good; a look after every 30 items."""
    generator, races, error, dropped = np.random.default_rng(5), 150, 0.2, 0
    for _ in range(races):
        scores = generator.binomial(4, generator.beta(2, 1, size=90), size=(3, 90)) / 4
        looked = [evidence_not_best({str(i): scores[i, :n].tolist() for i in range(3)})["0"] for n in (30, 60, 90)]
        dropped += max(looked) >= 1 / error
    assert dropped / races <= allowed(error, races)
    assert dropped


ALIKE = "two 60 ahead of eight alike"


@pytest.mark.sampled_slow(2)
@pytest.mark.slow
@pytest.mark.parametrize(("name", "look"), [("one 20 ahead, then two 5 and 10 behind", 2), (ALIKE, 1)])
def test_after_a_refusal_the_best_of_those_left_is_out_by_the_test_no_more_often_than_said(
    name: str, look: int
) -> None:
    """In whole races. Were all to stay out whom the refused ones dropped, the promise would be broken."""
    races = 200
    out, _ = after_refusal(WithoutBar, REFUSED[name], look, races)
    assert out <= allowed(NOT_BEST, races)
    if name == ALIKE:
        staying, _ = after_refusal(StayingOut, REFUSED[name], look, races)
        assert staying > allowed(NOT_BEST, races)
        assert out < staying / 4


@pytest.mark.parametrize(("candidates", "share"), [(2, 0.55), (3, 0.77), (4, 0.86), (8, 0.97)])
def test_the_rule_asks_fewer_items_than_halving_and_chooses_as_well(candidates: int, share: float) -> None:
    """The best is ten points ahead, 200 items: with many rivals it takes more to show that one of the last two is worse."""
    below = np.array([0.0, *[0.1] * (candidates - 1)])
    right, rates = races_of(candidates, 200, 0.7, 0.5, below, 1_500, (3,))
    halved, found = raced(right, rates, RULES["halving"]), raced(right, rates, RULES[TAKEN])
    assert found.items.mean() < share * halved.items.mean()
    assert found.loss.mean() <= halved.loss.mean() + 0.003
