"""Non-inferiority keeps its size: 0/1 scores exactly, over all tables; graded scores by simulation."""

from __future__ import annotations

import math

import numpy as np
import pytest

from lastresort.evals.evidence.noninferiority import non_inferior
from lastresort.evals.evidence.tango import exact_p_more_than, score_z

ALPHA = 0.05
Z_ALPHA = 1.6448536269514722


def tables(n: int) -> tuple[np.ndarray, np.ndarray]:
    """All (b, c) with b + c <= n."""
    b, c = np.meshgrid(np.arange(n + 1), np.arange(n + 1), indexing="ij")
    possible = b + c <= n
    return b[possible], c[possible]


def table_chances(b: np.ndarray, c: np.ndarray, n: int, psi: float, loss: float) -> np.ndarray:
    """Chance of each table where a share psi of the items differs and the tuned system loses `loss`."""
    from scipy.special import gammaln, xlogy

    win, lose = (psi - loss) / 2, (psi + loss) / 2
    rest = n - b - c
    log_choose = gammaln(n + 1) - gammaln(b + 1) - gammaln(c + 1) - gammaln(rest + 1)
    return np.exp(log_choose + xlogy(b, win) + xlogy(c, lose) + xlogy(rest, 1 - psi))


def critical_z(n: int, margin: float) -> float:
    """The smallest z whose exact p is at most 0.05, found by bisection: p falls as z grows."""
    b, c = tables(n)
    z = score_z(b, c, n, -margin)
    order = np.argsort(z)
    low, high = 0, len(order) - 1
    while low < high:
        middle = (low + high) // 2
        at = order[middle]
        if exact_p_more_than(int(b[at]), int(c[at]), n, -margin) <= ALPHA:
            high = middle
        else:
            low = middle + 1
    return float(z[order[low]])


@pytest.mark.sampled(3)
@pytest.mark.parametrize(("n", "margin"), [(60, 0.05), (60, 0.1), (120, 0.03), (200, 0.05)])
def test_exact_size_is_at_most_alpha_at_every_share_of_differing_items(n: int, margin: float) -> None:
    b, c = tables(n)
    z = score_z(b, c, n, -margin)
    exact, score = z >= critical_z(n, margin) - 1e-9, z >= Z_ALPHA
    sizes, score_sizes = [], []
    for psi in np.linspace(margin, 0.9, 97):
        chance = table_chances(b, c, n, float(psi), margin)
        sizes.append(chance[exact].sum())
        score_sizes.append(chance[score].sum())
    assert max(sizes) <= ALPHA + 1e-6
    assert max(sizes) > 0.03  # the test is not merely silent
    assert max(score_sizes) > ALPHA  # what the exact p is for


def test_a_larger_loss_is_accepted_less_often() -> None:
    """The boundary is the worst case: beyond the margin the exact test accepts even less."""
    n, margin = 120, 0.05
    b, c = tables(n)
    accepted = score_z(b, c, n, -margin) >= critical_z(n, margin) - 1e-9
    rates = [table_chances(b, c, n, 0.2, loss)[accepted].sum() for loss in (0.0, 0.03, 0.05, 0.08, 0.12)]
    assert rates == sorted(rates, reverse=True)
    assert rates[0] > 5 * rates[2]


def test_the_planned_number_of_items_gives_the_planned_power() -> None:
    """6.18 psi/d^2 items: NON_INFERIOR with probability about 0.8 where nothing was lost (0.75 at psi near d)."""
    psi, margin = 0.08, 0.05
    n = math.ceil(6.18 * psi / margin**2)
    b, c = tables(n)
    accepted = score_z(b, c, n, -margin) >= critical_z(n, margin) - 1e-9
    assert table_chances(b, c, n, psi, 0.0)[accepted].sum() == pytest.approx(0.8, abs=0.06)


@pytest.mark.sampled_slow(2)
@pytest.mark.slow
@pytest.mark.parametrize(("n", "spread"), [(150, 0.15), pytest.param(250, 0.3, marks=pytest.mark.slow)])
def test_graded_size(n: int, spread: float) -> None:
    """At a true loss equal to the margin: NON_INFERIOR, and REGRESSED, in at most 5% + 3 standard errors (400 runs)."""
    runs, margin = 400, 0.04
    generator = np.random.default_rng(21)
    counts = {"NON_INFERIOR": 0, "REGRESSED": 0, "UNDERPOWERED": 0}
    for _ in range(runs):
        base = generator.beta(6, 2, n)
        # Differences are moved inwards where they would leave [0, 1], symmetrically, so that their mean stays.
        reach = np.minimum(spread, np.minimum(base - margin, 1 - (base - margin)))
        tuned = np.clip(base - margin + np.maximum(reach, 0) * generator.uniform(-1, 1, n), -1, 1)
        verdict = non_inferior(base.tolist(), tuned.tolist(), margin=margin, binary=False).verdict
        counts[verdict] += 1
    bound = runs * (ALPHA + 3 * math.sqrt(ALPHA * (1 - ALPHA) / runs))
    assert counts["NON_INFERIOR"] <= bound
    assert counts["REGRESSED"] <= bound


@pytest.mark.slow
def test_groups_keep_the_size_that_single_items_would_break() -> None:
    """Items of a group win and lose together: by groups the size holds, by items it does not."""
    runs, groups, size, margin = 400, 60, 6, 0.1
    generator = np.random.default_rng(22)
    labels = [str(group) for group in range(groups) for _ in range(size)]
    by_group = by_item = 0
    for run in range(runs):
        change = generator.choice([-1.0, 0.0, 1.0], p=[0.25, 0.6, 0.15], size=groups).repeat(size)
        base = np.where(change < 0, 1.0, np.where(change > 0, 0.0, (generator.random(groups * size) < 0.7) * 1.0))
        tuned = base + change
        arguments = {"margin": margin, "binary": True}
        by_group += non_inferior(base.tolist(), tuned.tolist(), groups=labels, **arguments).verdict == "NON_INFERIOR"
        if run < 40:
            by_item += non_inferior(base.tolist(), tuned.tolist(), **arguments).verdict == "NON_INFERIOR"
    assert by_group / runs <= ALPHA + 3 * math.sqrt(ALPHA * (1 - ALPHA) / runs)
    assert by_item / 40 > 0.12
