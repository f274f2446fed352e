"""The pure decision: which rung next, when to stop, what to say."""

from __future__ import annotations

from dataclasses import replace
from itertools import product

import pytest

from climb_support import statement
from lastresort.climb.decide import Cheapest, Gating, Rules, RungOutcome, conclude, may_ship, next_rung
from lastresort.records.gate_cause import AbilityLost, GateCause, GateItems
from lastresort.records.reasons import (
    BarMet,
    CheapestOfSeveral,
    CostSaving,
    GateDecided,
    GateRejected,
    Leads,
    NoneMet,
    NotFinished,
    NothingApplies,
    PromptingLeftOut,
    RungResult,
    RungSkip,
    StillOpen,
    Stopped,
)
from lastresort.types import Judgement, Outcome

LADDER = ("prompting", "retrieval", "sft")
RULES = Rules(LADDER, bar=0.8)


def judged(rung: str, verdict: Outcome, score: float, n_needed: int | None = None) -> RungOutcome:
    found = Judgement(verdict, score, 40, 300, (score - 0.1, min(1.0, score + 0.1)), n_needed)
    return RungOutcome(rung, found, f"{rung}-system")


def skipped(rung: str, why: str = "no knowledge") -> RungOutcome:
    return RungOutcome(rung, skipped=statement(why))


def test_starts_at_the_cheapest_rung() -> None:
    assert next_rung(RULES, []) == "prompting"


def test_goes_up_only_after_a_failure() -> None:
    assert next_rung(RULES, [judged("prompting", "NOT_MET", 0.2)]) == "retrieval"
    assert isinstance(next_rung(RULES, [judged("prompting", "MET", 0.9)]), Stopped)


def test_a_skipped_rung_is_passed_over() -> None:
    assert next_rung(RULES, [judged("prompting", "NOT_MET", 0.2), skipped("retrieval")]) == "sft"


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
    step = next_rung(rules, [judged("prompting", "UNDECIDED", score)])
    assert (None if isinstance(step, Stopped) else step) == goes_to


def test_until_stops_after_that_rung_even_when_it_was_skipped() -> None:
    rules = Rules(LADDER, 0.8, until="retrieval")
    assert next_rung(rules, [judged("prompting", "NOT_MET", 0.1)]) == "retrieval"
    assert isinstance(next_rung(rules, [judged("prompting", "NOT_MET", 0.1), skipped("retrieval")]), Stopped)


def test_met_at_prompting_says_no_and_why() -> None:
    found = conclude(RULES, [judged("prompting", "MET", 0.97)])
    assert (found.verdict, found.stopped_at, found.winner, found.meets_bar, found.provisional) == (
        "MET",
        "prompting",
        "prompting",
        True,
        False,
    )
    assert found.answer == BarMet("prompting", 0.97, 0.8, tuned=False)


def test_met_at_sft_says_yes_and_what_the_cheaper_rungs_reached() -> None:
    low, high = judged("prompting", "NOT_MET", 0.16), judged("sft", "MET", 0.91)
    found = conclude(RULES, [low, skipped("retrieval"), high], Stopped("MET", "sft"))
    assert (found.verdict, found.stopped_at, found.winner) == ("MET", "sft", "sft")
    assert found.answer == BarMet("sft", 0.91, 0.8, tuned=True, ungated=True)
    assert low.judgement is not None
    assert high.judgement is not None
    assert found.reasons == (
        RungResult("prompting", "prompting-system", low.judgement, 0.8),
        RungSkip("retrieval", statement("no knowledge")),
        RungResult("sft", "sft-system", high.judgement, 0.8),
        Stopped("MET", "sft"),
    )


def test_all_not_met_names_the_best_and_no_winner() -> None:
    found = conclude(RULES, [judged("prompting", "NOT_MET", 0.3), skipped("retrieval"), judged("sft", "NOT_MET", 0.5)])
    assert (found.verdict, found.stopped_at, found.winner, found.best) == ("NOT_MET", None, None, "sft")
    assert found.answer == NoneMet("sft", 0.5, 0.8)


def test_a_climb_that_was_limited_names_what_is_left() -> None:
    rules = replace(RULES, until="prompting")
    found = conclude(rules, [judged("prompting", "NOT_MET", 0.3)])
    assert found.answer == NotFinished("prompting", 0.3, 0.8, ("retrieval", "sft"))


