"""The pure decision: which rung next, when to stop, what to say."""

from __future__ import annotations

from dataclasses import replace
from itertools import product

import pytest

from lastresort.climb.decide import Cheapest, Gating, Rules, RungOutcome, conclude, may_ship, next_step
from lastresort.types import Judgement, Outcome

LADDER = ("prompting", "retrieval", "sft")
RULES = Rules(LADDER, bar=0.8)


def judged(rung: str, verdict: Outcome, score: float, n_needed: int | None = None) -> RungOutcome:
    found = Judgement(verdict, score, 40, 300, (score - 0.1, min(1.0, score + 0.1)), n_needed)
    return RungOutcome(rung, found, f"{rung}-system")


def skipped(rung: str, why: str = "no knowledge") -> RungOutcome:
    return RungOutcome(rung, skipped=why)


def test_starts_at_the_cheapest_rung() -> None:
    assert next_step(RULES, []).rung == "prompting"


def test_goes_up_only_after_a_failure() -> None:
    assert next_step(RULES, [judged("prompting", "NOT_MET", 0.2)]).rung == "retrieval"
    assert next_step(RULES, [judged("prompting", "MET", 0.9)]).rung is None


def test_a_skipped_rung_is_passed_over() -> None:
    assert next_step(RULES, [judged("prompting", "NOT_MET", 0.2), skipped("retrieval")]).rung == "sft"


@pytest.mark.parametrize(
    ("on_undecided", "score", "goes_to"),
    [
        ("lead", 0.75, "retrieval"),
        ("lead", 0.80, None),
        ("lead", 0.85, None),
        ("collect", 0.75, None),
        ("collect", 0.85, None),
    ],
)
def test_undecided_follows_its_estimate_or_stops(on_undecided: str, score: float, goes_to: str | None) -> None:
    rules = Rules(LADDER, 0.8, on_undecided)  # type: ignore[arg-type]
    assert next_step(rules, [judged("prompting", "UNDECIDED", score)]).rung == goes_to


def test_until_stops_after_that_rung_even_when_it_was_skipped() -> None:
    rules = Rules(LADDER, 0.8, until="retrieval")
    assert next_step(rules, [judged("prompting", "NOT_MET", 0.1)]).rung == "retrieval"
    assert next_step(rules, [judged("prompting", "NOT_MET", 0.1), skipped("retrieval")]).rung is None


def test_met_at_prompting_says_no_and_why() -> None:
    found = conclude(RULES, [judged("prompting", "MET", 0.97)], "")
    assert (found.verdict, found.stopped_at, found.winner, found.meets_bar, found.provisional) == (
        "MET",
        "prompting",
        "prompting",
        True,
        False,
    )
    assert found.answer.startswith("No: prompting meets the bar of 80 %")
    assert "only a margin" in found.answer
    assert "only a margin" not in conclude(RULES, [judged("prompting", "MET", 0.85)], "").answer


def test_met_at_sft_says_yes_and_what_the_cheaper_rungs_reached() -> None:
    found = conclude(
        RULES, [judged("prompting", "NOT_MET", 0.16), skipped("retrieval"), judged("sft", "MET", 0.91)], ""
    )
    assert (found.verdict, found.stopped_at, found.winner) == ("MET", "sft", "sft")
    assert found.answer.startswith("Yes: sft meets the bar of 80 % with 91 %")
    assert "prompting stayed at 16 %" in found.answer
    assert any("skipped, no knowledge" in reason for reason in found.reasons)


def test_all_not_met_names_the_best_and_no_winner() -> None:
    found = conclude(
        RULES, [judged("prompting", "NOT_MET", 0.3), skipped("retrieval"), judged("sft", "NOT_MET", 0.5)], ""
    )
    assert (found.verdict, found.stopped_at, found.winner, found.best) == ("NOT_MET", None, None, "sft")
    assert "the best was sft (sft-system) with 50 %" in found.answer


def test_undecided_above_the_bar_leads_provisionally_and_says_what_would_settle_it() -> None:
    found = conclude(RULES, [judged("prompting", "UNDECIDED", 0.84, n_needed=900)], "")
    assert (found.verdict, found.stopped_at, found.winner, found.meets_bar, found.provisional) == (
        "UNDECIDED",
        "prompting",
        "prompting",
        False,
        True,
    )
    assert "900 test items would settle it" in found.answer


