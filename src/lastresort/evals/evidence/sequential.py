"""Did a system get worse by more than a margin, where the test may stop at any look? Pure.

Two bets are kept on the paired differences d of tuned - base, in [-1, 1], in an order that was drawn before. One gains where the
loss stays below the margin m, the other where it exceeds it. In a fair game a fortune is rare, so a fortune is evidence: 1 over the
largest amount ever held is a p value, valid at every look (Ville's inequality). Half of the error is spent so, half on one test of
a fixed size, if so many items come. Looking may go on after it.

Source: Waudby-Smith and Ramdas 2024 (estimating means of bounded variables by betting); Ville 1939. Which stakes: docs/log.md.
Simulations: docs/gate-simulations.md.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np

from lastresort.errors import ContractError
from lastresort.evals.evidence.noninferiority import NonInferiority, Standing, items_that_decide, non_inferior
from lastresort.evals.evidence.paired import paired_differences
from lastresort.evals.evidence.units import Array

STAKES = (0.05, 0.1, 0.2, 0.4, 0.7, 0.98)  # of the largest stake; 1 could lose everything to one item
LOOKING = 0.5  # share of the error that is spent on looking; the rest is for the test of a fixed size
_HALVINGS = 40


def log_evidence(differences: Array, value: float) -> Array:
    """Log of the evidence, after each unit, that the true mean of the differences is above `value`.

    E = mean over stakes l of prod_i (1 + l (d_i - value)/(1 + value)), with each factor at least 1 - l. Where the mean is at most
    `value`, no factor gains on average, so E exceeds 1/a at any time with probability at most a. For "below value", give
    -differences and -value.

    differences: in [-1, 1], units along the last axis. value: in (-1, 1). Returns the shape of differences.
    """
    return _log_fortune(_log_stakes(differences, value).cumsum(axis=-1))


def _log_stakes(differences: Array, value: float) -> Array:
    """Log of what each stake makes of each unit, stakes first."""
    gains = (differences - value) / (1 + value)
    return np.stack([np.log1p(stake * gains) for stake in STAKES])


def _log_fortune(paths: Array) -> Array:
    """Log of the mean over the stakes."""
    return np.asarray(np.logaddexp.reduce(paths, axis=0) - math.log(len(STAKES)), dtype=np.float64)


def running_p(differences: Array, value: float, looks: Sequence[int] | None = None) -> Array:
    """p of "the true mean is above `value`" at each look: 1 over the largest evidence of all looks so far, at most 1.

    looks: numbers of units after which the evidence counts, growing; None for every unit. Units of strata that come in turn need
    whole turns between looks: a product of expectations is at most that of their mean only then. Shape (..., looks).
    """
    evidence = log_evidence(differences, value)
    if looks is not None:
        unseen = np.zeros((*evidence.shape[:-1], 1))
        evidence = np.concatenate([unseen, evidence], axis=-1)[..., np.asarray(looks, dtype=np.intp)]
    return np.exp(-np.maximum(np.maximum.accumulate(evidence, axis=-1), 0.0))


def combined_p(looked: float, final: float | None) -> float:
    """One p of what was seen while looking and of the test of a fixed size, each with its share of the error.

    final: None before that. P(it is ever at most a) <= a, by Bonferroni over the two shares.
    """
    return min(1.0, looked / LOOKING, *(() if final is None else (final / (1 - LOOKING),)))


def limits_so_far(differences: Array, looks: Sequence[int] | None = None, *, alpha: float) -> tuple[float, float]:
    """Lower and upper limit of the true mean, each at error `alpha` over all looks: the values that no bet has refuted."""
    return _lower(differences, alpha, looks), -_lower(-differences, alpha, looks)


def _lower(differences: Array, alpha: float, looks: Sequence[int] | None) -> float:
    """Evidence for "above value" falls as value grows, so the last value that it reaches 1/alpha for is found by halving."""
    low, high = -1.0, float(differences.mean())
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        refuted = middle > -1.0 and float(running_p(differences, middle, looks)[-1]) <= alpha
        low, high = (middle, high) if refuted else (low, middle)
    return low


@dataclass(frozen=True, slots=True)
class Looks:
    """When a comparison was looked at. units: how many pairs had come at each look so far, growing. fixed: at which look the test
    of a fixed size is made, 0 being the first, as set beforehand; None if it is not reached.
    """

    units: tuple[int, ...]
    fixed: int | None = None


@dataclass(frozen=True, slots=True)
class LookedP:
    """p of "the loss is smaller than the margin", and of "it is larger", by looking alone, after each look."""

    kept: tuple[float, ...]
    regressed: tuple[float, ...]


def p_by_looking(
    base_scores: Sequence[float],
    tuned_scores: Sequence[float],
    looks: Looks,
    *,
    margin: float,
    groups: Sequence[str] | None = None,
) -> LookedP:
    """Each p already divided by `LOOKING`, so that it is compared with the whole error. Raises as `non_inferior_so_far` does."""
    differences, ends = _counted(base_scores, tuned_scores, looks, groups)
    kept, lost = running_p(differences, -margin, ends), running_p(-differences, margin, ends)
    return LookedP(*(tuple(combined_p(p, None) for p in side.tolist()) for side in (kept, lost)))


def non_inferior_so_far(
    base_scores: Sequence[float],
    tuned_scores: Sequence[float],
    looks: Looks,
    *,
    margin: float,
    binary: bool,
    groups: Sequence[str] | None = None,
    alpha: float = 0.05,
    seed: int = 0,
) -> NonInferiority:
    """As `non_inferior`, of pairs that come one after another and may stop at any of the looks.

    Only the first pair of a group counts while looking, since the mean of a group changes with its next pair; the test of a fixed
    size has all of a group's pairs that came up to it. The interval is what neither looking nor that test refutes. UNDERPOWERED,
    too, where one look showed that little was lost and a later one that much was. n_needed: where the test of a fixed size comes
    after so many.
    Raises ContractError as `non_inferior` does, or if looks do not grow, or end elsewhere than at the last pair.
    """

    def tested(n: int) -> NonInferiority:
        return non_inferior(
            base_scores[:n],
            tuned_scores[:n],
            margin=margin,
            binary=binary,
            groups=None if groups is None else groups[:n],
            alpha=alpha * (1 - LOOKING),
            seed=seed,
        )

    whole = tested(len(base_scores))
    looked = p_by_looking(base_scores, tuned_scores, looks, margin=margin, groups=groups)
    p, p_regressed = looked.kept[-1], looked.regressed[-1]
    low, high = limits_so_far(*_counted(base_scores, tuned_scores, looks, groups), alpha=alpha * LOOKING)
    n_fixed = 0 if looks.fixed is None else looks.units[looks.fixed]
    if n_fixed:
        fixed = whole if n_fixed == len(base_scores) else tested(n_fixed)
        p, p_regressed = (
            combined_p(looked * LOOKING, once) for looked, once in ((p, fixed.p), (p_regressed, fixed.p_regressed))
        )
        low, high = max(low, fixed.interval[0]), min(high, fixed.interval[1])
    kept, lost = p <= alpha, p_regressed <= alpha
    verdict: Standing = "UNDERPOWERED" if kept == lost else "NON_INFERIOR" if kept else "REGRESSED"
    needed = items_that_decide(
        margin,
        whole.spread,
        whole.difference,
        whole.n,
        alpha=alpha * (1 - LOOKING),
        binary=binary and groups is None,
    )
    return replace(
        whole,
        verdict=verdict,
        p=p,
        p_regressed=p_regressed,
        interval=(low, high),
        loss_seen=high < 0,
        n_needed=None if verdict == "NON_INFERIOR" else needed,
    )


def is_in_reach(
    base_scores: Sequence[float],
    tuned_scores: Sequence[float],
    *,
    times: float,
    margin: float,
    groups: Sequence[str] | None = None,
    alpha: float,
) -> bool:
    """Whether looking would decide after `times` as many pairs: that little was lost, if as many of the rest differ as of these but
    nothing more is lost on average, or that much was, if the rest is like these. Decides nothing itself, so it may be asked at any
    look.
    """
    differences, _ = _counted(base_scores, tuned_scores, Looks((len(base_scores),)), groups)
    kept, mirrored, lost = (
        _log_stakes(sided, value).sum(axis=-1)
        for sided, value in ((differences, -margin), (-differences, -margin), (-differences, margin))
    )
    enough = -math.log(LOOKING * alpha)
    rest = (times - 1) * (kept + mirrored) / 2
    return bool(_log_fortune(kept + rest) >= enough or _log_fortune(times * lost) >= enough)


def _counted(
    base_scores: Sequence[float], tuned_scores: Sequence[float], looks: Looks, groups: Sequence[str] | None
) -> tuple[Array, list[int]]:
    """The differences that count while looking, and how many had come at each look."""
    units = looks.units
    growing = all(one <= two for one, two in pairwise(units))
    if not units or units[0] < 0 or units[-1] != len(base_scores) or not growing:
        raise ContractError(f"looks after {units} of {len(base_scores)} pairs", expected="growing, up to the last pair")
    differences = paired_differences(base_scores, tuned_scores, binary=False, groups=None)
    if groups is None:
        return differences, list(units)
    places: dict[str, int] = {}
    for place, label in enumerate(groups):
        places.setdefault(label, place)
    first = np.fromiter(places.values(), dtype=np.intp)
    return differences[first], np.searchsorted(first, units).tolist()


FIRST_LOOK, LEAST_STEP, STEP = 48, 48, 16


def look_schedule(most: int, fixed: int | None = None) -> tuple[int, ...]:
    """After how many items to look: each time a third more, at least 48 more, in steps of 16; the last time after all of `most`.

    fixed: where the test of a fixed size is made, with a look of its own; None for `most`.
    """
    looks = [FIRST_LOOK]
    while looks[-1] < most:
        looks.append(looks[-1] + max(LEAST_STEP, STEP * math.ceil(looks[-1] / 3 / STEP)))
    return tuple(sorted({*(items for items in looks if items < most), most, min(most, fixed or most)}))


def expected_units(margin: float, spread: float, *, alpha: float, binary: bool = True) -> int:
    """About how many units it takes on average to show that less than the margin was lost, where nothing was, without the test at
    the last item.

    log(len(STAKES)/(LOOKING alpha)) over the largest mean log factor of a stake. A little too many where few differ.

    margin: in (0, 1). spread: mean squared difference, of differences of 1 and -1 equally often; of graded scores also of a half.
    """
    if not (0 < margin < 1 and 0 <= spread <= 1 and 0 < alpha < 0.5):
        raise ContractError(f"margin {margin!r}, spread {spread!r}, alpha {alpha!r}", expected="each in its range")
    moves = np.array([-1.0, 0.0, 1.0]) if binary else np.array([-1.0, -0.5, 0.0, 0.5, 1.0])
    share = spread if binary else spread / 0.625  # as many wholes as halves
    each = share / (len(moves) - 1)
    chances = np.where(moves == 0, 1 - share, each)
    growth = max(float(chances @ np.log1p(stake * (moves + margin) / (1 - margin))) for stake in STAKES)
    if growth <= 0:
        return 10**9
    return math.ceil(math.log(len(STAKES) / (LOOKING * alpha)) / growth)
