"""Does a system meet the bar? Verdicts that may be looked at after every item, and how many items they take."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
import numpy.typing as npt

from lastresort.errors import ContractError, TaskError
from lastresort.evals.evidence.martingale import (
    best_bet,
    binary_interval,
    first_crossing,
    graded_interval,
    log_evidence_above,
    log_wealth_above,
    lower_limit,
    lowest_uncrossed,
)
from lastresort.evals.evidence.units import Array, as_scores, check_contiguous, group_means
from lastresort.types import FARTHEST, BarSoFar, Judgement, Outcome, Unit, VerdictBasis

Counts = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]
_CHUNK_CELLS = 1_000_000
_STRIDE = 8  # items, between those at which `least_right` searches

# Part of each error that the item-by-item test spends; the exact test at the last item has the rest.
SEQUENTIAL_SHARE = 0.2
FINAL_SHARE = 0.8
POWER = 0.8
POWER_QUANTILE = 0.8416
FALSE_NOT_MET = 0.05  # its rate in the test of a rung, unless one is given (DESIGN part 8)
ROUNDING = 1e-12
BOUND_ROUNDING = 1e-6  # of a logarithm that only says where to look closer


def judge_bar(
    scores: Sequence[float],
    *,
    bar: float,
    alpha: float,
    beta: float = FALSE_NOT_MET,
    binary: bool,
    n_available: int | None = None,
    groups: Sequence[str] | None = None,
) -> Judgement | None:
    """The verdict on the bar at the first item that decides, None while more items are needed.

    P(MET) <= alpha where the true score is at most the bar, P(NOT_MET) <= beta where it is at least the bar, however
    often this is called with a longer list. At an error of 0 that verdict is never given.

    0/1 scores: the mixture E of `log_evidence_above` at 0.2 of each error; at the last item Clopper-Pearson at 0.8.
    Graded scores and groups: the betting martingale of `log_wealth_above` at the whole error, no step at the end.

    scores: so far, in the fixed random order of the test set; scores beyond the deciding item are ignored. n_available:
    size of the test set (in groups where `groups` is given); None means that `scores` is all of it. groups: label of
    each score; a group's items stand together and are complete, and `n_used`, `n_available`, `n_needed` count groups.
    Raises ContractError on numbers outside their range, no scores, or more scores than are available.
    Source: DESIGN part 8. Tests: tests/simulation/test_evidence_bar_rates.py.
    """
    _check_inside(bar=bar, **{name: error for name, error in (("alpha", alpha), ("beta", beta)) if error != 0})
    unit: Unit = "item" if groups is None else "group"
    units = as_scores(scores, binary=binary and groups is None)
    if groups is not None:
        check_contiguous(groups)
        units, binary = group_means(units, groups), False
    available = len(units) if n_available is None else n_available
    if len(units) > available:
        raise ContractError(f"{len(units)} scores of a test set of {available}", expected="at most as many")
    if available < 1:
        raise ContractError("a test set without items", expected="at least one")
    if not len(units):
        return None
    decided = _sequential(units, bar, alpha, beta, binary)
    if decided is not None:
        outcome, n = decided
        by = _sequence_limit(outcome, units[:n], bar, alpha, beta, binary)
        return replace(_judgement(outcome, units[:n], available, alpha, binary), unit=unit, decided=by)
    if len(units) < available:
        return None
    final = _final(units, bar, alpha, beta) if binary else "UNDECIDED"
    judgement = replace(_judgement(final, units, available, alpha, binary), unit=unit)
    if final != "UNDECIDED":
        return replace(judgement, decided=_exact_limit(final, units, bar, alpha, beta))
    needed = (_needed_binary if binary else _needed_graded)(units, bar, alpha, beta)
    return replace(judgement, n_needed=needed)


def so_far(
    scores: Sequence[float], *, bar: float, alpha: float, binary: bool, groups: Sequence[str] | None = None
) -> BarSoFar:
    """The state of a test before its verdict, with the interval that the verdict will report. Arguments as in `judge_bar`."""
    units = as_scores(scores, binary=binary and groups is None)
    if groups is not None:
        units, binary = group_means(units, groups), False
    found = _judgement("UNDECIDED", units, len(units), alpha, binary)
    return BarSoFar(found.n_used, found.score, found.interval, bar)


def smallest_deciding_test(bar: float, alpha: float, *, binary: bool = True) -> int:
    """Smallest test set on which a perfect score gives MET; smaller ones cannot decide for any system.

    0/1 scores: smallest n with t^n <= 0.8 alpha (t .85, alpha .01: 30; t .99: 481). The item-by-item test never lowers
    this: on a perfect run E < 1/t^n, so that it needs t^n < 0.2 alpha. Graded scores and groups: the item at which the
    wealth of a run of ones reaches 1/alpha.
    """
    _check_inside(bar=bar, alpha=alpha)
    if binary:
        return _run_length(bar, FINAL_SHARE * alpha)
    length = 64
    while True:
        crossing = first_crossing(log_wealth_above(np.ones(length), bar), alpha)
        if crossing is not None:
            return crossing + 1
        length *= 2


def usable_share(share: float, n: int, bar: float) -> float:
    """The least error at which the exact test at the last of n 0/1 items has the power that it has at `share`.

    The chance of S or more right answers falls by a jump with every S, so that what lies above a jump is of no use. `share` itself
    where not even a perfect score decides.
    """
    least = least_tail(n, bar, FINAL_SHARE * share)
    return share if least > n else min(share, binomial_tail(least, n, bar) / FINAL_SHARE)


def items_against_bar(rate: float, *, bar: float, alpha: float, beta: float = FALSE_NOT_MET) -> int:
    """0/1 items that give MET (or NOT_MET, for a rate below the bar) with power 0.8 where this is the true rate.

    n = ((z sqrt(t(1-t)) + 0.84 sqrt(p(1-p)))/(p-t))^2, z at 0.8 of the error on the side where the rate lies; never
    less than a run of only right (or only wrong) answers takes on that side. Raises ZeroDivisionError where rate = bar.
    """
    from scipy.special import ndtri

    level = FINAL_SHARE * (alpha if rate > bar else beta)
    z = -float(ndtri(level))
    root = (z * math.sqrt(bar * (1 - bar)) + POWER_QUANTILE * math.sqrt(rate * (1 - rate))) / (rate - bar)
    return max(math.ceil(root**2), _run_length(bar if rate > bar else 1 - bar, level))


def check_test_size(
    n: int,
    *,
    bar: float,
    alpha: float,
    binary: bool = True,
    unit: Unit = "item",
    where: str = "",
    instead: Callable[[], Sequence[str]] = tuple,
    test_file: bool = False,
) -> None:
    """Raises TaskError if even a perfect score on n test items (or groups) could not show that the bar is met.

    instead: what would do, besides more of them. test_file: whether they have a file of their own.
    """
    smallest = smallest_deciding_test(bar, alpha, binary=binary)
    if n < smallest:
        raise TaskError(
            f"a test set of {n} {unit}{'' if n == 1 else 's'}, on which even a perfect score cannot show that the bar of "
            f"{bar:g} is met",
            where=where,
            expected="; or ".join((f"at least {smallest}", *instead())),
            remedy=f"Add test examples, {'' if test_file else 'take a larger share in `split.test`, '}lower `bar` or `confidence`, "
            "or name fewer rungs in `ladder`.",
            key=("examples", "test") if test_file else ("split", "test"),
        )


def wilson_interval(successes: float, n: int, confidence: float = 0.95) -> tuple[float, float]:
    """Wilson score interval of a rate. Source: Wilson 1927. Oracle: statsmodels `proportion_confint`, "wilson".

    successes: their number, or a sum of scores in [0, 1], for which it is wider than it need be.
    """
    from scipy.special import ndtri

    if not 0 <= successes <= n or n < 1:
        raise ContractError(f"{successes} right of {n}", expected="0 <= right <= n, n >= 1")
    z = float(ndtri((1 + confidence) / 2))
    rate, shrink = successes / n, 1 + z * z / n
    centre = (rate + z * z / (2 * n)) / shrink
    half = z * math.sqrt(rate * (1 - rate) / n + z * z / (4 * n * n)) / shrink
    return max(0.0, centre - half), min(1.0, centre + half)


def outcome_of(units: Array, bar: float, alpha: float, beta: float, *, binary: bool) -> Outcome:
    """What `judge_bar` says of a whole test set with these scores of items, or means of groups, without its figures."""
    decided = _sequential(units, bar, alpha, beta, binary)
    if decided is not None:
        return decided[0]
    return _final(units, bar, alpha, beta) if binary else "UNDECIDED"


def met_of_each(tests: Bools, bar: float, alpha: float, beta: float) -> Bools:
    """Whether `outcome_of` says MET, of each of many whole test sets of 0/1 scores, shape (tests, n)."""
    n = tests.shape[1]
    to_meet = least_right(n, bar, SEQUENTIAL_SHARE * alpha)
    to_miss = least_right(n, 1 - bar, SEQUENTIAL_SHARE * beta)
    at_last = least_tail(n, bar, FINAL_SHARE * alpha)

    def judged(some: Bools) -> Bools:
        right = np.cumsum(some, axis=1)
        met, not_met = first_of_each(right >= to_meet), first_of_each(np.arange(1, n + 1) - right >= to_miss)
        return np.where(met < n, met <= not_met, (not_met == n) & (right[:, -1] >= at_last))

    return np.concatenate([judged(some) for some in np.array_split(tests, 1 + tests.size // _CHUNK_CELLS)])


def first_of_each(crossed: Bools) -> Counts:
    """The first item of each row, shape (rows, n), at which evidence crosses; n where it never does."""
    return np.asarray(np.where(crossed.any(axis=1), crossed.argmax(axis=1), crossed.shape[1]), dtype=np.int64)


def least_right(n: int, bar: float, error: float) -> Counts:
    """Of 1 to n items, the least number right whose evidence reaches 1/error; one more than there are where none does.

    A right answer never lowers the evidence and a wrong one never raises it, so the number rises by 0 or 1 with every item. It is
    searched for at every eighth item, and then between these.
    """
    items = np.arange(1, n + 1)
    if error == 0:
        return items + 1
    apart = np.arange(_STRIDE, n + _STRIDE, _STRIDE)
    known = np.concatenate([[1], _least_between(np.zeros_like(apart), apart + 1, apart, bar, error)])
    place, ahead = items // _STRIDE, items % _STRIDE
    before, after = known[place], known[np.minimum(place + 1, len(known) - 1)]
    low = np.where(ahead > 0, np.maximum(before, after - (_STRIDE - ahead)), before)
    high = np.where(ahead > 0, np.minimum(before + ahead, after), before)
    return _least_between(low, high, items, bar, error)


def _least_between(low: Counts, high: Counts, items: Counts, bar: float, error: float) -> Counts:
    while (low < high).any():
        middle = (low + high) // 2
        reached = log_evidence_above(np.minimum(middle, items), items, bar) >= -math.log(error)
        reached |= middle > items
        low, high = np.where(reached, low, middle + 1), np.where(reached, middle, high)
    return low


def _check_inside(**levels: float) -> None:
    for name, value in levels.items():
        if not 0 < value < 1:
            raise ContractError(f"{name} {value!r}", expected="a number strictly between 0 and 1")


def _sequential(units: Array, bar: float, alpha: float, beta: float, binary: bool) -> tuple[Outcome, int] | None:
    """Outcome and number of items at the first item whose evidence decides, None if none does."""
    if binary:
        n, right = np.arange(1, len(units) + 1, dtype=np.float64), np.cumsum(units)
        met = _first_shown(right, n, bar, SEQUENTIAL_SHARE * alpha)
        not_met = _first_shown(n - right, n, 1 - bar, SEQUENTIAL_SHARE * beta)
    else:
        met = first_crossing(log_wealth_above(units, bar), alpha) if alpha else None
        not_met = first_crossing(log_wealth_above(1 - units, 1 - bar), beta) if beta else None
    if met is not None and (not_met is None or met <= not_met):
        return "MET", met + 1
    return None if not_met is None else ("NOT_MET", not_met + 1)


def _first_shown(right: Array, n: Array, bar: float, error: float) -> int | None:
    """Index of the first item at which E reaches 1/error, None if at none, or at an error of 0. right, n: after each item.

    E averages a likelihood ratio over rates, so ln E is at most n KL(S/n, t), the logarithm of the largest one. E takes far longer,
    and is computed only where that reaches ln 1/error.
    """
    from scipy.special import xlogy

    if error == 0:
        return None
    rate = right / n
    most = np.where(rate > bar, xlogy(right, rate / bar) + xlogy(n - right, (1 - rate) / (1 - bar)), 0.0)
    possible = np.flatnonzero(most >= -math.log(error) - BOUND_ROUNDING)
    first = first_crossing(log_evidence_above(right[possible], n[possible], bar), error)
    return None if first is None else int(possible[first])


def _final(units: Array, bar: float, alpha: float, beta: float) -> Outcome:
    """Clopper-Pearson by its tails: the lower limit is >= t where P(S or more | t) <= 0.8 alpha, and likewise above."""
    n, right = len(units), int(units.sum())
    if alpha > 0 and binomial_tail(right, n, bar) <= FINAL_SHARE * alpha * (1 + ROUNDING):
        return "MET"
    return "NOT_MET" if binomial_tail(n - right, n, 1 - bar) < FINAL_SHARE * beta else "UNDECIDED"


def _sequence_limit(
    outcome: Outcome, units: Array, bar: float, alpha: float, beta: float, binary: bool
) -> VerdictBasis:
    """The limit that the evidence of `_sequential` shows, at the error that it spends."""
    met, share = outcome == "MET", SEQUENTIAL_SHARE if binary else 1.0
    error = share * (alpha if met else beta)
    seen = units if met else 1 - units
    limit = lower_limit(int(seen.sum()), len(seen), error) if binary else lowest_uncrossed(seen, error)
    return VerdictBasis("sequence", error, _beyond(bar, limit if met else 1 - limit, met))


def _exact_limit(outcome: Outcome, units: Array, bar: float, alpha: float, beta: float) -> VerdictBasis:
    n, right, met = len(units), int(units.sum()), outcome == "MET"
    error = FINAL_SHARE * (alpha if met else beta)
    limit = binomial_limit(right if met else n - right, n, error)
    return VerdictBasis("exact", error, _beyond(bar, limit if met else 1 - limit, met))


def binomial_limit(successes: int, n: int, error: float) -> float:
    """Clopper-Pearson's lower limit of a rate. Oracle: statsmodels `proportion_confint`, "beta"."""
    from scipy.special import betaincinv

    return float(betaincinv(successes, n - successes + 1, error)) if successes else 0.0


