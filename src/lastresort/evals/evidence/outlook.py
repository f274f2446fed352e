"""How far an UNDECIDED test of the bar is from a verdict, and how its test goes on with fresh items. Pure.

**The rule.** n 0/1 items were judged at the errors (a, b) and ended UNDECIDED with S right. Their exact step at the last item is
spent and is never repeated. Fresh items are judged by the rule of `judge_bar` as a test set of their own, at the errors

    a' = theta E(S, n),    theta = (a - P_t(MET)) / P_u(UNDECIDED),

mirrored for b'. E: the evidence of `log_evidence_above`. P_t(MET): the chance that the n items say MET where the rate equals the
bar t, which is what they really spend of a. P_u(UNDECIDED) = sum over S of P_t(UNDECIDED with S right) E(S, n): the chance of
UNDECIDED where the rate is uniform above the bar. Both are taken as if no NOT_MET ended the test, which makes a' a little smaller
(about 1%): so a' does not depend on b, nor b' on a, and a test whose a changes on the way (`climb.shares`) keeps b. If the fresh
items end UNDECIDED, too, the same holds once more, with them as the n.

**Why P(MET, ever) <= a for every rate p <= t**, however often the test goes on, with however many items, and whatever that depends
on: let g be 1 on MET, else a', as if no NOT_MET ended the test. Turning a wrong answer into a right one never lowers g: it can only
lead towards MET, and E rises with S. So E_p g <= E_t g = P_t(MET) + theta P_u(UNDECIDED) = a. Given all that was seen before,
the fresh items say MET with chance at most a', by their own promise, which includes going on after them. So
P_p(MET, ever) <= E_p g. a' depends on nothing but the counts, so the number of fresh items may be chosen after seeing them.

Graded scores and groups have no exact step: their martingale goes on at the whole error.

Source: Mueller and Schaefer 2001, 2004 (conditional rejection probability); Ville 1939. Simulations:
tests/simulation/test_outlook_rates.py.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np

from lastresort.errors import ContractError
from lastresort.evals.evidence.bar import (
    FALSE_NOT_MET,
    FINAL_SHARE,
    POWER,
    ROUNDING,
    SEQUENTIAL_SHARE,
    Counts,
    binomial_limit,
    binomial_tail,
    first_of_each,
    judge_bar,
    least_right,
    least_tail,
    so_far,
)
from lastresort.evals.evidence.martingale import log_evidence_above, log_wealth_above, lower_limits, lowest_uncrossed
from lastresort.evals.evidence.paired import generator_of
from lastresort.evals.evidence.units import Array, as_scores, group_means
from lastresort.types import FARTHEST, Judgement, MoreUnits, Outlook, PartOfTest, VerdictBasis

DRAWS = 1000
MOST_ERROR = 0.5  # of a test that goes on; below 1, so that the proof above holds
_LEAST_ERROR = 1e-300
_CHUNK_CELLS = 2_000_000

Chance = Callable[[int, Array], Array | float]
"""(items so far, of these right) -> the chance that the next is right."""


@dataclass(frozen=True, slots=True)
class Errors:
    """Of a false MET and of a false NOT_MET."""

    alpha: float
    beta: float


@dataclass(frozen=True, slots=True)
class Endings:
    """How a test of n 0/1 items ends: the chance of each verdict, and of UNDECIDED with each number right, shape (n + 1,)."""

    met: float
    not_met: float
    undecided: Array


def judge_going_on(
    parts: Sequence[Sequence[float]], *, bar: float, alpha: float, beta: float = FALSE_NOT_MET, n_available: int
) -> Judgement | None:
    """The verdict of a test of 0/1 scores that goes on after every UNDECIDED (module docstring); None while more items are needed.

    parts: the scores of the test set, then of every file of fresh items; all but the last are whole and ended UNDECIDED.
    n_available: size of the last. P(MET, ever) <= alpha and P(NOT_MET, ever) <= beta on their sides of the bar. n_needed is
    `needed_to_go_on`. Raises ContractError as `judge_bar` does.
    """
    before, errors = parts[:-1], Errors(alpha, beta)
    judged: list[PartOfTest] = []
    for part in before:
        judged.append(_part(part, len(part), errors))
        errors = errors_after(int(sum(part)), len(part), bar, errors)
    found = judge_bar(parts[-1], bar=bar, alpha=errors.alpha, beta=errors.beta, binary=True, n_available=n_available)
    if found is None:
        return None
    open_ = found.outcome == "UNDECIDED"
    if open_:
        found = replace(found, n_needed=needed_to_go_on(parts, bar=bar, alpha=alpha, beta=beta))
    if not before:
        return found
    pooled = np.concatenate([*before, parts[-1][: found.n_used]])
    together = so_far(pooled.tolist(), bar=bar, alpha=alpha, binary=True)
    error = beta if found.outcome == "NOT_MET" else alpha
    return Judgement(
        found.outcome,
        together.score,
        together.n,
        sum(map(len, before)) + n_available,
        together.interval,
        n_needed=found.n_needed,
        decided=None if open_ else VerdictBasis("continued", error, bar),
        parts=(*judged, _part(parts[-1][: found.n_used], n_available, errors)),
    )


def needed_to_go_on(
    parts: Sequence[Sequence[float]], *, bar: float, alpha: float, beta: float = FALSE_NOT_MET
) -> int | None:
    """Items, those of these parts included, with which a test of 0/1 scores that goes on gives MET if its score is above the bar,
    else NOT_MET, with power 0.8 if that is the true score; None at the bar, and beyond ten times the items there are.

    parts: as in `judge_going_on`, all whole. Not the size of a new test, as in `judge_bar`: the fresh items are judged alone, at
    errors of their own, and the items seen count only through these.
    """
    n, right = sum(map(len, parts)), round(sum(map(sum, parts)))
    rate, errors = right / n, _errors_after_all(parts, bar, Errors(alpha, beta))
    if rate < bar:
        rate, bar, errors = 1 - rate, 1 - bar, Errors(errors.beta, errors.alpha)
    if math.isclose(rate, bar, rel_tol=0, abs_tol=1e-12) or errors.alpha == 0:
        return None
    fresh = _fresh_needed(rate, bar, errors, (FARTHEST - 1) * n)
    return None if fresh is None else n + fresh


@lru_cache(maxsize=4096)
def _fresh_needed(rate: float, bar: float, errors: Errors, most: int) -> int | None:
    """Items of a test that says MET with power 0.8 where this is the true rate; None where no number up to `most` is enough.

    The power rises by jumps and falls in between, since the exact step counts whole items. So this is the smallest number from
    which on every number up to `most` is enough, and labelling a few items more does no harm. One way through the items gives the
    power of all numbers, since only the exact step depends on which it is.
    """
    level = FINAL_SHARE * errors.alpha * (1 + ROUNDING)
    n = too_few = 0
    least = 1  # number right at which the exact step says MET; one more item raises it by one at most
    for n, (met, _, low, mass) in enumerate(_item_by_item(most, bar, errors, lambda items, seen: rate), 1):
        if binomial_tail(least, n, bar) > level:
            least += 1
        if met + float(mass[max(0, least - low) :].sum()) < POWER:
            too_few = n
        if met >= POWER or met + float(mass.sum()) < POWER:  # from here on enough, or never
            break
    return None if too_few == n else too_few + 1


def _errors_after_all(parts: Sequence[Sequence[float] | Array], bar: float, errors: Errors) -> Errors:
    for part in parts:
        errors = errors_after(round(sum(part)), len(part), bar, errors)
    return errors


def _part(scores: Sequence[float], n_available: int, errors: Errors) -> PartOfTest:
    return PartOfTest(len(scores), n_available, float(np.mean(scores)), errors.alpha, errors.beta)


def outlook(
    parts: Sequence[Sequence[float]],
    *,
    bar: float,
    alpha: float,
    beta: float = FALSE_NOT_MET,
    binary: bool,
    n_needed: int | None,
    groups: Sequence[str] | None = None,
    seed: int = 0,
    once: bool = False,
) -> Outlook:
    """How far a whole test that ended UNDECIDED is from a verdict. Arguments as in `judge_bar`; n_needed as in its judgement.

    parts: as in `judge_going_on`; one where the test has not gone on. groups: of all parts in turn. once: the test never goes on,
    so only `claimable` is found.

    The chances are of the test as it goes on (module docstring), with as many units again and with those that are missing to
    n_needed. 0/1 scores: exact, the rate having the Beta(1 + S, 1 + n - S) distribution. Graded scores and groups: the share of
    1,000 seeded draws, in which the units to come are drawn with random weights (Bayesian bootstrap) from those seen, a 0 and a 1.

    claimable: the highest bar for which these units say MET at alpha. P(it is above the true score) <= alpha.
    Raises ContractError as `judge_bar` does. Source: Rubin 1981.
    """
    cleaned = [as_scores(part, binary=binary and groups is None) for part in parts]
    units = np.concatenate(cleaned)
    if groups is not None:
        units, binary = group_means(units, groups), False
    if not len(units):
        raise ContractError("no scores", expected="those of a test that ended UNDECIDED")
    n, errors = len(units), Errors(alpha, beta)
    limit = claimable(units, alpha, binary=binary, first=len(cleaned[0]))
    if once:
        return Outlook(None, (), limit, alpha)
    amounts = sorted({n, *([] if n_needed is None else [n_needed - n])})
    after = _after_binary(cleaned, amounts, bar, errors) if binary else _after_graded(units, amounts, bar, errors, seed)
    return Outlook(
        seen_share=None if n_needed is None else n / n_needed,
        after=tuple(MoreUnits(more, met, not_met) for more, (met, not_met) in zip(amounts, after, strict=True)),
        claimable=limit,
        error=alpha,
    )


def claimable(units: Array, alpha: float, *, binary: bool, first: int | None = None) -> float:
    """The highest bar for which these units say MET: the largest limit that any step of the rule of `judge_bar` shows.

    A limit above the true score means that a step of the rule, at its own share of alpha, says MET of a bar above the true score,
    so it happens with probability at most alpha. first: units of the test set, at whose end the exact step is made; None for all.
    """
    if alpha == 0:
        return 0.0
    if not binary:
        return lowest_uncrossed(units, alpha)
    items, right = np.arange(1, len(units) + 1), np.cumsum(units)
    looked = float(lower_limits(right, items, SEQUENTIAL_SHARE * alpha).max())
    end = len(units) if first is None else first
    return max(looked, binomial_limit(int(right[end - 1]), end, FINAL_SHARE * alpha))


def errors_after(right: int, n: int, bar: float, errors: Errors) -> Errors:
    """The errors at which fresh 0/1 items are judged after n at `errors` that ended UNDECIDED with `right` right."""
    return Errors(_left(right, n, bar, errors.alpha), _left(n - right, n, 1 - bar, errors.beta))


def _left(right: int, n: int, bar: float, error: float) -> float:
    """Of the error of a false MET, whatever says NOT_MET (module docstring)."""
    if error == 0:
        return 0.0
    fortune = math.exp(min(700.0, float(log_evidence_above(right, n, bar))))
    left = _theta(n, bar, error) * fortune
    return min(MOST_ERROR, max(left, _LEAST_ERROR))  # the most where a verdict was withheld, as of a judge


@lru_cache(maxsize=4096)
def _theta(n: int, bar: float, error: float) -> float:
    """What the error that is left has in common whatever the number right (module docstring)."""
    ends = endings(n, bar, Errors(error, _LEAST_ERROR), lambda items, seen: bar)
    counts = np.flatnonzero(ends.undecided)
    weights = np.exp(log_evidence_above(counts, n, bar))
    theta = max(0.0, error - ends.met) / float(ends.undecided[counts] @ weights)
    return min(theta, MOST_ERROR / float(weights.max()))


def endings(n: int, bar: float, errors: Errors, chance: Chance) -> Endings:
    """How the test of `judge_bar` on n 0/1 items ends, exactly: the chance of each number right is carried on item by item."""
    *_, (met, not_met, low, mass) = _item_by_item(n, bar, errors, chance)
    rights = np.arange(low, low + len(mass))
    now_met = rights >= least_tail(n, bar, FINAL_SHARE * errors.alpha)
    now_not_met = n - rights >= least_tail(n, 1 - bar, FINAL_SHARE * errors.beta)
    undecided = np.zeros(n + 1)
    undecided[rights] = np.where(now_met | now_not_met, 0.0, mass)
    return Endings(met + float(mass[now_met].sum()), not_met + float(mass[now_not_met].sum()), undecided)


def _item_by_item(n: int, bar: float, errors: Errors, chance: Chance) -> Iterator[tuple[float, float, int, Array]]:
    """After each of n 0/1 items, of the test without its last step: the chance that it has said MET and that it has said NOT_MET,
    the least number right at which it goes on, and the chances of that number and of each next one.
    """
    met_from = least_right(n, bar, SEQUENTIAL_SHARE * errors.alpha)
    not_met_to = np.arange(1, n + 1) - least_right(n, 1 - bar, SEQUENTIAL_SHARE * errors.beta)
    met = not_met = 0.0
    low, mass = 0, np.ones(1)
    for item in range(n):
        step_up = mass * chance(item, np.arange(low, low + len(mass), dtype=np.float64))
        grown = np.zeros(len(mass) + 1)
        grown[:-1] = mass - step_up
        grown[1:] += step_up
        first = min(max(int(not_met_to[item]) + 1 - low, 0), len(grown))
        last = min(max(int(met_from[item]) - low, first), len(grown))
        not_met += float(grown[:first].sum())
        met += float(grown[last:].sum())
        low, mass = low + first, grown[first:last]
        yield met, not_met, low, mass
        if not len(mass):
            return


def _after_binary(
    parts: Sequence[Array], amounts: Sequence[int], bar: float, errors: Errors
) -> Iterator[tuple[float, float]]:
    n, right = sum(map(len, parts)), int(sum(part.sum() for part in parts))
    going_on = _errors_after_all(parts, bar, errors)

    def chance(items: int, seen: Array) -> Array:
        return (1 + right + seen) / (2 + n + items)

    for more in amounts:
        ends = endings(more, bar, going_on, chance)
        yield ends.met, ends.not_met


def _after_graded(
    units: Array, amounts: Sequence[int], bar: float, errors: Errors, seed: int
) -> Iterator[tuple[float, float]]:
    n, most, random = len(units), max(amounts), generator_of(seed)
    values = np.concatenate([units, [0.0, 1.0]])
    ends: list[list[tuple[float, float]]] = [[] for _ in amounts]
    chunk = max(1, _CHUNK_CELLS // (n + most))
    for start in range(0, DRAWS, chunk):
        weights = random.dirichlet(np.ones(len(values)), min(chunk, DRAWS - start))
        ends_at = np.cumsum(weights, axis=1)
        ends_at /= ends_at[:, -1:]
        drawn = np.stack([values[row.searchsorted(random.random(most), side="right")] for row in ends_at])
        scores = np.concatenate([np.broadcast_to(units, (len(drawn), n)), drawn], axis=1)
        met_at = _first_at(log_wealth_above(scores, bar)[:, n:], errors.alpha)
        not_met_at = _first_at(log_wealth_above(1 - scores, 1 - bar)[:, n:], errors.beta)
        for found, more in zip(ends, amounts, strict=True):
            met = (met_at < more) & (met_at <= not_met_at)
            found += zip(met, (not_met_at < more) & ~met, strict=True)
    for found in ends:
        met, not_met = np.mean(found, axis=0).tolist()
        yield met, not_met


def _first_at(evidence: Array, error: float) -> Counts:
    """Of each row, the place at which it first reaches 1/error; the number of places where it does not. evidence: logarithms."""
    return first_of_each(evidence >= (math.inf if error == 0 else -math.log(error)))
