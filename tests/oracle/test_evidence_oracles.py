"""Evidence equals scipy and statsmodels, or the definition integrated or maximised numerically."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from scipy.integrate import quad
from scipy.optimize import brentq, minimize_scalar
from scipy.stats import binomtest, bootstrap, multinomial, permutation_test
from statsmodels.stats.contingency_tables import mcnemar
from statsmodels.stats.multitest import multipletests
from statsmodels.stats.proportion import proportion_confint

from lastresort.evals.evidence.bar import judge_bar, wilson_interval
from lastresort.evals.evidence.martingale import binary_interval, log_evidence_above, lower_limits
from lastresort.evals.evidence.noninferiority import holm
from lastresort.evals.evidence.paired import better, bootstrap_mean, mcnemar_p, reweighted_mean, sign_flip_p
from lastresort.evals.evidence.tango import exact_p_more_than, p_less_than, p_more_than, score_z, tango_interval
from lastresort.evals.evidence.units import Array


@pytest.mark.parametrize(("s", "n", "bar"), [(9, 10, 0.8), (3, 10, 0.8), (45, 50, 0.7), (0, 5, 0.3), (140, 200, 0.65)])
def test_evidence_is_the_integral_it_claims(s: int, n: int, bar: float) -> None:
    def ratio(p: float) -> float:
        return math.exp(s * math.log(p / bar) + ((n - s) * math.log((1 - p) / (1 - bar)) if s < n else 0.0))

    integral, _ = quad(ratio, bar, 1, points=[max(bar, min(s / n, 0.999))], limit=200)
    assert float(log_evidence_above(s, n, bar)) == pytest.approx(math.log(integral / (1 - bar)), rel=1e-6)


@pytest.mark.parametrize(("s", "n"), [(0, 10), (7, 10), (10, 10), (81, 90)])
def test_binary_interval_is_where_evidence_crosses(s: int, n: int) -> None:
    low, high = binary_interval(s, n, 0.05)
    if s > 0:
        root = brentq(lambda t: float(log_evidence_above(s, n, t)) - math.log(20), 1e-9, s / n - 1e-9)
        assert low == pytest.approx(root, abs=1e-9)
    else:
        assert low == 0.0
    assert high == pytest.approx(1 - binary_interval(n - s, n, 0.05)[0])


@pytest.mark.parametrize("n", [1, 2, 7, 60, 2_000, 20_000])
@pytest.mark.parametrize("error", [0.5, 0.05, 1e-3, 1e-12])
def test_lower_limits_are_those_of_halving(n: int, error: float) -> None:
    s = np.unique(np.linspace(0, n, 60).astype(int))
    low, high = np.zeros(len(s)), s / n
    for _ in range(60):
        middle = np.where(s > 0, (low + high) / 2, 0.5)
        crossed = log_evidence_above(s, n, middle) >= -math.log(error)
        low, high = np.where(crossed, middle, low), np.where(crossed, high, middle)
    assert lower_limits(s, n, error) == pytest.approx(np.where(s > 0, low, 0.0), abs=1e-12)


@pytest.mark.parametrize("n", [1, 60, 20_000])
@pytest.mark.parametrize("error", [0.5, 0.05, 1e-3])
def test_lower_limits_take_few_steps(n: int, error: float, monkeypatch: pytest.MonkeyPatch) -> None:
    """Halving takes 60, also at the end, where a step leads to an end of the bracket."""
    looks: list[int] = []

    def counted(s: Array, n: Array, bar: Array) -> Array:
        looks.append(1)
        return log_evidence_above(s, n, bar)

    monkeypatch.setattr("lastresort.evals.evidence.martingale.log_evidence_above", counted)
    lower_limits(np.arange(n + 1), n, error)
    assert len(looks) <= 15


@pytest.mark.parametrize(("s", "n"), [(0, 20), (17, 20), (20, 20), (250, 300)])
def test_wilson(s: int, n: int) -> None:
    assert wilson_interval(s, n) == pytest.approx(proportion_confint(s, n, 0.05, method="wilson"), abs=1e-12)


def test_the_last_step_is_clopper_pearson() -> None:
    """MET where statsmodels' lower limit (beta, one side 0.8a) reaches the bar; NOT_MET where the upper is below it."""
    for n, bar in ((40, 0.8), (64, 0.9), (33, 0.5)):
        for s in range(n + 1):
            scores = [0.0] * (n - s) + [1.0] * s
            judged = judge_bar(scores, bar=bar, alpha=0.05, binary=True)
            assert judged is not None
            if judged.n_used < n:
                continue
            lower = proportion_confint(s, n, 2 * 0.8 * 0.05, method="beta")[0]
            upper = proportion_confint(s, n, 2 * 0.8 * 0.05, method="beta")[1]
            assert judged.outcome == ("MET" if lower >= bar else "NOT_MET" if upper < bar else "UNDECIDED")