def _beyond(bar: float, limit: float, met: bool) -> float:
    """The limit, never on the wrong side of the bar, which the rule has rejected: roots are rounded, grids coarse."""
    return max(bar, limit) if met else min(bar, limit)


def binomial_tail(successes: int, n: int, rate: float) -> float:
    """P(X >= successes) for X binomial(n, rate)."""
    from scipy.special import betainc

    return 1.0 if successes <= 0 else float(betainc(successes, n - successes + 1, rate))


def least_tail(n: int, rate: float, error: float) -> int:
    """The least number of successes of n that is at most as likely as `error`, or more; n + 1 where none is."""
    from scipy.special import betainc

    if error == 0:
        return n + 1
    successes = np.arange(1, n + 1)
    rare = np.flatnonzero(betainc(successes, n - successes + 1, rate) <= error * (1 + ROUNDING))
    return int(successes[rare[0]]) if len(rare) else n + 1


def _judgement(outcome: Outcome, units: Array, available: int, alpha: float, binary: bool) -> Judgement:
    if alpha == 0:
        interval = (0.0, 1.0)
    else:
        interval = binary_interval(int(units.sum()), len(units), alpha) if binary else graded_interval(units, alpha)
    return Judgement(outcome, float(units.mean()), len(units), available, interval)


