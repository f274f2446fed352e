"""How far an UNDECIDED is: its predictions come true, its claims hold, and going on keeps the promised error.

0/1 scores: error rates are exact (to rounding), by carrying the chance of every count forward as the rule does; that this is the
rule of `judge_bar` is checked on random sequences. What is simulated may miss by 3 simulation standard errors.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import cache

import numpy as np
import pytest

from bar_table import items_of, scored_item, without_intervals, without_items_needed
from lastresort.climb.bar_test import Answered, BarRule, judge_parts
from lastresort.evals.evidence.bar import judge_bar, outcome_of
from lastresort.evals.evidence.martingale import lower_limits
from lastresort.evals.evidence.outlook import (
    Errors,
    claimable,
    endings,
    errors_after,
    judge_going_on,
    needed_to_go_on,
    outlook,
)

BETA = 0.05
SETTINGS = [(0.8, 0.05, 100), (0.85, 0.0083, 200), (0.5, 0.0125, 60), (0.95, 0.025, 150), (0.3, 0.01, 80)]


def at(rate: float) -> Callable[[int, np.ndarray], float]:
    return lambda items, right: rate


def ever(
    rate: float, bar: float, errors: Errors, n: int, sizes: tuple[int, ...], stages: int = 1
) -> tuple[float, float]:
    """P(MET) and P(NOT_MET) at any time, where a test that ends UNDECIDED goes on, up to `stages` times, with that one of `sizes`
    that makes the wrong verdict likeliest. What is rarer than 1e-7 is left out.
    """
    ends = endings(n, bar, errors, at(rate))
    met, not_met = ends.met, ends.not_met
    if stages == 0:
        return met, not_met
    for right in np.flatnonzero(ends.undecided > 1e-7):
        after = errors_after(int(right), n, bar, errors)
        found = [ever(rate, bar, after, size, sizes, stages - 1) for size in sizes]
        met += float(ends.undecided[right]) * max(one[0] for one in found)
        not_met += float(ends.undecided[right]) * max(one[1] for one in found)
    return met, not_met


@pytest.mark.sampled(3)
@pytest.mark.parametrize(("bar", "alpha", "n"), SETTINGS)
def test_going_on_keeps_both_errors_whatever_it_depends_on(bar: float, alpha: float, n: int) -> None:
    errors = Errors(alpha, BETA)
    met, not_met = ever(bar, bar, errors, n, (40, 150))
    assert met <= alpha * (1 + 1e-9)
    assert not_met <= BETA * (1 + 1e-9)
    assert ever(bar - 0.03, bar, errors, n, (150,))[0] < met
    assert ever(bar + 0.03, bar, errors, n, (150,))[1] < not_met


def test_going_on_twice_keeps_both_errors() -> None:
    met, not_met = ever(0.7, 0.7, Errors(0.1, BETA), 30, (15, 30), stages=2)
    assert met <= 0.1 * (1 + 1e-9)
    assert not_met <= BETA * (1 + 1e-9)


@pytest.mark.parametrize(("bar", "alpha", "n"), SETTINGS)
def test_nearly_all_that_is_left_is_promised(bar: float, alpha: float, n: int) -> None:
    """The conditional errors, averaged over UNDECIDED at the bar, and what the first n items spend make up the error, but for what
    a test loses that NOT_MET ends.
    """
    ends = endings(n, bar, Errors(alpha, BETA), at(bar))
    rights = np.flatnonzero(ends.undecided > 0)
    after = [errors_after(int(right), n, bar, Errors(alpha, BETA)) for right in rights]
    weights = ends.undecided[rights]
    for spent, left, whole in (
        (ends.met, [one.alpha for one in after], alpha),
        (ends.not_met, [one.beta for one in after], BETA),
    ):
        assert 0.98 * whole <= spent + float(weights @ left) <= whole * (1 + 1e-9)


@pytest.mark.parametrize(("bar", "alpha", "n"), SETTINGS)
def test_neither_error_of_fresh_items_depends_on_the_other(bar: float, alpha: float, n: int) -> None:
    """So a rung whose error of a false MET changes while its test goes on keeps its error of a false NOT_MET."""
    right = round(bar * n)
    own, other, third = (
        errors_after(right, n, bar, Errors(*both)) for both in ((alpha, BETA), (0.7 * alpha, BETA), (alpha, 0.01))
    )
    assert own.beta == other.beta != third.beta
    assert own.alpha == third.alpha != other.alpha


def test_spending_the_last_step_again_would_break_the_promise() -> None:
    """Why fresh items are not simply tested at the whole error again and again."""
    bar, errors = 0.8, Errors(0.05, BETA)
    ends = endings(100, bar, errors, at(bar))
    assert sum(ends.met * float(ends.undecided.sum()) ** times for times in range(4)) > 1.5 * errors.alpha


def test_a_larger_error_can_leave_less_for_the_fresh_items() -> None:
    """Why a test that may go on is never tested at the sum of errors that come one after another: above a jump of the binomial the
    exact step spends what was left below it.
    """
    bar, n, right = 0.8, 60, 53
    smaller, larger = (errors_after(right, n, bar, Errors(alpha, BETA)).alpha for alpha in (0.038, 0.039))
    assert larger < smaller / 2


@pytest.mark.sampled(3)
@pytest.mark.parametrize(("bar", "alpha", "n"), [(0.8, 0.05, 60), (0.5, 0.0125, 150), (0.95, 0.01, 120)])
def test_the_endings_are_those_of_judge_bar(bar: float, alpha: float, n: int) -> None:
    generator, runs = np.random.default_rng(3), 1500
    for rate in (bar, (1 + bar) / 2):
        ends = endings(n, bar, Errors(alpha, BETA), at(rate))
        rows = (generator.random((runs, n)) < rate).astype(float)
        found = [outcome_of(row, bar, alpha, BETA, binary=True) for row in rows]
        for outcome, chance in {"MET": ends.met, "NOT_MET": ends.not_met, "UNDECIDED": ends.undecided.sum()}.items():
            share = found.count(outcome) / runs
            assert abs(share - chance) <= 3 * math.sqrt(chance * (1 - chance) / runs) + 1e-9


@pytest.mark.slow
def test_optional_continuation_keeps_the_error_of_judge_bar() -> None:
    """At the bar, going on up to three times, with more items the better it looks: as somebody would who wants to see MET."""
    bar, alpha, n, runs = 0.7, 0.1, 60, 1500
    generator, wrong, left = np.random.default_rng(17), 0, cache(errors_after)
    for _ in range(runs):
        errors, size = Errors(alpha, BETA), n
        for _ in range(4):
            scores = (generator.random(size) < bar).astype(float)
            found = outcome_of(scores, bar, errors.alpha, errors.beta, binary=True)
            wrong += found == "MET"
            if found != "UNDECIDED":
                break
            errors = left(int(sum(scores)), size, bar, errors)
            size = 30 if errors.alpha < alpha / 2 else 120
    assert wrong / runs <= alpha + 3 * math.sqrt(alpha * (1 - alpha) / runs)


@pytest.mark.parametrize(
    ("bar", "alpha", "parts"),
    [
        (0.85, 0.05 / 6, [(181, 200)]),
        (0.8, 0.0186, [(53, 60)]),
        (0.8, 0.0054, [(85, 100), (172, 200)]),
        (0.7, 0.025, [(62, 100)]),
        (0.9, 0.0054, [(172, 200)]),
        (0.8, 0.0186, [(76, 100), (148, 200)]),
    ],
    ids=["met", "met of few", "met after a file", "not met", "not met, high bar", "not met after a file"],
)
def test_the_fresh_items_that_are_named_decide_with_the_power_that_is_named(
    bar: float, alpha: float, parts: list[tuple[int, int]]
) -> None:
    """Where the score seen is the true one, the verdict on its side has a chance of 80% with as many as are named, or with a few
    more, and less with one fewer.
    """
    scores = [mixed(right, n) for right, n in parts]
    found = judge_going_on(scores, bar=bar, alpha=alpha, n_available=parts[-1][1])
    assert found is not None
    assert found.outcome == "UNDECIDED"
    assert found.n_needed is not None
    errors = Errors(alpha, BETA)
    for right, n in parts:
        errors = errors_after(right, n, bar, errors)

    def power(fresh: int) -> float:
        ends = endings(fresh, bar, errors, at(found.score))
        return ends.met if found.score > bar else ends.not_met

    fresh = found.n_needed - sum(n for _, n in parts)
    assert power(fresh - 1) < 0.8 <= power(fresh) < 0.85
    assert min(power(fresh + more) for more in (*range(1, 25), 60, 2 * fresh)) >= 0.8


@pytest.mark.slow
def test_a_test_that_goes_on_with_the_items_that_it_names_decides_as_often_as_it_says() -> None:
    """By the test itself, on drawn scores, at both sides of the bar."""
    generator, runs = np.random.default_rng(59), 300
    for right, n, bar, alpha, outcome in ((181, 200, 0.85, 0.05 / 6, "MET"), (62, 100, 0.7, 0.025, "NOT_MET")):
        needed = needed_to_go_on([mixed(right, n)], bar=bar, alpha=alpha)
        assert needed is not None
        ends = []
        for _ in range(runs):
            fresh = (generator.random(needed - n) < right / n).astype(float).tolist()
            with without_items_needed():
                found = judge_going_on([mixed(right, n), fresh], bar=bar, alpha=alpha, n_available=needed - n)
            assert found is not None
            ends.append(found.outcome == outcome)
        assert abs(np.mean(ends) - 0.825) <= 0.025 + 3 * math.sqrt(0.8 * 0.2 / runs)


def test_no_number_is_named_where_ten_times_the_items_are_too_few() -> None:
    """46 of 60 against 70%: a new test of 548 would do, but not the 540 that may be added, at the error of fresh items."""
    assert needed_to_go_on([mixed(46, 60)], bar=0.7, alpha=0.0054) is None
    assert needed_to_go_on([mixed(48, 60)], bar=0.8, alpha=0.0054) is None
    assert needed_to_go_on([mixed(55, 60)], bar=0.8, alpha=0.0) is None
    whole = judge_bar(mixed(46, 60), bar=0.7, alpha=0.0054, binary=True)
    assert whole is not None
    assert whole.n_needed == 548


def mixed(right: int, n: int) -> list[float]:
    """Scores in an order in which no look decides, at whose end all is open."""
    return [float((item + 1) * right // n > item * right // n) for item in range(n)]


def test_the_predicted_chances_come_true() -> None:
    """Rates are drawn as the prediction assumes, so of UNDECIDED with a predicted chance c, a share c must end so."""
    bar, alpha, n = 0.7, 0.05, 80
    generator = np.random.default_rng(29)
    predicted, came = [], []
    known: dict[int, tuple[float, float]] = {}
    for rate in generator.random(6000):
        if not 0.45 < rate < 0.95:  # elsewhere the test decides: P(UNDECIDED) < 1e-5
            continue
        scores, fresh = (generator.random((2, n)) < rate).astype(float)
        if outcome_of(scores, bar, alpha, BETA, binary=True) != "UNDECIDED":
            continue
        right = int(scores.sum())
        if right not in known:
            far = outlook([scores.tolist()], bar=bar, alpha=alpha, binary=True, n_needed=None)
            assert far.after[0].n == n
            known[right] = far.after[0].met, far.after[0].not_met
        after = errors_after(right, n, bar, Errors(alpha, BETA))
        end = outcome_of(fresh, bar, after.alpha, after.beta, binary=True)
        predicted.append(known[right])
        came.append((end == "MET", end == "NOT_MET"))
    assert len(came) > 800
    said, seen = np.array(predicted), np.array(came, dtype=float)
    for side in (0, 1):
        for low, high in ((0.0, 0.1), (0.1, 0.4), (0.4, 1.01)):
            of = (said[:, side] >= low) & (said[:, side] < high)
            if of.sum() < 50:
                continue
            mean = said[of, side].mean()
            assert abs(seen[of, side].mean() - mean) <= 3 * math.sqrt(max(mean * (1 - mean), 1 / of.sum()) / of.sum())


@pytest.mark.release
def test_the_predicted_chances_of_graded_scores_come_true() -> None:
    bar, alpha, n = 0.6, 0.05, 50
    generator = np.random.default_rng(31)
    said, seen = [], []
    while len(said) < 120:
        mean = generator.uniform(0.5, 0.8)
        scores = generator.beta(6 * mean, 6 * (1 - mean), 2 * n)
        if outcome_of(scores[:n], bar, alpha, BETA, binary=False) != "UNDECIDED":
            continue
        far = outlook([scores[:n].tolist()], bar=bar, alpha=alpha, binary=False, n_needed=None)
        said.append(far.after[0].met)
        seen.append(outcome_of(scores, bar, alpha, BETA, binary=False) == "MET")
    error = math.sqrt(sum(chance * (1 - chance) for chance in said)) / len(said)
    assert abs(np.mean(seen) - np.mean(said)) <= 3 * error


@pytest.mark.parametrize("rate", [0.5, 0.8, 0.95])
def test_the_claimable_bar_is_rarely_above_the_truth(rate: float) -> None:
    alpha, n, runs = 0.05, 80, 500
    scores = (np.random.default_rng(37).random((runs, n)) < rate).astype(float)
    above = np.mean([claimable(row, alpha, binary=True) > rate for row in scores])
    assert above <= alpha + 3 * math.sqrt(alpha * (1 - alpha) / runs)


def test_the_claimable_bar_of_graded_scores_is_rarely_above_the_truth() -> None:
    alpha, runs = 0.1, 400
    scores = np.random.default_rng(41).beta(3, 2, (runs, 40))
    above = np.mean([claimable(row, alpha, binary=False) > 0.6 for row in scores])
    assert above <= alpha + 3 * math.sqrt(alpha * (1 - alpha) / runs)


def ever_claimed_too_much(first: int | None) -> float:
    """How often somebody who adds items, file after file, sees a claimable bar above the truth at some time."""
    rate, alpha, n, runs = 0.8, 0.1, 30, 300
    scores = (np.random.default_rng(43).random((runs, 5 * n)) < rate).astype(float)
    sizes = range(n, 5 * n + 1, n)
    return float(
        np.mean(
            [any(claimable(row[:size], alpha, binary=True, first=first) > rate for size in sizes) for row in scores]
        )
    )


@pytest.mark.slow
def test_the_claimable_bar_holds_however_often_a_test_goes_on() -> None:
    """The exact step is made once, at the end of the test set. Made anew with every file it would claim too much."""
    allowed = 0.1 + 3 * math.sqrt(0.1 * 0.9 / 300)
    assert ever_claimed_too_much(first=30) <= allowed < ever_claimed_too_much(first=None)


def test_the_outlook_of_a_test_that_went_on_claims_by_the_step_at_the_end_of_its_test_set() -> None:
    parts = [([1.0] * 6 + [0.0]) * 8 + [1.0] * 4, [1.0] * 5 + [0.0] + [1.0] * 34]
    pooled = np.array([*parts[0], *parts[1]])
    found = outlook(parts, bar=0.85, alpha=0.02, binary=True, n_needed=None)
    assert found.claimable == claimable(pooled, 0.02, binary=True, first=60)
    assert found.claimable < claimable(pooled, 0.02, binary=True)


@pytest.mark.slow
def test_graded_scores_that_go_on_keep_the_error_that_they_began_with() -> None:
    """At the bar, whole or in groups of two, pooled as `judge_parts` pools them; more is added as long as they are undecided."""
    alpha, sizes, runs = 0.1, (40, 20, 60), 400
    rule, generator = BarRule(0.6, False, alpha), np.random.default_rng(47)
    known = {number: scored_item(number / 4) for number in range(5)}
    for grouped in (False, True):
        wrong = 0
        for _ in range(runs):
            drawn = generator.binomial(4, 0.6, sum(sizes))
            drawn = np.repeat(drawn[::2], 2) if grouped else drawn
            parts, start = list[Answered](), 0
            for size in sizes:
                labels = [f"{(start + item) // 2}" for item in range(size)] if grouped else size
                parts.append(
                    Answered([known[number] for number in drawn[start : start + size].tolist()], items_of(labels))
                )
                start += size
                with without_intervals():
                    found = judge_parts(rule, parts)
                assert found is not None
                if found.outcome != "UNDECIDED":
                    break
            wrong += found.outcome == "MET"
        assert 0 < wrong <= runs * alpha + 3 * math.sqrt(runs * alpha * (1 - alpha))


@pytest.mark.parametrize("seed", range(6))
def test_the_claimable_bar_is_where_the_test_says_met(seed: int) -> None:
    scores = (np.random.default_rng(seed).random(90) < 0.8).astype(float)
    bar = claimable(scores, 0.02, binary=True)
    lower, higher = (judge_bar(scores.tolist(), bar=bar + step, alpha=0.02, binary=True) for step in (-1e-6, 1e-6))
    assert lower is not None
    assert higher is not None
    assert lower.outcome == "MET"
    assert higher.outcome != "MET"


def test_the_limits_of_many_are_those_of_each() -> None:
    right, items = np.array([0, 3, 9, 40, 50]), np.array([5, 4, 10, 50, 50])
    each = [float(lower_limits(s, n, 0.01)) for s, n in zip(right, items, strict=True)]
    assert lower_limits(right, items, 0.01).tolist() == pytest.approx(each)
    assert each[0] == 0.0
