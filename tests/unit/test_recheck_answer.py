"""What a recheck answers, as pure functions: sentences, shares of the error, comparisons."""

from __future__ import annotations

from dataclasses import replace

import pytest

from lastresort.after.recheck.answer import RetriedPrompt, RunOutcome, answer, compare
from lastresort.after.recheck.asking import check_size, look_of, told
from lastresort.errors import DataError
from lastresort.evals.evidence import judge_bar
from lastresort.report.recheck import ComparedWithWinner
from lastresort.types import Judgement

TUNED = RunOutcome("sft", "sft (lora-epoch3)", tuned=True, shown=True)
PROMPT = RunOutcome("prompting", "prompting (few-shot-5)", tuned=False, shown=True)
NOBODY = RunOutcome(None, "", tuned=False, shown=False)
BAR = 0.8


def judged(right: int, n: int) -> Judgement:
    """So many right, evenly spread."""
    scores = [float((i + 1) * right // n - i * right // n) for i in range(n)]
    found = judge_bar(scores, bar=BAR, alpha=0.0125, binary=True)
    assert found is not None
    return found


MET = RetriedPrompt("prompting", "few-shot-5", judged(150, 150))
NOT_MET = RetriedPrompt("prompting", "few-shot-5", judged(75, 150))
OPEN = RetriedPrompt("prompting", "few-shot-5", judged(125, 150))


def test_the_verdicts_are_what_they_are_called() -> None:
    assert [one.judgement.outcome for one in (MET, NOT_MET, OPEN)] == ["MET", "NOT_MET", "UNDECIDED"]


@pytest.mark.parametrize(
    ("before", "tried", "verdict", "yes", "says"),
    [
        (
            TUNED,
            [NOT_MET],
            "STILL_NEEDED",
            True,
            "Yes, the tuned model is still needed: new prompted stays below the bar of 80%",
        ),
        (
            TUNED,
            [MET],
            "NO_LONGER_NEEDED",
            False,
            "No, the tuned model is no longer needed: new prompted meets the bar of 80%",
        ),
        (TUNED, [NOT_MET, MET], "NO_LONGER_NEEDED", False, "no longer needed"),
        (TUNED, [OPEN], "CANNOT_TELL", None, "Cannot tell: new prompted is undecided against the bar of 80%"),
        (TUNED, [NOT_MET, OPEN], "CANNOT_TELL", None, "Cannot tell"),
        (PROMPT, [MET], "MEETS_BAR", True, "Yes, new prompted meets the bar, too"),
        (PROMPT, [NOT_MET], "BELOW_BAR", False, "No, new prompted does not meet the bar"),
        (PROMPT, [OPEN], "CANNOT_TELL", None, "Cannot tell"),
        (
            NOBODY,
            [MET],
            "MEETS_BAR",
            True,
            "Yes, new prompted now meets the bar of 80%, which no rung of the run was shown to reach",
        ),
        (
            NOBODY,
            [NOT_MET],
            "BELOW_BAR",
            False,
            "No, new prompted does not reach the bar of 80%, which no rung of the run",
        ),
    ],
)
def test_the_answer(before: RunOutcome, tried: list[RetriedPrompt], verdict: str, yes: bool | None, says: str) -> None:
    found = answer("new prompted", BAR, before, tried)
    assert (found.verdict, found.yes) == (verdict, yes)
    assert found.answer.startswith(says) or says in found.answer
    assert len(found.reasons) == len(tried)


def test_what_is_open_says_how_many_items_would_settle_it() -> None:
    found = answer("new prompted", BAR, TUNED, [OPEN])
    needed = OPEN.judgement.n_needed
    assert needed is not None
    assert f"about {needed:,} test items would settle it, and there are 150" in found.answer
    close = RetriedPrompt("prompting", "few-shot-5", judged(120, 150))
    assert close.judgement.n_needed is None
    assert "cannot be told, so close is it to the bar" in answer("new prompted", BAR, TUNED, [close]).answer


def test_a_tuned_model_that_was_never_shown_to_meet_the_bar_is_called_so() -> None:
    provisional = replace(TUNED, shown=False)
    assert any("did not show that the tuned model" in why for why in answer("new", BAR, provisional, [NOT_MET]).reasons)
    assert not any("did not show" in why for why in answer("new", BAR, TUNED, [NOT_MET]).reasons)


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
    found = answer("new", BAR, TUNED, [replace(MET, compared=worse)])
    assert found.verdict == "NO_LONGER_NEEDED"
    assert "though the tuned model is better still by 7.0 points" in found.answer
    told_so = found.reasons[1]
    assert "90% against 97% of sft (lora-epoch3), 7.0 points less" in told_so
    assert "97.5% interval of the difference -12.0 to -3.0 points, p = 0.001" in told_so
    alike = worse.replaced(difference=-0.01, interval=(-0.05, 0.03), p_worse=0.3, p_better=0.8)
    assert "better still" not in answer("new", BAR, TUNED, [replace(MET, compared=alike)]).answer


def test_a_comparison_of_what_stopped_early_is_called_no_test() -> None:
    some = ComparedWithWinner(
        n=40, unit="item", whole=False, winner_score=0.9, score=0.5, difference=-0.4, confidence=0.975
    )
    (_, why) = answer("new", BAR, TUNED, [replace(NOT_MET, compared=some)]).reasons
    assert "on the 40 test items that both answered" in why
    assert "a description, not a test" in why


def test_nothing_tried_is_no_answer() -> None:
    with pytest.raises(ValueError, match="at least one"):
        answer("new", BAR, TUNED, [])


def test_all_looks_together_have_the_error_of_one_climb() -> None:
    alphas = [look_of(number, 1, 0.95).alpha for number in range(1, 100_000)]
    assert alphas[0] == pytest.approx(0.025)
    assert alphas == sorted(alphas, reverse=True)
    assert 0.0499 < sum(alphas) < 0.05
    two = look_of(3, 2, 0.95)
    assert two.each == pytest.approx(two.alpha / 2)
    assert "This is look 3 at the frozen test set since the climb." in told(two)
    assert "0.21% for each of its 2 systems" in told(two)


def test_a_worn_out_test_set_is_refused() -> None:
    check_size(look_of(1, 1, 0.95), 60, bar=0.9, binary=True, unit="item")
    with pytest.raises(DataError, match=r"60 items, on which look 10 .* worn out: climb again with fresh items"):
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