def test_undecided_above_the_bar_leads_provisionally_and_says_what_would_settle_it() -> None:
    found = conclude(RULES, [judged("prompting", "UNDECIDED", 0.84, n_needed=900)])
    assert (found.verdict, found.stopped_at, found.winner, found.meets_bar, found.provisional) == (
        "UNDECIDED",
        "prompting",
        "prompting",
        False,
        True,
    )
    assert found.answer == Leads("prompting", 0.84, 0.8, tuned=False)


def test_collect_names_no_winner() -> None:
    rules = Rules(LADDER, 0.8, "collect")
    found = conclude(rules, [judged("prompting", "UNDECIDED", 0.84, n_needed=900)])
    assert (found.verdict, found.winner, found.stopped_at) == ("UNDECIDED", None, "prompting")
    assert found.answer == Leads("prompting", 0.84, 0.8, tuned=False)


def test_collect_below_the_bar_says_how_many_items_are_missing() -> None:
    found = conclude(Rules(LADDER, 0.8, "collect"), [judged("prompting", "UNDECIDED", 0.74, n_needed=900)])
    assert (found.winner, found.answer) == (None, StillOpen("prompting", 0.74, 0.8, 900, "item"))


def test_an_undecided_end_below_the_bar_names_who_is_ahead_and_is_no_provisional_win() -> None:
    """The open rung is not the best so far: whoever reads that it may be fine-tuned reads that, too."""
    low = judged("prompting", "UNDECIDED", 0.789)
    for score, ahead in ((0.737, "prompting"), (0.789, "prompting"), (0.795, None)):
        found = conclude(RULES, [low, skipped("retrieval"), judged("sft", "UNDECIDED", score)])
        assert (found.verdict, found.winner, found.provisional) == ("UNDECIDED", None, False)
        expected = StillOpen("sft", score, 0.8, None, "item", None, ahead, 0.789 if ahead else 0.0)
        assert found.answer == expected


def test_no_rung_that_misses_the_bar_is_ahead_of_an_open_one() -> None:
    """With graded scores a higher one can be shown to miss the bar, as it varies less. It is not too close to the bar."""
    missed_below = [judged("prompting", "NOT_MET", 0.79), skipped("retrieval"), judged("sft", "UNDECIDED", 0.76)]
    assert conclude(RULES, missed_below).answer == StillOpen("sft", 0.76, 0.8, None, "item")
    missed_above = [judged("prompting", "UNDECIDED", 0.76), skipped("retrieval"), judged("sft", "NOT_MET", 0.79)]
    assert conclude(RULES, missed_above).answer == StillOpen("prompting", 0.76, 0.8, None, "item")


def test_a_met_after_an_undecided_stays_provisional() -> None:
    found = conclude(RULES, [judged("prompting", "UNDECIDED", 0.7), skipped("retrieval"), judged("sft", "MET", 0.95)])
    assert (found.verdict, found.provisional, found.winner) == ("MET", True, "sft")


def test_a_ladder_without_prompting_says_first_that_a_cheaper_system_was_not_tested() -> None:
    for ladder in (("sft",), ("preference", "full"), ("retrieval", "sft")):
        assert conclude(Rules(ladder, 0.8), [judged(ladder[0], "MET", 0.9)]).reasons[0] == PromptingLeftOut()
    assert PromptingLeftOut() not in conclude(RULES, [skipped("prompting"), judged("sft", "MET", 0.9)]).reasons


def test_nothing_applies() -> None:
    found = conclude(Rules(("retrieval",), 0.8), [skipped("retrieval")])
    assert (found.verdict, found.winner) == ("UNDECIDED", None)
    assert found.answer == NothingApplies()


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
            while not isinstance(step := next_rung(rules, outcomes), Stopped):
                verdict, score = path[LADDER.index(step)]
                outcomes.append(skipped(step) if verdict is None else judged(step, verdict, score))
                assert len(outcomes) <= 3
            found = conclude(rules, outcomes, step)
            assert found.meets_bar == (found.verdict == "MET")
            if found.winner is not None:
                assert found.winner == found.stopped_at == outcomes[-1].rung
            if found.verdict == "NOT_MET":
                assert found.stopped_at is None
            assert found.reasons[-1] == step


def test_a_met_above_an_undecided_rung_is_provisional_and_a_no_stays_a_no() -> None:
    below = judged("prompting", "UNDECIDED", 0.7, n_needed=900)
    found = conclude(RULES, [below, judged("retrieval", "NOT_MET", 0.4), judged("sft", "MET", 0.95)])
    assert found.answer == BarMet("sft", 0.95, 0.8, tuned=True, provisional=True, ungated=True)
    untuned = conclude(RULES, [below, judged("retrieval", "MET", 0.85)])
    assert untuned.answer == BarMet("retrieval", 0.85, 0.8, tuned=False, provisional=True)


