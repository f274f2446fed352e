"""How many items a comparison with a margin needs, before it is made and after it could not decide. Pure."""

from __future__ import annotations

import math

from lastresort.errors import ContractError
from lastresort.evals.evidence.tango import score_variance

FARTHEST = 10
POWER = 0.8
_LEAST_SPREAD = 1e-6


def items_needed(
    margin: float,
    spread: float,
    *,
    power: float = POWER,
    alpha: float = 0.05,
    binary: bool = True,
    difference: float = 0.0,
) -> int:
    """Items (or groups) at which a true difference is told from a loss of `margin`, with probability `power`.

    n d - h = (z_alpha s0 + z_power s1) sqrt(n), d = |difference + margin|, s1 the standard deviation of a difference and s0 the
    one that Tango's test takes it for under a loss of `margin`. h items are taken off: half of one for the exact test, whose
    tables are steps, one for graded scores, whose test reckons with an item that it has not seen. About 6.18 spread/d^2 at .05
    and .8. Never less than a comparison without any differing item takes, ln(alpha)/ln(1 - margin).

    margin: in (0, 1). spread: mean squared difference, of 0/1 scores the share of items that differ. difference: the true one,
    tuned - base; 0 where nothing was lost. Raises ContractError on numbers outside their range, or a difference of -margin.
    Tests: tests/simulation/test_gate_power.py.
    """
    from scipy.special import ndtri

    _check(margin, spread, power, alpha, difference)
    distance = abs(difference + margin)
    assumed, true = _deviations(margin, spread, difference, binary)
    root = -float(ndtri(alpha)) * assumed + float(ndtri(power)) * true
    planned = ((root + math.sqrt(root**2 + 4 * _taken_off(binary) * distance)) / (2 * distance)) ** 2
    least = math.ceil(math.log(alpha) / math.log1p(-(margin if difference > -margin else 1 - margin)))
    if difference == 0 and _untouched(least, spread, binary) >= power:
        return least
    return max(math.ceil(planned), least)


def power_of(n: int, margin: float, spread: float, *, alpha: float = 0.05, binary: bool = True) -> float:
    """About the probability that n items show a loss below `margin` where nothing was lost: `items_needed`, turned round."""
    from scipy.special import ndtr, ndtri

    _check(margin, spread, POWER, alpha, 0.0)
    if n < math.log(alpha) / math.log1p(-margin):
        return 0.0
    assumed, true = _deviations(margin, max(spread, _LEAST_SPREAD), 0.0, binary)
    quantile = ((n * margin - _taken_off(binary)) / math.sqrt(n) + float(ndtri(alpha)) * assumed) / true
    return max(float(ndtr(quantile)), _untouched(n, spread, binary))


def _deviations(margin: float, spread: float, difference: float, binary: bool) -> tuple[float, float]:
    """Standard deviations of one item's difference: as the score test takes it for at the expected table, and the true one."""
    spread = max(spread, abs(difference))
    variance = spread - difference**2
    if not binary:
        return math.sqrt(variance), math.sqrt(variance)
    assumed = float(score_variance((spread + difference) / 2, (spread - difference) / 2, 1, -margin))
    return math.sqrt(assumed), math.sqrt(variance)


def _untouched(n: int, spread: float, binary: bool) -> float:
    """A chance, at most the true one, that none of n items differs, which alone shows that nothing was lost if n are enough."""
    return (1 - spread) ** n if binary or spread == 0 else 0.0


def _taken_off(binary: bool) -> float:
    return 0.5 if binary else 1.0


def items_that_decide(
    margin: float,
    spread: float,
    difference: float,
    n: int,
    *,
    power: float = POWER,
    alpha: float = 0.05,
    binary: bool = True,
) -> int | None:
    """Items that would decide a comparison which `n` could not: first as if nothing was lost, and where there are as many already,
    as if the difference seen is the true one. None where that is more than ten times n, or no number would do.
    """
    planned = items_needed(margin, spread, power=power, alpha=alpha, binary=binary)
    if planned > n:
        return planned
    if math.isclose(difference, -margin, rel_tol=0, abs_tol=1e-12):
        return None
    needed = items_needed(margin, spread, power=power, alpha=alpha, binary=binary, difference=difference)
    return max(needed, n + 1) if needed <= FARTHEST * n else None


def _check(margin: float, spread: float, power: float, alpha: float, difference: float) -> None:
    if not (0 < margin < 1 and 0 <= spread <= 1 and 0.5 <= power < 1 and 0 < alpha < 0.5 and -1 < difference < 1):
        raise ContractError(
            f"margin {margin!r}, spread {spread!r}, power {power!r}, alpha {alpha!r}, difference {difference!r}",
            expected="0 < margin < 1, 0 <= spread <= 1, 0.5 <= power < 1, 0 < alpha < 0.5, -1 < difference < 1",
        )
    if difference == -margin:
        raise ContractError("a difference of exactly the margin, which no number of items tells from it")