def _run_length(rate: float, level: float) -> int:
    """Smallest n >= 1 with rate^n <= level."""
    n = max(1, math.floor(math.log(level) / math.log(rate)) - 1)
    while rate**n > level * (1 + ROUNDING):
        n += 1
    return n


def _needed_binary(units: Array, bar: float, alpha: float, beta: float) -> int | None:
    """Size of a new test that would decide with power 0.8 if the rate seen is the true one, at least one more; None beyond ten test
    sets or at the bar.
    """
    n, rate = len(units), float(units.mean())
    if math.isclose(rate, bar, rel_tol=0, abs_tol=1e-12) or (alpha if rate > bar else beta) == 0:
        return None
    needed = max(items_against_bar(rate, bar=bar, alpha=alpha, beta=beta), n + 1)
    return needed if needed <= FARTHEST * n else None


def _needed_graded(units: Array, bar: float, alpha: float, beta: float) -> int | None:
    """Units that would decide with power about 0.8 if the scores to come are like those seen; None as above.

    With the stake of the final mean and variance, log wealth gains g an item with deviation s. From the wealth in hand
    the distance L to ln(1/error) is covered with probability 0.8 after k items where k g - 0.84 s sqrt(k) = L.
    """
    above = float(units.mean()) > bar
    x, t, error = (units, bar, alpha) if above else (1 - units, 1 - bar, beta)
    if error == 0:
        return None
    n = len(x)
    mean = float((0.5 + x.sum()) / (n + 1))
    variance = float((0.25 + ((x - x.mean()) ** 2).sum()) / (n + 1))
    gains = np.log1p(float(best_bet(mean, variance, t)) * (x - t))
    gain, deviation = float(gains.mean()), float(gains.std())
    if gain <= 0:
        return None
    distance = -math.log(error) - float(log_wealth_above(x, t)[-1])
    slack = POWER_QUANTILE * deviation
    root = (slack + math.sqrt(slack**2 + 4 * gain * distance)) / (2 * gain)
    needed = n + max(1, math.ceil(root**2))
    return needed if needed <= FARTHEST * n else None
