"""The bar on the scale of a judge that errs, from cases that people have labelled. Pure.

A judge that says right of a right answer with chance se (its sensitivity) and of a wrong one with chance f (1 - its specificity)
scores q = t se + (1 - t) f where the true score is t. So t is above the bar b only if q is above b se + (1 - b) f, provided se >=
f. The labels give limits of se and f, so there is a judged score U that a system at or below the bar stays below,

    U = max(f_U, b se_U + (1 - b) f_U),    L = min(se_L, b se_L + (1 - b) f_L),

unless a limit fails; max and min cover a judge with se < f. A judge that grades, or compares, is off by d = E[judged - people], and
U = b + d_U, L = b + d_L (prediction-powered inference).

Testing "q <= U" and "q >= L" at what the labels leave of the errors, by the rules that hold without a judge, looks and fresh items
included, gives P(MET) <= alpha where t <= b and P(NOT_MET) <= beta where t >= b: a wrong verdict needs a limit that fails, or a
test that errs. The limits are the same for all tests of a climb, so their error is spent once.

What it takes for granted: the labelled cases are independent and like those of the test. Rates: right answers are judged as those
of the test are, and wrong ones, too; how many there are of each does not matter. Differences: the cases are a random sample of such
items and answers.

Source: Rogan and Gladen 1978; Lee et al. 2026; Clopper and Pearson 1934; Angelopoulos et al. 2023 (PPI); Waudby-Smith and Ramdas
2024. Simulations: tests/simulation/test_corrected_rates.py.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

from lastresort.errors import ContractError
from lastresort.evals.evidence.bar import binomial_limit
from lastresort.evals.evidence.outlook import Errors, errors_after
from lastresort.evals.evidence.sequential import limits_so_far
from lastresort.evals.evidence.units import Array, as_scores
from lastresort.types import FARTHEST, JudgedBar, Judgement, LabelledRates, MoreUnits, Outlook, PartOfTest

LABELS_SHARE = 0.5  # of each error that the limits of the labels spend
NEVER = 0.0  # the error of the side of a test that is not looked at
_EDGE = 1e-9

OneSided = Callable[[float, float, float], Judgement | None]
"""(bar, alpha, beta) -> the verdict by a rule without correction."""


@dataclass(frozen=True, slots=True)
class Line:
    """judged = intercept + slope * true score."""

    intercept: float
    slope: float

    def judged(self, true: float) -> float:
        return self.intercept + self.slope * true

    def true(self, judged: float) -> float | None:
        """In [0, 1]; None where the judged score says nothing of the true one."""
        return min(1.0, max(0.0, (judged - self.intercept) / self.slope)) if self.slope > _EDGE else None


@dataclass(frozen=True, slots=True)
class Correction:
    """Of a judge's scores, from n labelled cases, for one bar.

    estimate, highest, lowest: how the judged score depends on the true one, as estimated, at most and at least; no estimate where
    one kind of answer is not labelled, or where right answers are not accepted more often than wrong ones. met_above,
    not_met_below: U and L. alpha, beta: the errors that the limits spend. rates: of a judge of right and wrong. off, off_limits: by
    how much the others score above people.
    """

    n: int
    bar: float
    estimate: Line | None
    highest: Line
    lowest: Line
    met_above: float
    not_met_below: float
    alpha: float
    beta: float
    rates: LabelledRates | None = None
    off: float | None = None
    off_limits: tuple[float, float] | None = None

    @property
    def can_be_met(self) -> bool:
        """Whether any judged score can show that the bar is met."""
        return self.met_above < 1

    @property
    def can_be_missed(self) -> bool:
        return self.not_met_below > 0

    def explains(self, interval: tuple[float, float]) -> bool:
        """Whether some true score gives a judged one in this interval; else the labelled cases are not like those of the test."""
        least, most = (
            edge([line.judged(0), line.judged(1)]) for edge, line in ((min, self.lowest), (max, self.highest))
        )
        return least <= interval[1] and interval[0] <= most

    def on_true_scale(self, judged: float, interval: tuple[float, float]) -> tuple[float, tuple[float, float]]:
        """The corrected score and its interval, of a judged one; the judged score itself where the labels allow no estimate."""
        low, high = self.highest.true(interval[0]), self.lowest.true(interval[1])
        estimate = None if self.estimate is None else self.estimate.true(judged)
        score = judged if estimate is None else estimate
        return score, (min(0.0 if low is None else low, score), max(1.0 if high is None else high, score))


def correction(
    people: Sequence[float], judged: Sequence[float], *, bar: float, alpha: float, beta: float, binary: bool
) -> Correction:
    """people, judged: scores of the same labelled cases, each in [0, 1]; binary: 0 or 1. alpha, beta: errors of a false MET and of
    a false NOT_MET that the whole climb may spend, of which LABELS_SHARE is spent here.

    Raises ContractError for no cases, for scores outside of their range, or as many of the one as of the other not.
    """
    if not people or len(people) != len(judged):
        raise ContractError(f"{len(people)} labels and {len(judged)} verdicts", expected="as many of each, at least 1")
    truth, scores = as_scores(people, binary=binary), as_scores(judged, binary=binary)
    spent = (LABELS_SHARE * alpha, LABELS_SHARE * beta)
    if binary:
        right = truth == 1
        counts = LabelledRates(
            int(right.sum()), int(scores[right].sum()), int((~right).sum()), int(scores[~right].sum())
        )
        return _by_rates(counts, bar, *spent)
    return _by_differences(scores - truth, bar, *spent)


def _by_rates(counts: LabelledRates, bar: float, alpha: float, beta: float) -> Correction:
    """Clopper-Pearson's limits of both rates. The error is divided in proportion to b/sqrt(n right) and (1-b)/sqrt(n wrong), which
    depend on nothing that the judge says.
    """
    n1, x1, n0, x0 = counts.right, counts.right_accepted, counts.wrong, counts.wrong_accepted
    weights = bar / math.sqrt(max(n1, 1)), (1 - bar) / math.sqrt(max(n0, 1))
    part = weights[0] / sum(weights)
    se_high, f_high = _high(x1, n1, part * alpha), _high(x0, n0, (1 - part) * alpha)
    se_low, f_low = 1 - _high(n1 - x1, n1, part * beta), 1 - _high(n0 - x0, n0, (1 - part) * beta)
    highest, lowest = Line(f_high, se_high - f_high), Line(f_low, se_low - f_low)
    estimate = Line(x0 / n0, x1 / n1 - x0 / n0) if n1 and n0 and x1 / n1 - x0 / n0 > _EDGE else None
    above, below = max(f_high, highest.judged(bar)), min(se_low, lowest.judged(bar))
    return Correction(n1 + n0, bar, estimate, highest, lowest, above, below, alpha, beta, rates=counts)


def _high(successes: int, n: int, error: float) -> float:
    """Clopper-Pearson's upper limit; 1 where nothing was seen."""
    return 1 - binomial_limit(n - successes, n, error) if n else 1.0


