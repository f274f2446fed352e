"""Whether a gain is more than length."""

from __future__ import annotations

import pytest

from lastresort.records.events.training import AnswerLengths, Movement
from lastresort.records.record import ItemScore
from lastresort.report.words.training import of_length, of_movement, title
from lastresort.rungs.preference.drift import answer_lengths


def items(*told: tuple[int, float]) -> list[ItemScore]:
    return [
        ItemScore(str(number), score, "", "", "", "stop", None, 0, tokens, 0.0, 0.0)
        for number, (tokens, score) in enumerate(told)
    ]


def lengths(*values: float) -> AnswerLengths:
    return AnswerLengths(**dict(zip(AnswerLengths.model_fields, values, strict=True)))


def test_lengths_and_scores_before_and_after_and_where_nothing_grew() -> None:
    found = answer_lengths(items((10, 0.0), (10, 1.0), (20, 0.0)), items((30, 1.0), (10, 1.0), (8, 0.0)))
    assert found == lengths(40 / 3, 16.0, 1 / 3, 2 / 3, 2, 0.5, 0.5)


def test_the_order_of_items_plays_no_part() -> None:
    before, after = items((10, 0.0), (20, 1.0)), items((5, 1.0), (40, 0.0))
    assert answer_lengths(before, after[::-1]) == answer_lengths(before, after)


def test_other_items_are_refused() -> None:
    with pytest.raises(ValueError, match="same items"):
        answer_lengths(items((1, 1.0)), items((1, 1.0), (2, 1.0)))


def test_longer_answers_are_pointed_out_beside_the_gain() -> None:
    longer = lengths(10.0, 13.0, 0.5, 0.7, 12, 0.5, 0.525)
    told = of_length(longer)
    assert told.startswith(
        "Answers became 30% longer (10.0 tokens before, 13.0 after), and the score on dev went from 50%"
    )
    assert told.endswith("On the 12 items whose answers did not grow, it went from 50% to 52.5%.")
    assert "30" in title(longer)
    assert "cannot be separated from the length" in of_length(lengths(10.0, 13.0, 0.5, 0.7, 0, 0.0, 0.0))


def test_a_fifth_longer_is_not_yet_pointed_out() -> None:
    assert of_length(lengths(10.0, 12.0, 0.5, 0.7, 3, 0.5, 0.6)) == (
        "The mean answer has 10.0 tokens before, 12.0 after, and the score on dev went from 50% to 70%."
    )


def test_kl_says_how_it_was_computed_and_margins_of_what() -> None:
    kl = Movement(kl=1.25, kl_error=0.1, kl_per_token=0.05, kl_answers=64)
    margin = {"margin": 3.5, "margin_above_0": 0.9, "margin_n": 40, "margin_of": "pairs held out"}
    told = of_movement(kl.model_copy(update=margin))
    assert (
        "1.25 ± 0.1 nats per answer, 0.05 per token, exact at every token of 64 answers that the tuned model sampled"
        in told
    )
    assert "Reward margin 3.5 nats, above 0 for 90% of 40 pairs held out." in told
    assert "margin" not in of_movement(kl)


def test_shorter_answers_are_pointed_out_too() -> None:
    shorter = lengths(40.0, 20.0, 0.0, 0.7, 90, 0.0, 0.7)
    assert title(shorter) == "Preference training gained 70.0 points on dev, with answers 50% shorter"
    assert of_length(shorter) == (
        "Answers became 50% shorter (40.0 tokens before, 20.0 after), and the score on dev went from 0% to 70%."
    )


def test_a_fifth_shorter_is_of_about_the_same_length() -> None:
    assert title(lengths(10.0, 8.0, 0.5, 0.4, 5, 0.5, 0.4)).endswith(
        "lost 10.0 points on dev, with answers of about the same length"
    )


def test_log_odds_are_told_with_what_they_were_before() -> None:
    moved = Movement(
        kl=80.0,
        kl_error=None,
        kl_per_token=3.0,
        kl_answers=32,
        margin=1.25,
        margin_above_0=0.9375,
        margin_n=16,
        margin_of="pairs held out",
        margin_before=-0.5,
    )
    share = "above 0 for 93.8% of 16 pairs held out"
    assert of_movement(moved).endswith(
        f"Log odds of the better answers, per token: 1.25 above those of the worse (before -0.5), {share}."
    )