def test_mcnemar() -> None:
    for b, c in itertools.product(range(0, 12, 3), repeat=2):
        if b + c == 0:
            continue
        assert mcnemar_p(b, c) == pytest.approx(binomtest(b, b + c, 0.5, alternative="greater").pvalue)
    assert 2 * mcnemar_p(9, 2) == pytest.approx(mcnemar([[30, 2], [9, 10]], exact=True).pvalue)


def constrained_z(b: int, c: int, n: int, difference: float) -> float:
    """Tango's z with the nuisance found by maximising the likelihood numerically."""
    low, high = max(0.0, -difference), (1 - difference) / 2

    def minus_likelihood(q: float) -> float:
        cells = [(b, q + difference), (c, q), (n - b - c, 1 - 2 * q - difference)]
        return -sum(count * math.log(max(p, 1e-300)) for count, p in cells if count)

    q = minimize_scalar(minus_likelihood, bounds=(low, high), method="bounded", options={"xatol": 1e-12}).x
    return (b - c - n * difference) / math.sqrt(n * (2 * q + difference * (1 - difference)))


@pytest.mark.parametrize(("b", "c", "n"), [(12, 2, 50), (5, 9, 44), (3, 0, 30), (20, 20, 100)])
@pytest.mark.parametrize("difference", [-0.2, -0.05, 0.03, 0.3])
def test_score_z(b: int, c: int, n: int, difference: float) -> None:
    assert float(score_z(b, c, n, difference)) == pytest.approx(constrained_z(b, c, n, difference), rel=1e-4)


@pytest.mark.parametrize(("b", "c", "n"), [(12, 2, 50), (5, 9, 44), (7, 1, 30)])
def test_tango_interval(b: int, c: int, n: int) -> None:
    z = 1.959963984540054
    seen = (b - c) / n
    low = brentq(lambda d: constrained_z(b, c, n, d) - z, -0.999, seen - 1e-6)
    high = brentq(lambda d: constrained_z(b, c, n, d) + z, seen + 1e-6, 0.999)
    assert tango_interval(b, c, n) == pytest.approx((low, high), abs=1e-5)


@pytest.mark.parametrize(("b", "c", "n", "margin"), [(1, 2, 40, 0.1), (4, 3, 60, 0.05), (0, 1, 50, 0.08)])
def test_exact_p_is_the_worst_case_over_all_tables(b: int, c: int, n: int, margin: float) -> None:
    """Enumerated table by table, on a dense grid of the share of differing items."""
    all_b, all_c = (axis.ravel() for axis in np.meshgrid(np.arange(n + 1), np.arange(n + 1)))
    possible = all_b + all_c <= n
    all_b, all_c = all_b[possible], all_c[possible]
    tail = score_z(all_b, all_c, n, -margin) >= float(score_z(b, c, n, -margin)) - 1e-9
    counts = np.stack([all_b, all_c, n - all_b - all_c], axis=1)[tail]
    worst = max(
        multinomial(n, [(psi - margin) / 2, (psi + margin) / 2, 1 - psi]).pmf(counts).sum()
        for psi in np.linspace(margin, 1, 400)
    )
    assert exact_p_more_than(b, c, n, -margin) == pytest.approx(worst, rel=2e-3)
    assert exact_p_more_than(b, c, n, -margin) >= worst - 1e-4


def test_z_grows_with_wins_at_a_fixed_number_of_differing_items() -> None:
    """What `fewest_wins` rests on."""
    for n, difference in itertools.product((20, 75, 160), (-0.1, -0.02, 0.02, 0.3)):
        for differing in range(1, n + 1):
            wins = np.arange(differing + 1)
            assert (np.diff(score_z(wins, differing - wins, n, difference)) > -1e-9).all()


def test_both_sides_are_one_test() -> None:
    """Above 20,000 items the two p sum to 1; below, to at least 1, since each is a worst case."""
    assert p_less_than(250, 500, 20_001, -0.02) + p_more_than(250, 500, 20_001, -0.02) == pytest.approx(1.0)
    assert 1.0 <= p_less_than(5, 10, 400, -0.02) + p_more_than(5, 10, 400, -0.02) < 1.2
    assert p_less_than(2, 30, 400, -0.02) < 0.01
    assert p_more_than(30, 2, 400, -0.02) < 1e-6