def _by_differences(differences: Array, bar: float, alpha: float, beta: float) -> Correction:
    """Limits of the mean difference by betting, read once, after all cases, so that their order does not matter."""
    whole = (len(differences),)
    high, low = limits_so_far(differences, whole, alpha=alpha)[1], limits_so_far(differences, whole, alpha=beta)[0]
    off = float(differences.mean())
    lines = Line(off, 1.0), Line(high, 1.0), Line(low, 1.0)
    above, below = max(bar + high, _EDGE), min(bar + low, 1 - _EDGE)  # a judge may be off by more than the bar
    return Correction(len(differences), bar, *lines, above, below, alpha, beta, off=off, off_limits=(low, high))


def judge_corrected(
    judge: OneSided, interval: Callable[[int, float], tuple[float, float]], by: Correction, *, alpha: float, beta: float
) -> Judgement | None:
    """The verdict on the true score, None while more items are needed: MET where `judge` shows more than `met_above`, NOT_MET where
    it shows less than `not_met_below`, whichever comes first; neither where no true score explains what the judge says.

    judge: called once a side, with the other at an error of 0, so that it runs to the end if its side is not shown. interval:
    (units, error) -> the confidence sequence of the judged score. alpha, beta: of this test, before the labels' part.
    """
    sides, left = sides_of(by.bar, alpha, beta, by), errors_left(alpha, beta)
    up, down = judge(*sides.up.rule), judge(*sides.down.rule)
    decided = [
        found for found, outcome in ((up, "MET"), (down, "NOT_MET")) if found is not None and found.outcome == outcome
    ]
    if decided:
        found = min(decided, key=lambda one: one.n_used)
        if not by.explains(interval(found.n_used, left.alpha)):
            open_ = judge(by.bar, NEVER, NEVER)  # a later verdict is one that this rule would have given, too
            if open_ is None:
                return None
            found = open_
    elif up is None or down is None:
        return None
    else:
        found = replace(up, n_needed=_items_needed(up, down, by))
    found = replace(found, parts=tuple(_with_both_errors(found.parts, sides)))
    return _corrected(found, interval(found.n_used, left.alpha), by)


def errors_left(alpha: float, beta: float) -> Errors:
    """Of those of a test, after the part of the labels."""
    return Errors((1 - LABELS_SHARE) * alpha, (1 - LABELS_SHARE) * beta)


