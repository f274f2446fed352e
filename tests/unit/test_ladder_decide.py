"""The pure decision: which rung next, when to stop, what to say."""

from __future__ import annotations

from itertools import product

import pytest

from lastresort.ladder.decide import Rules, RungOutcome, conclude, next_step
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
