"""With unequal shares, handed on after a MET, a climb with its repair ends wrongly MET no more often than promised.

Two rungs and a repair of the second, which is tested where the second would win. A climb errs where any test wrongly says MET, also
one that the repair then replaces.
"""

from __future__ import annotations

from functools import partial

import numpy as np
import pytest

from lastresort.climb.shares import error_shares
from lastresort.evals.evidence.bar import usable_share
from lastresort.ladder import RUNGS
from lastresort.types import Judgement
from page_tables import allowed
from simulated_climb import Cell, tried_rungs

CLIMBS, ALPHA = 4_000, 0.05


def judged(cell: Cell, alphas: list[float]) -> list[list[Judgement]]:
    return [rung.judgements for rung in tried_rungs(cell, CLIMBS, 0, alphas) if rung is not None]


def wrongly_met(cell: Cell, shares: dict[str, float], handed_on: float) -> int:
    """Climbs with a wrong MET. cell: a prompt, a tuned model and its repair. handed_on: what a MET of the tuned model hands on."""
    first, second, repair = shares.values()
    prompts, tuned, repairs = judged(cell, [first, second, repair])
    after_met = judged(cell, [first, second, repair + handed_on])[2]
    low = [rate is not None and rate <= cell.bar for rate in cell.rates]
    wrong = 0
    for climb in range(CLIMBS):
        if prompts[climb].outcome == "MET":
            wrong += low[0]
            continue
        if prompts[climb].outcome == "UNDECIDED" and prompts[climb].score >= cell.bar:
            continue
        met = tuned[climb].outcome == "MET"
        leads = tuned[climb].outcome == "UNDECIDED" and tuned[climb].score >= cell.bar
        again = (after_met if met else repairs)[climb].outcome == "MET"
        wrong += (met and low[1]) or ((met or leads) and again and low[2])
    return wrong


AT, GOOD = 0.8, 0.97
RATES = [(AT, AT, AT), (AT, GOOD, AT), (0.5, AT, AT), (0.5, GOOD, AT), (AT - 0.01, AT - 0.01, AT)]


@pytest.mark.parametrize("shared", [0.0, 0.7, 1.0])
@pytest.mark.parametrize("rates", RATES, ids=str)
def test_a_climb_with_a_repair_keeps_its_promise(rates: tuple[float, ...], shared: float) -> None:
    shares = error_shares(["prompting", "sft"], ALPHA)
    cell = Cell(rates, bar=AT, n=150, shared=shared)
    assert wrongly_met(cell, shares, handed_on=shares["sft"]) <= CLIMBS * allowed(ALPHA, CLIMBS)


def test_the_simulation_sees_what_was_never_there_to_be_handed_on() -> None:
    """A good tuned model hands on what it does not need; three times the error of the climb would be seen."""
    shares, cell = error_shares(["prompting", "sft"], ALPHA), Cell((0.5, GOOD, AT), bar=AT, n=150)
    kept, broken = (wrongly_met(cell, shares, handed_on) for handed_on in (shares["sft"], 3 * ALPHA))
    assert 0 < kept <= CLIMBS * allowed(ALPHA, CLIMBS) < broken


@pytest.mark.parametrize("bar", [0.6, 0.95])
@pytest.mark.parametrize("n", [100, 300])
def test_rungs_at_the_bar_are_wrongly_met_as_rarely_as_their_shares_say(bar: float, n: int) -> None:
    """Each by itself, and in a climb of five rungs with hard items of their own."""
    shares = error_shares(list(RUNGS), ALPHA, partial(usable_share, n=n, bar=bar))
    alphas = [shares[rung] for rung in RUNGS]
    tested = judged(Cell((bar,) * len(RUNGS), bar=bar, n=n, shared=0.0), alphas)
    met = np.array([[judgement.outcome == "MET" for judgement in rung] for rung in tested])
    for rung, alpha in zip(met, alphas, strict=True):
        assert rung.sum() <= CLIMBS * allowed(alpha, CLIMBS)
    assert met.any(axis=0).sum() <= CLIMBS * allowed(ALPHA, CLIMBS)