@dataclass(frozen=True, slots=True)
class Side:
    """One side of a test: the other is at an error of 0, which no number of items reaches."""

    bar: float
    errors: Errors

    @property
    def rule(self) -> tuple[float, float, float]:
        """(bar, alpha, beta)."""
        return self.bar, self.errors.alpha, self.errors.beta


@dataclass(frozen=True, slots=True)
class Sides:
    """A test of the bar as one of "is it met?" and one of "is it missed?"."""

    up: Side
    down: Side

    def after(self, right: int, n: int) -> Sides:
        """As they go on with fresh 0/1 items, after n of which `right` were right."""
        return Sides(*(Side(one.bar, errors_after(right, n, one.bar, one.errors)) for one in (self.up, self.down)))


def sides_of(bar: float, alpha: float, beta: float, by: Correction | None) -> Sides:
    """Of a test at these errors. by: whose labels move the bar and have their part of the errors; a side that no score can decide
    has none.
    """
    if by is None:
        return Sides(Side(bar, Errors(alpha, NEVER)), Side(bar, Errors(NEVER, beta)))
    left, nothing = errors_left(alpha, beta), Side(bar, Errors(NEVER, NEVER))
    up = Side(by.met_above, Errors(left.alpha, NEVER)) if by.can_be_met else nothing
    down = Side(by.not_met_below, Errors(NEVER, left.beta)) if by.can_be_missed else nothing
    return Sides(up, down)


def _with_both_errors(parts: Sequence[PartOfTest], sides: Sides) -> Iterator[PartOfTest]:
    """Parts of one side, each with the errors of both sides."""
    for number, part in enumerate(parts, 1):
        yield replace(part, alpha=sides.up.errors.alpha, beta=sides.down.errors.beta)
        if number < len(parts):
            sides = sides.after(round(part.score * part.n_used), part.n_used)


def _items_needed(up: Judgement, down: Judgement, by: Correction) -> int | None:
    """None where the judged score lies between the limits: no number of items decides."""
    if by.met_above < up.score:
        return up.n_needed
    return down.n_needed if down.score < by.not_met_below else None


def _corrected(found: Judgement, judged: tuple[float, float], by: Correction) -> Judgement:
    """On the true scale, with what the judge said kept."""
    score, interval = by.on_true_scale(found.score, judged)
    decided = found.decided
    if decided is not None:
        met = found.outcome == "MET"
        line, worst = (by.highest, max) if met else (by.lowest, min)
        limit = line.true(decided.limit)
        error = decided.error + (by.alpha if met else by.beta)
        decided = replace(decided, error=error, limit=by.bar if limit is None else worst(by.bar, limit))
    explained = by.explains(judged)
    labels = None
    if found.outcome == "UNDECIDED" and found.n_needed is None and explained:
        labels = _labels_needed(found.score, by)
    estimated = by.estimate is not None
    said = JudgedBar(found.score, judged, by.met_above, by.not_met_below, labels, estimated, explained)
    return replace(found, score=score, interval=interval, decided=decided, judged=said)


def _labels_needed(judged: float, by: Correction) -> int | None:
    """Labelled cases, of the same kinds in the same proportions, at which the limit on the way would reach the judged score, its
    distance from the estimate falling with their square root; None beyond ten times as many, and where the judged score is beyond
    that limit already: then it is only too close to it.
    """
    if by.estimate is None:
        return None
    middle = by.estimate.judged(by.bar)
    limit = by.met_above if judged > middle else by.not_met_below
    if math.isclose(judged, middle, abs_tol=_EDGE) or not by.not_met_below <= judged <= by.met_above:
        return None
    times = ((limit - middle) / (judged - middle)) ** 2
    return max(by.n + 1, math.ceil(times * by.n)) if times <= FARTHEST else None


def outlook_corrected(
    look: Callable[[float, float, float], Outlook], by: Correction, *, alpha: float, beta: float
) -> Outlook:
    """How far an UNDECIDED is, with the labels there are. look: (bar, alpha, beta) -> by a rule without correction."""
    sides, left = sides_of(by.bar, alpha, beta, by), errors_left(alpha, beta)
    up, down = look(*sides.up.rule), look(*sides.down.rule)
    claimable = by.highest.true(up.claimable) if by.can_be_met else None
    after = tuple(
        MoreUnits(more.n, more.met if by.can_be_met else 0.0, less.not_met if by.can_be_missed else 0.0)
        for more, less in zip(up.after, down.after, strict=True)
    )
    return replace(up, after=after, claimable=0.0 if claimable is None else claimable, error=left.alpha + by.alpha)
