"""A bar tested on a judge's scores, corrected by labels: false verdicts stay within their errors whatever the judge is like."""

from __future__ import annotations

from functools import cache

import numpy as np
import pytest

from bar_table import without_items_needed
from lastresort.evals.evidence.bar import judge_bar, so_far
from lastresort.evals.evidence.corrected import LABELS_SHARE, Correction, Line, _by_rates, correction, judge_corrected
from lastresort.evals.evidence.outlook import Errors, errors_after, judge_going_on
from lastresort.types import Judgement, LabelledRates

ALPHA, BETA, RUNS = 0.1, 0.1, 200
ALLOWED = ALPHA + 3 * (ALPHA * (1 - ALPHA) / RUNS) ** 0.5

JUDGES = [  # sensitivity, specificity, labelled cases, test items, bar
    (0.9, 0.8, 20, 50, 0.6),
    (0.99, 0.6, 60, 200, 0.85),
    (0.7, 0.9, 300, 500, 0.7),
    (0.95, 0.95, 100, 200, 0.95),
    (0.6, 0.6, 100, 500, 0.6),
    (0.99, 0.99, 300, 500, 0.85),
    (0.3, 0.3, 60, 200, 0.7),  # says right of wrong answers more often than of right ones
]


def right_or_wrong(
    random: np.random.Generator, share: float, case: tuple[float, float, int, int, float]
) -> Judgement | None:
    """One climb with a single test. share: of the labelled cases that are right, which need not be that of the test."""
    se, sp, n_labels, n, bar = case

    def judged(truth: np.ndarray) -> np.ndarray:
        return (random.random(len(truth)) < np.where(truth, se, 1 - sp)).astype(float)

    labels, items = random.random(n_labels) < share, random.random(n) < bar
    return verdict(labels.astype(float), judged(labels), judged(items), bar, binary=True)


def verdict(
    people: np.ndarray, judged: np.ndarray, scores: np.ndarray, bar: float, *, binary: bool
) -> Judgement | None:
    by = correction(people.tolist(), judged.tolist(), bar=bar, alpha=ALPHA, beta=BETA, binary=binary)
    listed = scores.tolist()

    def judge(at: float, alpha: float, beta: float) -> Judgement | None:
        return judge_bar(listed, bar=at, alpha=alpha, beta=beta, binary=binary)

    def interval(units: int, error: float) -> tuple[float, float]:
        return so_far(listed[:units], bar=bar, alpha=error, binary=binary).interval

    return judge_corrected(judge, interval, by, alpha=ALPHA, beta=BETA)


@pytest.mark.sampled(12)
@pytest.mark.parametrize("case", JUDGES)
@pytest.mark.parametrize("share", [0.5, 0.8])
def test_a_system_right_at_the_bar_is_seldom_called_met_or_not_met(
    case: tuple[float, float, int, int, float], share: float
) -> None:
    random = np.random.default_rng(7)
    found = [right_or_wrong(random, share, case) for _ in range(RUNS)]
    for outcome in ("MET", "NOT_MET"):
        assert np.mean([one is not None and one.outcome == outcome for one in found]) <= ALLOWED


