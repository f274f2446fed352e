"""What a recheck answers, as pure functions: sentences, shares of the error, comparisons."""

from __future__ import annotations

from typing import Any

import pytest

from lastresort.after.recheck.finished import check_size, look_of
from lastresort.after.recheck.model import compare, overall, verdict_of
from lastresort.errors import DataError
from lastresort.evals.evidence.bar import judge_bar
from lastresort.records.measurement import BarTest, Cost
from lastresort.report.recheck import ComparedWithWinner, RunWinner, SystemTried
from lastresort.report.words import recheck as words
from lastresort.types import Judgement

BAR = 0.8


def judged(right: int, n: int) -> Judgement:
    """So many right, evenly spread."""
    scores = [float((i + 1) * right // n - i * right // n) for i in range(n)]
    found = judge_bar(scores, bar=BAR, alpha=0.0125, binary=True)
    assert found is not None
    return found


def tried(right: int, compared: ComparedWithWinner | None = None) -> SystemTried:
    cost = Cost(tokens_in=0, tokens_out=0, seconds=0.0, usd=0.0)
    keys: dict[str, Any] = {"prompt_tokens": 0.0, "cut": 0, "refused": 0, "cost": cost, "compared": compared}
    return SystemTried(rung="prompting", name="few-shot-5", test=BarTest.of(judged(right, 150)), **keys)


def winner(rung: str, name: str, right: int = 150) -> RunWinner:
    keys: dict[str, Any] = {"kind": "prompt", "recorded": 150, "answered_now": 0, "prompt_tokens": None}
    return RunWinner(rung=rung, name=name, test=BarTest.of(judged(right, 150)), **keys)


MET, NOT_MET, OPEN = tried(150), tried(75), tried(125)
TUNED, PROMPT = winner("sft", "lora-epoch3"), winner("prompting", "few-shot-5")


def answer(won: RunWinner | None, systems: list[SystemTried]) -> str:
    return words.model_answer("new", BAR, won, *overall(systems))


def reasons(won: RunWinner | None, systems: list[SystemTried]) -> list[str]:
    return words.model_reasons(BAR, won, systems)


def test_the_verdicts_are_what_they_are_called() -> None:
    assert [one.test.verdict for one in (MET, NOT_MET, OPEN)] == ["MET", "NOT_MET", "UNDECIDED"]


@pytest.mark.parametrize(
    ("won", "systems", "verdict", "yes", "says"),
    [
        (
            TUNED,
            [NOT_MET],
            "STILL_NEEDED",
            True,
            "Yes, the tuned model is still needed: new misses the bar of 80% (few-shot-5 scored 47.8%).",
        ),
        (
            TUNED,
            [MET],
            "NO_LONGER_NEEDED",
            False,
            "No, the tuned model is no longer needed: new meets the bar of 80% (few-shot-5 scored 100%).",
        ),
        (TUNED, [NOT_MET, MET], "NO_LONGER_NEEDED", False, "no longer needed"),
        (
            TUNED,
            [OPEN],
            "CANNOT_TELL",
            None,
            "Cannot tell yet whether new meets the bar of 80% (few-shot-5 scored 83.3%)",
        ),
        (TUNED, [NOT_MET, OPEN], "CANNOT_TELL", None, "Cannot tell yet"),
        (PROMPT, [MET], "MEETS_BAR", True, "Yes, new also meets the bar (few-shot-5 scored 100% against 80%)"),
        (PROMPT, [NOT_MET], "BELOW_BAR", False, "No, new misses the bar (few-shot-5 scored 47.8% against 80%)"),
        (PROMPT, [OPEN], "CANNOT_TELL", None, "Cannot tell yet"),
        (None, [MET], "MEETS_BAR", True, "Yes, new meets the bar of 80%, which no rung of the run was shown to meet"),
        (
            None,
            [NOT_MET],
            "BELOW_BAR",
            False,
            "No, new misses the bar of 80%, which no rung of the run was shown to meet",
        ),
    ],
)
def test_the_answer(
    won: RunWinner | None, systems: list[SystemTried], verdict: str, yes: bool | None, says: str
) -> None:
    assert verdict_of(overall(systems)[0], won) == (verdict, yes)
    assert says in answer(won, systems)
    assert len(reasons(won, systems)) == len(systems)


def test_what_is_open_says_how_many_items_would_settle_it() -> None:
    needed = OPEN.test.n_needed
    assert needed is not None
    assert f"about {needed:,} test items would settle it, and there are 150" in answer(TUNED, [OPEN])
    close = tried(120)
    assert close.test.n_needed is None
    assert "more than 1,500 test items would settle it: the score is too close to the bar" in answer(TUNED, [close])


def test_a_tuned_model_that_was_never_shown_to_meet_the_bar_is_called_so() -> None:
    provisional = winner("sft", "lora-epoch3", 125)
    assert any(
        "did not show that the tuned model, sft (lora-epoch3)," in why for why in reasons(provisional, [NOT_MET])
    )
    assert not any("did not show" in why for why in reasons(TUNED, [NOT_MET]))


def test_a_needless_model_that_is_better_still_is_called_so() -> None:
    worse = ComparedWithWinner(
        n=150,
        unit="item",
        whole=True,
        winner_score=0.97,
        score=0.9,
        difference=-0.07,
        confidence=0.975,
        interval=(-0.12, -0.03),
        p_better=0.999,
        p_worse=0.001,
    )
    assert "though the tuned model is still better by 7.0 points" in answer(TUNED, [tried(150, worse)])
    _, why = reasons(TUNED, [tried(150, worse)])
    assert "90% against 97% for sft (lora-epoch3), 7.0 points less" in why
    assert "97.5% interval of the difference -12.0 to -3.0 points, p = 0.001" in why
    alike = worse.replaced(difference=-0.01, interval=(-0.05, 0.03), p_worse=0.3, p_better=0.8)
    assert "still better" not in answer(TUNED, [tried(150, alike)])


def test_a_comparison_of_what_stopped_early_is_called_no_test() -> None:
    some = ComparedWithWinner(
        n=40, unit="item", whole=False, winner_score=0.9, score=0.5, difference=-0.4, confidence=0.975
    )
    _, why = reasons(TUNED, [tried(75, some)])
    assert "on the 40 test items that both answered" in why
    assert "descriptive, not a test" in why


def test_all_looks_together_have_the_error_of_one_climb() -> None:
    alphas = [look_of(number, 1, 0.95).alpha for number in range(1, 100_000)]
    assert alphas[0] == pytest.approx(0.025)
    assert alphas == sorted(alphas, reverse=True)
    assert 0.0499 < sum(alphas) < 0.05
    two = look_of(3, 2, 0.95)
    assert two.each == pytest.approx(two.alpha / 2)
    assert "This is look 3 at the frozen test set since the climb." in words.look_reason(two)
    assert "0.21% for each of its 2 systems" in words.look_reason(two)


def test_a_worn_out_test_set_is_refused() -> None:
    check_size(look_of(1, 1, 0.95), 60, bar=0.9, binary=True, unit="item")
    with pytest.raises(DataError, match=r"60 items: .* left for look 10 .* worn out: climb again with fresh items"):
        check_size(look_of(10, 2, 0.95), 60, bar=0.9, binary=True, unit="item")


def test_both_whole_is_a_paired_test() -> None:
    old, now = [1.0] * 90 + [0.0] * 10, [1.0] * 60 + [0.0] * 40
    keys = {"n_items": 100, "groups": None, "binary": True, "confidence": 0.975, "seed": 0}
    found = compare(old, now, **keys)  # type: ignore[arg-type]
    assert found is not None
    assert (found.n, found.unit, found.whole) == (100, "item", True)
    assert (found.winner_score, found.score, found.difference) == pytest.approx((0.9, 0.6, -0.3))
    assert found.interval is not None
    assert found.interval[0] < -0.3 < found.interval[1] < 0
    assert found.p_worse == pytest.approx(0.5**30)
    assert found.p_better == 1.0
    same = compare(old, old, **keys)  # type: ignore[arg-type]
    assert same is not None
    assert (same.difference, same.p_better, same.p_worse) == (0.0, 1.0, 1.0)


def test_one_that_stopped_is_described_on_what_both_answered() -> None:
    found = compare(
        [1.0] * 50, [1.0] * 20 + [0.0] * 20, n_items=100, groups=None, binary=True, confidence=0.975, seed=0
    )
    assert found is not None
    assert (found.n, found.whole, found.winner_score, found.score) == (40, False, 1.0, 0.5)
    assert found.interval is found.p_better is found.p_worse is None
    assert compare([], [1.0], n_items=1, groups=None, binary=True, confidence=0.9, seed=0) is None


def test_groups_are_compared_by_their_means() -> None:
    groups = ["a", "a", "a", "b"]
    found = compare(
        [1.0, 1.0, 1.0, 0.0], [0.0, 0.0, 0.0, 0.0], n_items=4, groups=groups, binary=True, confidence=0.9, seed=0
    )
    assert found is not None
    assert (found.n, found.unit, found.winner_score, found.score, found.difference) == (2, "group", 0.5, 0.0, -0.5)


def test_notes_on_answers_count_one_and_many() -> None:
    assert [words.of_cut_answers(n, "zero-shot", limit) for n, limit in ((1, 1), (1200, 64))] == [
        "1 answer of zero-shot reached the limit of 1 token.",
        "1,200 answers of zero-shot reached the limit of 64 tokens.",
    ]
    assert [words.of_refused_items(n, "zero-shot") for n in (1, 2)] == [
        "1 test item was too long for zero-shot and counts as wrong.",
        "2 test items were too long for zero-shot and count as wrong.",
    ]
