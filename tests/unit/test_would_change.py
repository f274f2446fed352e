"""What would change the answer, worked out from verdicts and intervals alone."""

from __future__ import annotations

from dataclasses import replace

from climb_support import statement
from lastresort.climb.decide import Gating, Rules, RungOutcome, conclude
from lastresort.climb.reasons import would_change
from lastresort.records.gate_cause import AbilityLost, GateCause, GateItems
from lastresort.report.words.answer import of_change
from lastresort.types import Judgement, Outcome

RULES = Rules(("prompting", "retrieval", "sft"), bar=0.7)


def judged(rung: str, verdict: Outcome, low: float, high: float, n_needed: int | None = None) -> RungOutcome:
    return RungOutcome(rung, Judgement(verdict, (low + high) / 2, 40, 300, (low, high), n_needed), f"{rung}-system")


def said(*outcomes: RungOutcome, rules: Rules = RULES, knowledge: bool = False) -> str:
    return "\n".join(
        of_change(change).text
        for change in would_change(rules, outcomes, conclude(rules, outcomes), knowledge=knowledge)
    )


def test_a_tuned_winner_hangs_on_the_bar_on_both_sides_and_on_newer_models() -> None:
    found = said(
        judged("prompting", "NOT_MET", 0.04, 0.65),
        RungOutcome("retrieval", skipped=statement("no knowledge")),
        judged("sft", "MET", 0.75, 0.99),
    )
    assert (
        "A bar below 70%: up to 65%, the test does not rule out that prompting is enough, but does not show it either."
        in found
    )
    assert "A bar above 75%: the evidence does not show that SFT would still meet it." in found
    assert "Retrieval, if it became possible. It is skipped: no knowledge." in found
    assert "recheck RUN --model NEW" in found
    assert "Changed documents" not in found


def test_the_highest_of_the_failed_rungs_is_named() -> None:
    found = said(
        judged("prompting", "NOT_MET", 0.1, 0.3),
        judged("retrieval", "NOT_MET", 0.2, 0.6),
        judged("sft", "MET", 0.8, 0.9),
    )
    assert "A bar below 70%: up to 60%, the test does not rule out that retrieval" in found
    assert "70%: prompting" not in found


def test_a_winner_whose_interval_reaches_the_bar_is_not_said_to_meet_a_higher_one() -> None:
    assert "A bar above 70%: the evidence does not show" in said(judged("prompting", "MET", 0.69, 0.9))


def test_an_untuned_winner_has_no_use_for_a_newer_model_but_for_the_state_of_its_documents() -> None:
    found = said(judged("prompting", "NOT_MET", 0.1, 0.3), judged("retrieval", "MET", 0.8, 0.9), knowledge=True)
    assert "--model" not in found
    assert "Changed documents" in found


def test_what_is_open_says_how_many_items_would_settle_it() -> None:
    found = said(judged("prompting", "UNDECIDED", 0.6, 0.9, n_needed=540))
    assert found.startswith(
        "About 540 test items instead of 300: with 80% probability if the score seen is the true one, they would settle "
        "whether prompting meets the bar."
    )


def test_an_unknown_number_of_items_is_not_made_up() -> None:
    assert "would settle" not in said(judged("prompting", "UNDECIDED", 0.6, 0.9))


def test_where_nothing_meets_the_bar_the_untried_rungs_are_named() -> None:
    found = said(judged("prompting", "NOT_MET", 0.1, 0.3), rules=Rules(RULES.ladder, 0.7, until="prompting"))
    assert "Rungs not tried: retrieval, sft." in found
    assert "Rungs left out of the task's `ladder`: preference, full." in found


def test_prompting_that_the_ladder_leaves_out_is_named_once_whatever_won() -> None:
    rules, left_out = (
        Rules(("sft",), 0.7),
        "Prompting alone, if it meets the bar with this model. The task's `ladder` leaves it out.",
    )
    assert left_out in said(judged("sft", "MET", 0.75, 0.99), rules=rules)
    none_won = said(judged("sft", "NOT_MET", 0.1, 0.3), rules=rules)
    assert left_out in none_won
    assert "Rungs left out of the task's `ladder`: retrieval, preference, full." in none_won
    assert left_out not in said(judged("prompting", "NOT_MET", 0.1, 0.3))


def test_an_untried_rung_that_does_not_apply_says_why() -> None:
    rules, outcomes = Rules(RULES.ladder, 0.7, until="prompting"), [judged("prompting", "NOT_MET", 0.1, 0.3)]
    few = {"sft": statement("16 training rows, expected at least 50")}
    conclusion = conclude(rules, outcomes)
    changes = would_change(rules, outcomes, conclusion, knowledge=False, inapplicable=few)
    found = [of_change(change).text for change in changes]
    assert "SFT, if it became possible. It is skipped: 16 training rows, expected at least 50." in found
    assert "Rungs not tried: retrieval." in found


def test_what_the_gate_keeps_back_says_what_would_let_it_ship() -> None:
    low, high = judged("prompting", "NOT_MET", 0.04, 0.65), judged("sft", "MET", 0.75, 0.99)
    held = replace(
        high,
        gate=Gating(
            "HOLD", GateCause(underpowered=("general",)), (GateItems("general", 160, 900, "item", -0.01, None),)
        ),
    )
    assert "general: about 900 items would decide" in said(low, held)
    rejected = said(low, replace(high, gate=Gating("REJECT", GateCause(lost=(AbilityLost("general", 0.08, 0.03),)))))
    assert "SFT that loses less: a lower adapter scale" in rejected
    assert "loses less" not in said(low, held)
    assert "would decide" not in said(low, replace(high, gate=Gating("SHIP", GateCause())))