@pytest.mark.slow
@pytest.mark.sampled_slow(3)
@pytest.mark.parametrize("n_labels", [20, 300])
@pytest.mark.parametrize("lenient", [-0.5, 0.0, 0.5])
def test_a_judge_that_grades_too_high_or_too_low_does_not_move_the_verdict(n_labels: int, lenient: float) -> None:
    """Answers are worth 0, 1/4, ... 1 with a mean of 0.7; a lenient judge gives half of them a quarter more."""
    random = np.random.default_rng(11)
    grades, chances, bar = np.arange(5) / 4, np.array([0.1, 0.1, 0.1, 0.3, 0.4]), 0.7

    def graded(truth: np.ndarray) -> np.ndarray:
        steps = (random.random(len(truth)) < abs(lenient)) * np.sign(lenient) + random.choice(
            [-1, 0, 1], len(truth), p=[0.1, 0.8, 0.1]
        )
        return np.clip(truth + steps / 4, 0, 1)

    def found() -> Judgement | None:
        labels, items = random.choice(grades, n_labels, p=chances), random.choice(grades, 200, p=chances)
        return verdict(labels, graded(labels), graded(items), bar, binary=False)

    outcomes = [found() for _ in range(RUNS // 4)]
    assert chances @ grades == pytest.approx(bar)
    for outcome in ("MET", "NOT_MET"):
        assert (
            np.mean([one is not None and one.outcome == outcome for one in outcomes])
            <= ALPHA + 3 * (0.09 / (RUNS // 4)) ** 0.5
        )


def test_uncorrected_a_lenient_judge_breaks_the_promise_and_corrected_a_good_system_is_still_met() -> None:
    """At the bar of 70% a judge with se .98 and sp .6 sees .98 * .7 + .4 * .3 = 80.6%, and says MET nearly always."""
    random, bar = np.random.default_rng(3), 0.7
    alone = corrected = good = 0
    for _ in range(100):
        labels = random.random(300) < 0.5
        judged = (random.random(300) < np.where(labels, 0.98, 0.4)).astype(float)
        at_bar, above = ((random.random(500) < rate * 0.98 + 0.4 * (1 - rate)).astype(float) for rate in (bar, 0.98))
        plain = judge_bar(at_bar.tolist(), bar=bar, alpha=ALPHA, binary=True)
        alone += plain is not None and plain.outcome == "MET"
        first, second = (verdict(labels.astype(float), judged, scores, bar, binary=True) for scores in (at_bar, above))
        corrected += first is not None and first.outcome == "MET"
        good += second is not None and second.outcome == "MET"
    assert alone > 90
    assert corrected <= 100 * ALPHA
    assert good > 90


@pytest.mark.slow
@without_items_needed()
def test_going_on_with_fresh_items_keeps_the_error_of_a_corrected_bar() -> None:
    random, bar = np.random.default_rng(5), 0.8
    met = 0
    for _ in range(RUNS // 3):
        labels = random.random(100) < 0.6
        judged = (random.random(100) < np.where(labels, 0.9, 0.15)).astype(float)
        parts = [(random.random(n) < bar * 0.9 + (1 - bar) * 0.15).astype(float).tolist() for n in (60, 100, 200)]
        by = correction(labels.astype(float).tolist(), judged.tolist(), bar=bar, alpha=ALPHA, beta=BETA, binary=True)
        for looks in range(1, 4):
            seen = parts[:looks]

            def judge(at: float, alpha: float, beta: float, seen: list[list[float]] = seen) -> Judgement | None:
                if len(seen) == 1:
                    return judge_bar(seen[0], bar=at, alpha=alpha, beta=beta, binary=True)
                return judge_going_on(seen, bar=at, alpha=alpha, beta=beta, n_available=len(seen[-1]))

            found = judge_corrected(judge, lambda units, error: (0.0, 1.0), by, alpha=ALPHA, beta=BETA)
            assert found is not None
            if found.outcome != "UNDECIDED":
                met += found.outcome == "MET"
                break
    assert met / (RUNS // 3) <= ALPHA + 3 * (0.09 / (RUNS // 3)) ** 0.5


def test_as_many_labels_as_an_undecided_asks_for_mostly_let_items_decide() -> None:
    """Of 200 labels that leave the judged score between the limits, as many as are asked for put the limit about where the score
    lies.
    """
    random, bar, se, f = np.random.default_rng(9), 0.8, 0.95, 0.1

    def labels(n: int) -> tuple[np.ndarray, np.ndarray]:
        people = random.random(n) < 0.6
        return people.astype(float), (random.random(n) < np.where(people, se, f)).astype(float)

    reached: list[bool] = []
    scores = (np.arange(2000) % 100 < round(100 * (0.86 * se + 0.14 * f))).astype(float)
    for _ in range(60):
        found = verdict(*labels(200), random.permutation(scores), bar, binary=True)
        assert found is not None
        if found.judged is None or found.judged.labels_needed is None:
            continue
        people, judged = labels(found.judged.labels_needed)
        again = correction(people.tolist(), judged.tolist(), bar=bar, alpha=ALPHA, beta=BETA, binary=True)
        reached.append(again.met_above < scores.mean())
    assert len(reached) > 15
    assert np.mean(reached) > 0.6


SE, F = 0.9, 0.2  # of a judge that is known, or of one whose labels are the only thing that is not


@pytest.mark.sampled(2)
@pytest.mark.parametrize("going_on", [False, True], ids=["one test set", "with fresh items"])
def test_where_the_judge_is_known_the_test_has_half_of_the_error_and_uses_much_of_it(going_on: bool) -> None:
    """No error of labels hides an error of the test here: at twice the error, or at the whole error once more, this fails."""
    random, bar, runs, spent = np.random.default_rng(21), 0.7, 1500, ALPHA / 2
    line, judged = Line(F, SE - F), F + bar * (SE - F)
    by = Correction(10**9, bar, line, line, line, judged, judged, spent, spent)
    ended = []
    for _ in range(runs):
        whole = [(random.random(n) < judged).astype(float).tolist() for n in (68, 100)]
        found = _known(whole[:1], by)
        if going_on and found.outcome == "UNDECIDED":
            found = _known(whole, by)
        ended.append(found.outcome)
    for outcome in ("MET", "NOT_MET"):
        assert 0.5 * spent < ended.count(outcome) / runs <= spent + 3 * (spent * (1 - spent) / runs) ** 0.5


def _known(parts: list[list[float]], by: Correction) -> Judgement:
    def judge(at: float, alpha: float, beta: float) -> Judgement | None:
        if len(parts) == 1:
            return judge_bar(parts[0], bar=at, alpha=alpha, beta=beta, binary=True)
        right = int(sum(parts[0]))
        errors = _left_after(right, len(parts[0]), at, alpha, beta)
        return judge_bar(parts[1], bar=at, alpha=errors.alpha, beta=errors.beta, binary=True)

    found = judge_corrected(judge, lambda units, error: (0.0, 1.0), by, alpha=ALPHA, beta=BETA)
    assert found is not None
    return found


@cache
def _left_after(right: int, n: int, bar: float, alpha: float, beta: float) -> Errors:
    return errors_after(right, n, bar, Errors(alpha, beta))


@pytest.mark.parametrize(("n_right", "n_wrong", "bar"), [(2000, 10**7, 0.8), (10**7, 2000, 0.3)])
def test_where_items_are_endless_the_labels_have_half_of_the_error_and_use_most_of_it(
    n_right: int, n_wrong: int, bar: float
) -> None:
    """Labels of one kind are so many that only the other limit can fail, which has nearly all of the labels' part."""
    random, runs, spent = np.random.default_rng(22), 4000, ALPHA / 2
    judged, above, below = F + bar * (SE - F), 0, 0
    for _ in range(runs):
        seen = LabelledRates(n_right, int(random.binomial(n_right, SE)), n_wrong, int(random.binomial(n_wrong, F)))
        by = _by_rates(seen, bar, LABELS_SHARE * ALPHA, LABELS_SHARE * BETA)
        above += by.met_above < judged
        below += by.not_met_below > judged
    for failed in (above, below):
        assert 0.7 * spent < failed / runs <= spent + 3 * (spent * (1 - spent) / runs) ** 0.5