def test_collect_names_no_winner() -> None:
    rules = Rules(LADDER, 0.8, "collect")
    found = conclude(rules, [judged("prompting", "UNDECIDED", 0.84, n_needed=900)], "")
    assert (found.verdict, found.winner, found.stopped_at) == ("UNDECIDED", None, "prompting")


def test_a_met_after_an_undecided_stays_provisional() -> None:
    found = conclude(
        RULES, [judged("prompting", "UNDECIDED", 0.7), skipped("retrieval"), judged("sft", "MET", 0.95)], ""
    )
    assert (found.verdict, found.provisional, found.winner) == ("MET", True, "sft")


def test_nothing_applies() -> None:
    found = conclude(Rules(("retrieval",), 0.8), [skipped("retrieval")], "")
    assert (found.verdict, found.winner) == ("UNDECIDED", None)
    assert "no rung of the ladder applies" in found.answer


def test_every_path_ends_and_is_consistent() -> None:
    """All outcomes of a three-rung ladder: the climb ends, and the winner is the rung it stopped at."""
    kinds: list[tuple[Outcome | None, float]] = [
        ("MET", 0.9),
        ("NOT_MET", 0.3),
        ("UNDECIDED", 0.7),
        ("UNDECIDED", 0.85),
        (None, 0.0),
    ]
    for on_undecided in ("lead", "collect"):
        rules = Rules(LADDER, 0.8, on_undecided)  # type: ignore[arg-type]
        for path in product(kinds, repeat=3):
            outcomes: list[RungOutcome] = []
            while (step := next_step(rules, outcomes)).rung is not None:
                verdict, score = path[LADDER.index(step.rung)]
                outcomes.append(skipped(step.rung) if verdict is None else judged(step.rung, verdict, score))
                assert len(outcomes) <= 3
            found = conclude(rules, outcomes, step.because)
            assert found.meets_bar == (found.verdict == "MET")
            if found.winner is not None:
                assert found.winner == found.stopped_at == outcomes[-1].rung
            if found.verdict == "NOT_MET":
                assert found.stopped_at is None
            assert found.answer.endswith(".")


def test_a_score_just_short_of_all_or_above_nothing_is_not_rounded_to_it() -> None:
    """As in the report: "100 %" where one of 2,000 answers is wrong would contradict the page beside it."""
    best = conclude(RULES, [judged("prompting", "MET", 0.9996)], "")
    assert "scored 99.9 %" in best.answer
    worst = conclude(RULES, [judged("prompting", "NOT_MET", 0.0004)], "")
    assert "stayed at 0.1 %" in worst.answer
    assert "\u00a0" not in best.answer


def test_an_undecided_rung_below_a_met_one_is_not_called_failed() -> None:
    below = judged("prompting", "UNDECIDED", 0.7, n_needed=900)
    found = conclude(RULES, [below, judged("retrieval", "NOT_MET", 0.4), judged("sft", "MET", 0.95)], "")
    assert found.answer == (
        "Provisionally yes: sft meets the bar of 80 % with 95 %, where retrieval stayed at 40 %; prompting is undecided "
        "at 70 % (about 900 test items would settle it)."
    )
    only = conclude(RULES, [below, skipped("retrieval"), judged("sft", "MET", 0.95)], "")
    assert "stayed" not in only.answer


def test_no_stays_no_where_a_cheaper_rung_is_undecided() -> None:
    """Whether prompting would do as well or not: tuning is not needed."""
    found = conclude(RULES, [judged("prompting", "UNDECIDED", 0.7), judged("retrieval", "MET", 0.85)], "")
    assert found.answer.startswith("No: retrieval meets the bar of 80 %")
    assert "prompting is undecided at 70 % (it lies too close to the bar to say how many items would" in found.answer


def test_a_leader_does_not_hide_the_open_rungs_below() -> None:
    outcomes = [judged("prompting", "UNDECIDED", 0.7, 900), skipped("retrieval"), judged("sft", "UNDECIDED", 0.82, 400)]
    found = conclude(RULES, outcomes, "")
    assert found.answer.startswith("Provisionally yes: sft scored 82 %")
    assert "about 400 test items would settle it" in found.answer
    assert "prompting is undecided at 70 % (about 900 test items would settle it)" in found.answer


