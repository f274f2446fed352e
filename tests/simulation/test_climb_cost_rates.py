"""Simulated climbs with `goal: cost`: going on past a MET, and letting the cheapest win, errs no more than a climb may."""

from __future__ import annotations

import pytest

from bar_table import task_for
from lastresort.climb.decide import Cheapest, Conclusion, RungOutcome, conclude, next_rung
from lastresort.climb.loop import rules_of
from lastresort.records.events.run import ErrorShared
from lastresort.records.reasons import CostSaving, Stopped
from page_tables import allowed
from simulated_climb import Cell, alphas_of, tried_rungs

CLIMBS = 2_000
LADDER = ("prompting", "retrieval", "sft")


def conclusions(cell: Cell) -> list[Conclusion]:
    """So many climbs in which training would always pay, and a tuned system is always the cheapest."""
    rules = rules_of(task_for(len(LADDER), cell.bar, cell.confidence, cell.on_undecided), None)
    own = alphas_of(cell)
    tried = dict(zip(LADDER, tried_rungs(cell, CLIMBS, 0), strict=True))
    shared = ErrorShared(r=len(own), shares=dict(zip(LADDER, own, strict=True)))
    after = {led: shared.alpha_of_rung("sft", (led,), 1 - cell.confidence) for led in LADDER[:2]}
    handed_on = {led: tried_rungs(cell, CLIMBS, 0, [*own[:2], alpha])[2] for led, alpha in after.items()}
    found = []
    for climb in range(CLIMBS):
        outcomes: list[RungOutcome] = []
        while not isinstance(step := next_rung(rules, outcomes, saving_after(outcomes)), Stopped):
            rung = tried[step]
            if step == "sft" and saving_after(outcomes) is not None:
                rung = handed_on[outcomes[-1].rung]
            judgement = None if rung is None else rung.judgements[climb]
            outcomes.append(RungOutcome(step, judgement, "chosen", None if judgement else "it does not apply"))
        met = [outcome.rung for outcome in outcomes if outcome.judgement and outcome.judgement.outcome == "MET"]
        found.append(conclude(rules, outcomes, step, Cheapest(met[-1]) if len(met) > 1 else None))
    return found


def saving_after(outcomes: list[RungOutcome]) -> CostSaving | None:
    last = outcomes[-1] if outcomes else None
    if last is None or last.rung == "sft" or last.judgement is None or last.judgement.outcome != "MET":
        return None
    return CostSaving(last.rung, True)


@pytest.mark.sampled(3)
@pytest.mark.parametrize(
    ("rates", "may_err"),
    [
        ((0.9, None, 0.8), (0, 2)),  # a good prompt, and a tuned model no better than the bar, at the shares of both
        ((0.9, None, 0.75), (0, 2)),
        ((0.8, 0.8, 0.8), (0, 1, 2)),
        ((0.8, 0.95, 0.8), (0, 1, 2)),
    ],
)
def test_a_winner_below_the_bar_is_as_rare_as_promised(
    rates: tuple[float | None, ...], may_err: tuple[int, ...]
) -> None:
    cell = Cell(rates, n=300)
    truths = dict(zip(LADDER, rates, strict=True))
    wrong = sum(found.meets_bar and truths[str(found.winner)] <= cell.bar for found in conclusions(cell))
    assert wrong <= CLIMBS * allowed(sum(alphas_of(cell)[rung] for rung in may_err), CLIMBS)


def test_a_good_tuned_model_wins_and_a_bad_one_does_not_take_the_prompts_place() -> None:
    good, bad = conclusions(Cell((0.95, None, 0.95), n=300)), conclusions(Cell((0.95, None, 0.5), n=300))
    assert sum(found.winner == found.stopped_at == "sft" for found in good) > 0.98 * CLIMBS
    assert sum(found.winner == found.stopped_at == "prompting" for found in bad) > 0.98 * CLIMBS
    assert all(found.verdict == "MET" for found in bad if found.winner is not None)