def test_permutation_test() -> None:
    generator = np.random.default_rng(3)
    for n in (5, 9, 12):
        a, b = np.round(generator.random((2, n)), 1)
        expected = permutation_test(
            (b, a), lambda x, y: np.mean(x - y), permutation_type="samples", alternative="greater", n_resamples=np.inf
        ).pvalue
        assert better(a.tolist(), b.tolist(), binary=False).p == pytest.approx(expected)


def test_monte_carlo_flips_are_near_the_exact_p() -> None:
    """18 differences: 2^18 patterns enumerated here, 19,999 drawn there; 4 standard errors."""
    differences = np.random.default_rng(4).normal(0.2, 0.5, 18).clip(-1, 1)
    patterns = 1 - 2 * (np.arange(2**18)[:, None] >> np.arange(18) & 1)
    exact = float((patterns @ differences >= differences.sum() - 1e-12).mean())
    assert sign_flip_p(differences, seed=0) == pytest.approx(exact, abs=4 * math.sqrt(exact * (1 - exact) / 20_000))


@pytest.mark.parametrize("shape", ["skewed", "sparse", "symmetric"])
def test_bca(shape: str) -> None:
    """Within a twentieth of scipy's width: both are bootstraps with their own draws. p_below inverts the limits."""
    generator = np.random.default_rng(6)
    values = {
        "skewed": generator.exponential(0.2, 60).clip(0, 1) - 0.1,
        "sparse": generator.choice([0.0, 1.0, -1.0], p=[0.8, 0.15, 0.05], size=120),
        "symmetric": generator.normal(0, 0.2, 80),
    }[shape]
    theirs = bootstrap((values,), np.mean, method="BCa", n_resamples=9999, rng=1).confidence_interval
    ours = bootstrap_mean(values, seed=2)
    assert ours is not None
    low, high = ours.interval(0.95)
    width = theirs.high - theirs.low
    assert low == pytest.approx(theirs.low, abs=width / 20)
    assert high == pytest.approx(theirs.high, abs=width / 20)


@pytest.mark.parametrize(("losses", "n"), [(0, 60), (1, 50), (3, 80), (30, 60), (60, 60)])
def test_reweighted_mean_of_right_and_wrong_is_the_exact_binomial_test(losses: int, n: int) -> None:
    """Values -1 and 1 are a rate: the lower limit is Clopper-Pearson's, p the binomial tail; 4 standard errors of 9,999 draws."""
    drawn = reweighted_mean(np.array([-1.0] * losses + [1.0] * (n - losses)), seed=3)
    low, high = proportion_confint(n - losses, n, 0.1, method="beta")
    assert drawn.interval(0.9) == pytest.approx((2 * low - 1, 2 * high - 1), abs=0.02)
    for rate in (0.5, 0.9, 0.97):
        above = binomtest(n - losses, n, rate, alternative="greater").pvalue
        below = binomtest(n - losses, n, rate, alternative="less").pvalue
        error = 4 * math.sqrt(0.25 / 9_999)
        assert drawn.p_above(2 * rate - 1) == pytest.approx(above, abs=error)
        assert drawn.p_below(2 * rate - 1) == pytest.approx(below, abs=error)


def test_reweighted_mean_by_integration() -> None:
    """Two halves and two wholes lost of 40: P(sum of weight (value + d) - (1 - d) unseen <= 0), by the characteristic function."""
    values, d = np.array([-1.0] * 2 + [-0.5] * 2 + [0.5] * 1 + [0.0] * 35), 0.2
    ours = reweighted_mean(values, seed=1).p_above(-d)
    slopes = np.append(values + d, d - 1)
    t = np.exp(np.linspace(-14, 8, 40_001))
    phase = np.prod(1 / (1 - 1j * t[:, None] * slopes), axis=1).imag
    exact = 0.5 - np.trapezoid(phase, np.log(t)) / math.pi
    assert ours == pytest.approx(exact, abs=4 * math.sqrt(exact * (1 - exact) / 9_999))


def test_holm() -> None:
    p_values = [0.02, 0.5, 0.001, 0.03, 0.03]
    assert holm(p_values) == pytest.approx(multipletests(p_values, method="holm")[1])