def test_going_up_from_an_undecided_rung_does_not_claim_that_it_failed() -> None:
    step = next_step(RULES, [judged("prompting", "UNDECIDED", 0.7)])
    assert step.because == "the rung below is not shown to meet the bar"


TALL = Rules(("prompting", "sft", "preference"), bar=0.8)
SHIP = Gating("SHIP", "nothing that is required got worse")
HOLD = Gating(
    "HOLD", "whether too much was lost cannot be told yet for general", ("general: about 900 items would decide.",)
)
REJECT = Gating("REJECT", "general lost 8.1 points (accepted: 3 points)")
LOW = judged("prompting", "NOT_MET", 0.3)


def gated(rung: str, verdict: Outcome, score: float, gate: Gating) -> RungOutcome:
    return replace(judged(rung, verdict, score), gate=gate)


def test_what_ships_is_answered_as_without_a_gate_and_the_reasons_say_so() -> None:
    plain, shipped = ([LOW, judged("sft", "MET", 0.9)], [LOW, gated("sft", "MET", 0.9, SHIP)])
    assert next_step(TALL, shipped) == next_step(TALL, plain)
    found, before = conclude(TALL, shipped, "why"), conclude(TALL, plain, "why")
    said = "sft: the gate lets it ship: nothing that is required got worse."
    assert found.reasons == (*before.reasons[:2], said, "why")
    assert replace(found, reasons=()) == replace(before, reasons=())


def test_a_held_winner_stands_and_the_answer_says_what_holds_it() -> None:
    outcomes = [LOW, gated("sft", "MET", 0.9, HOLD)]
    assert next_step(TALL, outcomes).rung is None
    found = conclude(TALL, outcomes, "")
    assert (found.winner, found.stopped_at, found.held, found.meets_bar, found.verdict) == (
        "sft",
        "sft",
        True,
        True,
        "MET",
    )
    assert found.answer == (
        "Yes, but held: sft meets the bar of 80 % with 90 %, where prompting stayed at 30 %; the gate holds it: whether too much "
        "was lost cannot be told yet for general."
    )


def test_a_held_leader_is_held() -> None:
    found = conclude(TALL, [LOW, gated("sft", "UNDECIDED", 0.85, HOLD)], "")
    assert (found.winner, found.held, found.verdict, found.provisional) == ("sft", True, "UNDECIDED", True)
    assert found.answer.startswith("Provisionally yes, but held: sft scored 85 %")
    assert "the gate holds it: whether too much" in found.answer


@pytest.mark.parametrize(("verdict", "score"), [("MET", 0.9), ("UNDECIDED", 0.85)])
def test_a_rejected_rung_counts_as_tried_and_the_climb_goes_up(verdict: Outcome, score: float) -> None:
    step = next_step(TALL, [LOW, gated("sft", verdict, score, REJECT)])
    assert step.rung == "preference"
    assert step.because == "the gate rejected the rung below"


def test_a_climb_that_was_told_to_stop_there_goes_no_further_after_a_rejection() -> None:
    rules = replace(TALL, until="sft")
    outcomes = [LOW, gated("sft", "MET", 0.9, REJECT)]
    step = next_step(rules, outcomes)
    assert (step.rung, step.because) == (None, "The climb was told to go no further than sft.")
    assert "; preference was not tried; what remains is prompting" in conclude(rules, outcomes, step.because).answer


def test_after_a_rejection_the_next_rung_may_win() -> None:
    outcomes = [LOW, gated("sft", "MET", 0.91, REJECT), gated("preference", "MET", 0.9, SHIP)]
    found = conclude(TALL, outcomes, "")
    assert (found.winner, found.meets_bar, found.held) == ("preference", True, False)
    assert found.answer == (
        "Yes: preference meets the bar of 80 % with 90 %, where prompting stayed at 30 %; sft meets the bar of 80 % with 91 %, but "
        "the gate rejects it: general lost 8.1 points (accepted: 3 points)."
    )