def test_the_last_of_several_undecided_rungs_leads() -> None:
    outcomes = [judged("prompting", "UNDECIDED", 0.7, 900), skipped("retrieval"), judged("sft", "UNDECIDED", 0.82, 400)]
    assert conclude(RULES, outcomes).answer == Leads("sft", 0.82, 0.8, tuned=True, ungated=True)


TALL = Rules(("prompting", "sft", "preference"), bar=0.8)
SHIP = Gating("SHIP", GateCause(passed=True))
HOLD = Gating(
    "HOLD", GateCause(underpowered=("general",), passed=True), (GateItems("general", 160, 900, "item", -0.01, None),)
)
REJECT = Gating("REJECT", GateCause(lost=(AbilityLost("general", 0.081, 0.03),), passed=True))
LOW = judged("prompting", "NOT_MET", 0.3)


def gated(rung: str, verdict: Outcome, score: float, gate: Gating) -> RungOutcome:
    return replace(judged(rung, verdict, score), gate=gate)


def test_what_ships_is_answered_as_without_a_gate_but_that_one_ran_and_the_reasons_say_so() -> None:
    plain, shipped = ([LOW, judged("sft", "MET", 0.9)], [LOW, gated("sft", "MET", 0.9, SHIP)])
    assert next_rung(TALL, shipped) == next_rung(TALL, plain)
    why = Stopped("MET", "sft")
    found, before = conclude(TALL, shipped, why), conclude(TALL, plain, why)
    gate = GateDecided("sft", "SHIP", SHIP.cause)
    assert found.reasons == (*before.reasons[:2], gate, why)
    assert isinstance(before.answer, BarMet)
    assert before.answer.ungated
    assert replace(found, reasons=()) == replace(before, reasons=(), answer=replace(before.answer, ungated=False))


def test_a_held_winner_stands_and_the_answer_says_what_holds_it() -> None:
    outcomes = [LOW, gated("sft", "MET", 0.9, HOLD)]
    assert isinstance(next_rung(TALL, outcomes), Stopped)
    found = conclude(TALL, outcomes)
    assert (found.winner, found.stopped_at, found.held, found.meets_bar, found.verdict) == (
        "sft",
        "sft",
        True,
        True,
        "MET",
    )
    assert found.answer == BarMet("sft", 0.9, 0.8, tuned=True, held=True)
    assert found.reasons[-1] == GateDecided("sft", "HOLD", HOLD.cause)


def test_a_held_leader_is_held() -> None:
    found = conclude(TALL, [LOW, gated("sft", "UNDECIDED", 0.85, HOLD)])
    assert (found.winner, found.held, found.verdict, found.provisional) == ("sft", True, "UNDECIDED", True)
    assert found.answer == Leads("sft", 0.85, 0.8, tuned=True, held=True)


@pytest.mark.parametrize(("verdict", "score"), [("MET", 0.9), ("UNDECIDED", 0.85)])
def test_a_rejected_rung_counts_as_tried_and_the_climb_goes_up(verdict: Outcome, score: float) -> None:
    assert next_rung(TALL, [LOW, gated("sft", verdict, score, REJECT)]) == "preference"


def test_a_climb_that_was_told_to_stop_there_goes_no_further_after_a_rejection() -> None:
    rules = replace(TALL, until="sft")
    outcomes = [LOW, gated("sft", "MET", 0.9, REJECT)]
    assert next_rung(rules, outcomes) == Stopped("UNTIL", "sft")
    assert conclude(rules, outcomes).answer == GateRejected(("sft",), 0.8, "prompting", 0.3)


def test_after_a_rejection_the_next_rung_may_win() -> None:
    outcomes = [LOW, gated("sft", "MET", 0.91, REJECT), gated("preference", "MET", 0.9, SHIP)]
    found = conclude(TALL, outcomes)
    assert (found.winner, found.meets_bar, found.held) == ("preference", True, False)
    assert found.answer == BarMet("preference", 0.9, 0.8, tuned=True)
    assert GateDecided("sft", "REJECT", REJECT.cause) in found.reasons