def test_where_all_that_meets_the_bar_is_rejected_the_best_untuned_system_wins_and_does_not_meet_it() -> None:
    ladder = Rules(("prompting", "retrieval", "sft", "preference"), 0.8)
    outcomes = [
        judged("prompting", "NOT_MET", 0.5),
        judged("retrieval", "NOT_MET", 0.4),
        gated("sft", "MET", 0.9, REJECT),
        judged("preference", "NOT_MET", 0.6),
    ]
    assert next_step(ladder, outcomes).rung is None
    found = conclude(ladder, outcomes, "No rung is left.")
    assert (found.winner, found.stopped_at, found.best) == ("prompting", "prompting", "sft")
    assert (found.verdict, found.meets_bar, found.held) == ("MET", False, False)
    assert found.answer == (
        "No: sft meets the bar of 80 % with 90 %, but the gate rejects it: general lost 8.1 points (accepted: 3 points); "
        "preference stayed at 60 %; what remains is prompting (prompting-system) with 50 %, which stays below the bar."
    )


def test_without_an_untuned_system_a_rejection_leaves_no_winner() -> None:
    rules = Rules(("sft",), 0.8)
    found = conclude(rules, [gated("sft", "MET", 0.9, REJECT)], "No rung is left.")
    assert (found.winner, found.stopped_at, found.verdict, found.meets_bar) == (None, None, "MET", False)
    assert found.answer.endswith("; no untuned system was tested.")


def test_collecting_more_examples_names_no_winner_after_a_rejection() -> None:
    rules = Rules(("prompting", "sft", "preference"), 0.8, "collect")
    outcomes = [LOW, gated("sft", "MET", 0.9, REJECT), judged("preference", "UNDECIDED", 0.85, 700)]
    assert next_step(rules, outcomes).rung is None
    found = conclude(rules, outcomes, "")
    assert (found.winner, found.stopped_at) == (None, "preference")
    assert "sft meets the bar of 80 % with 90 %, but the gate rejects it" in found.answer


@pytest.mark.parametrize(("gate", "says"), [(HOLD, "holds"), (REJECT, "rejects")])
def test_to_save_money_only_what_may_ship_wins(gate: Gating, says: str) -> None:
    """`goal: cost`: prompting meets the bar, and sft was tried for its cheaper calls."""
    outcomes = [judged("prompting", "MET", 0.85), gated("sft", "MET", 0.9, gate)]
    assert may_ship(outcomes) == {"prompting"}
    assert next_step(TALL, outcomes).rung is None
    found = conclude(TALL, outcomes, "", None)
    assert (found.winner, found.meets_bar, found.held) == ("prompting", True, False)
    assert f"; sft meets the bar of 80 % with 90 %, but the gate {says} it: " in found.answer
    shipped = [judged("prompting", "MET", 0.85), gated("sft", "MET", 0.9, SHIP)]
    assert may_ship(shipped) == {"prompting", "sft"}
    assert conclude(TALL, shipped, "", Cheapest("sft", "calls cost less")).winner == "sft"


def test_every_path_with_a_gate_ends_and_a_rejected_system_never_wins() -> None:
    kinds = [("MET", 0.9), ("NOT_MET", 0.3), ("UNDECIDED", 0.7), ("UNDECIDED", 0.85)]
    for path in product(kinds, repeat=3):
        for gates in product((SHIP, HOLD, REJECT), repeat=2):
            outcomes: list[RungOutcome] = []
            while True:
                step = next_step(TALL, outcomes)
                if step.rung is not None:
                    verdict, score = path[TALL.ladder.index(step.rung)]
                    outcomes.append(judged(step.rung, verdict, score))  # type: ignore[arg-type]
                    continue
                winner = conclude(TALL, outcomes, step.because).winner
                place = TALL.ladder.index(winner) if winner else 0
                if place == 0 or outcomes[place].gate is not None:
                    break
                outcomes[place] = replace(outcomes[place], gate=gates[place - 1])
            found = conclude(TALL, outcomes, step.because)
            won = next((outcome for outcome in outcomes if outcome.rung == found.winner), None)
            assert won is None or not won.rejected
            assert found.held == (won is not None and won.held)
            assert not found.meets_bar or (won is not None and won.verdict == "MET")
            assert found.stopped_at in (None, found.winner)
            assert found.answer.endswith(".")