def test_where_all_that_meets_the_bar_is_rejected_the_best_untuned_system_wins_and_does_not_meet_it() -> None:
    ladder = Rules(("prompting", "retrieval", "sft", "preference"), 0.8)
    outcomes = [
        judged("prompting", "NOT_MET", 0.5),
        judged("retrieval", "NOT_MET", 0.4),
        gated("sft", "MET", 0.9, REJECT),
        judged("preference", "NOT_MET", 0.6),
    ]
    assert isinstance(next_rung(ladder, outcomes), Stopped)
    found = conclude(ladder, outcomes, Stopped("TOP", "preference"))
    assert (found.winner, found.stopped_at, found.best) == ("prompting", "prompting", "sft")
    assert (found.verdict, found.meets_bar, found.held) == ("MET", False, False)
    assert found.answer == GateRejected(("sft",), 0.8, "prompting", 0.5)


def test_without_an_untuned_system_a_rejection_leaves_no_winner() -> None:
    rules = Rules(("sft",), 0.8)
    found = conclude(rules, [gated("sft", "MET", 0.9, REJECT)])
    assert (found.winner, found.stopped_at, found.verdict, found.meets_bar) == (None, None, "MET", False)
    assert found.answer == GateRejected(("sft",), 0.8, None, 0.0)


def test_collecting_more_examples_names_no_winner_after_a_rejection() -> None:
    rules = Rules(("prompting", "sft", "preference"), 0.8, "collect")
    outcomes = [LOW, gated("sft", "MET", 0.9, REJECT), judged("preference", "UNDECIDED", 0.85, 700)]
    assert isinstance(next_rung(rules, outcomes), Stopped)
    found = conclude(rules, outcomes)
    assert (found.winner, found.stopped_at) == (None, "preference")
    assert found.answer == Leads("preference", 0.85, 0.8, tuned=True)


@pytest.mark.parametrize("gate", [HOLD, REJECT])
def test_to_save_money_only_what_may_ship_wins(gate: Gating) -> None:
    """`goal: cost`: prompting meets the bar, and sft was tried for its cheaper calls."""
    outcomes = [judged("prompting", "MET", 0.85), gated("sft", "MET", 0.9, gate)]
    assert may_ship(outcomes) == {"prompting"}
    assert isinstance(next_rung(TALL, outcomes), Stopped)
    found = conclude(TALL, outcomes)
    assert (found.winner, found.meets_bar, found.held) == ("prompting", True, False)
    assert found.answer == BarMet("prompting", 0.85, 0.8, tuned=False)
    assert GateDecided("sft", gate.verdict, gate.cause) in found.reasons
    shipped = [judged("prompting", "MET", 0.85), gated("sft", "MET", 0.9, SHIP)]
    assert may_ship(shipped) == {"prompting", "sft"}
    saved = conclude(TALL, shipped, None, Cheapest("sft"))
    assert saved.winner == "sft"
    assert saved.answer == CheapestOfSeveral("prompting", "sft", last_wins=True, comparable=True, bar=0.8)


def test_where_training_would_save_nothing_the_climb_stops_for_that_reason() -> None:
    met = [judged("prompting", "MET", 0.85)]
    assert next_rung(TALL, met, CostSaving("prompting", False)) == Stopped("NO_SAVING", "prompting")
    assert next_rung(TALL, met, CostSaving("prompting", True)) == "sft"


def test_every_path_with_a_gate_ends_and_a_rejected_system_never_wins() -> None:
    kinds: list[tuple[Outcome, float]] = [("MET", 0.9), ("NOT_MET", 0.3), ("UNDECIDED", 0.7), ("UNDECIDED", 0.85)]
    for path in product(kinds, repeat=3):
        for gates in product((SHIP, HOLD, REJECT), repeat=2):
            outcomes: list[RungOutcome] = []
            while True:
                step = next_rung(TALL, outcomes)
                if not isinstance(step, Stopped):
                    verdict, score = path[TALL.ladder.index(step)]
                    outcomes.append(judged(step, verdict, score))
                    continue
                winner = conclude(TALL, outcomes, step).winner
                place = TALL.ladder.index(winner) if winner else 0
                if place == 0 or outcomes[place].gate is not None:
                    break
                outcomes[place] = replace(outcomes[place], gate=gates[place - 1])
            found = conclude(TALL, outcomes, step)
            won = next((outcome for outcome in outcomes if outcome.rung == found.winner), None)
            assert won is None or not won.rejected
            assert found.held == (won is not None and won.held)
            assert not found.meets_bar or (won is not None and won.verdict == "MET")
            assert found.stopped_at in (None, found.winner)
