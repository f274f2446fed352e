"""The test of the bar keeps its promised error rates.

0/1 scores: no simulation noise. The chance of every count of right answers is carried forward item by item, and what the
rule decides is taken out, so that the rates below are exact (to rounding). That this is the rule of `judge_bar` is
checked on random sequences. Graded scores: simulated; a rate may exceed its promise by 3 simulation standard errors.
"""

from __future__ import annotations

import math

import numpy as np
import pytest

from lastresort.evals.evidence.bar import binomial_tail, judge_bar
from lastresort.evals.evidence.martingale import binary_interval, log_evidence_above, log_wealth_above

BETA = 0.05
RUNS = 4000


def decisions(bar: float, alpha: float, n: int) -> np.ndarray:
    """Shape (n + 1, n + 1), by items and right answers: 1 MET, -1 NOT_MET, 0 go on (or UNDECIDED at the last item)."""
    items, right = np.meshgrid(np.arange(n + 1.0), np.arange(n + 1.0), indexing="ij")
    right = np.minimum(right, items)
    met = log_evidence_above(right, items, bar) >= -math.log(0.2 * alpha)
    not_met = log_evidence_above(items - right, items, 1 - bar) >= -math.log(0.2 * BETA)
    table = met.astype(int) - not_met.astype(int)
    for s in range(n + 1):
        if table[n, s] == 0:
            at_end_met = binomial_tail(s, n, bar) <= 0.8 * alpha
            table[n, s] = int(at_end_met) - int(binomial_tail(n - s, n, 1 - bar) < 0.8 * BETA)
    return table


def exact_rates(rate: float, bar: float, alpha: float, n: int) -> dict[str, float]:
    """P(MET), P(NOT_MET) and the mean number of items used where each answer is right with probability `rate`."""
    table = decisions(bar, alpha, n)
    going_on = np.zeros(n + 1)
    going_on[0] = 1.0
    met = not_met = used = 0.0
    for item in range(1, n + 1):
        used += going_on.sum()
        going_on = going_on * (1 - rate) + np.concatenate([[0.0], going_on[:-1]]) * rate
        met += going_on[table[item] == 1].sum()
        not_met += going_on[table[item] == -1].sum()
        going_on = np.where(table[item] == 0, going_on, 0.0)
    return {"met": met, "not_met": not_met, "used": used}


def test_the_numbers_of_the_design() -> None:
    at_bar = exact_rates(0.8, 0.8, 0.05, 300)
    above = exact_rates(0.9, 0.8, 0.05, 300)
    below = exact_rates(0.7, 0.8, 0.05, 300)
    assert at_bar["met"] == pytest.approx(0.037, abs=0.002)
    assert above["met"] == pytest.approx(1.0, abs=0.005)
    assert above["used"] == pytest.approx(141, abs=3)
    assert below["not_met"] == pytest.approx(0.99, abs=0.005)
    assert below["used"] == pytest.approx(192, abs=3)


@pytest.mark.sampled_slow(4)
@pytest.mark.sampled(10)
@pytest.mark.parametrize("n", [30, 100, 400])
@pytest.mark.parametrize("alpha", [0.01, 0.0125, 0.025, 0.05])
@pytest.mark.parametrize("bar", [0.3, 0.5, 0.8, 0.85, 0.95])
def test_binary_error_rates_are_kept(bar: float, alpha: float, n: int) -> None:
    at_bar = exact_rates(bar, bar, alpha, n)
    assert at_bar["met"] <= alpha
    assert at_bar["not_met"] <= BETA


def test_the_rates_fall_away_from_the_bar() -> None:
    assert exact_rates(0.78, 0.8, 0.05, 300)["met"] < exact_rates(0.8, 0.8, 0.05, 300)["met"]
    assert exact_rates(0.82, 0.8, 0.05, 300)["not_met"] < exact_rates(0.8, 0.8, 0.05, 300)["not_met"]


def test_clear_cases_stop_early() -> None:
    assert exact_rates(0.99, 0.8, 0.05, 300)["used"] < 60
    assert exact_rates(0.1, 0.8, 0.05, 300)["used"] < 12


@pytest.mark.parametrize(("bar", "alpha", "n"), [(0.8, 0.05, 60), (0.5, 0.0125, 150), (0.95, 0.01, 120)])
def test_judge_bar_follows_the_table(bar: float, alpha: float, n: int) -> None:
    table = decisions(bar, alpha, n)
    generator = np.random.default_rng(5)
    for rate in np.repeat([bar, bar - 0.2, (1 + bar) / 2], 40):
        scores = (generator.random(n) < rate).astype(float)
        judged = judge_bar(scores.tolist(), bar=bar, alpha=alpha, binary=True)
        assert judged is not None
        reached = table[np.arange(1, n + 1), np.cumsum(scores).astype(int)]
        deciding = np.flatnonzero(reached)
        outcome = {1: "MET", -1: "NOT_MET", 0: "UNDECIDED"}[int(reached[deciding[0]]) if len(deciding) else 0]
        assert judged.outcome == outcome
        assert judged.n_used == (int(deciding[0]) + 1 if len(deciding) else n)


@pytest.mark.parametrize("rate", [0.5, 0.8, 0.95])
def test_binary_interval_covers_at_every_tenth_item(rate: float) -> None:
    """Exact: the chance that the true rate is outside at any of the looks within 120 items is at most 2a."""
    n, error = 120, 0.05
    outside = np.zeros((n + 1, n + 1), dtype=bool)
    for item in range(1, n + 1):
        limits = [binary_interval(s, item, error) for s in range(item + 1)] if item % 10 == 0 else []
        for s, (low, high) in enumerate(limits):
            outside[item, s] = not low <= rate <= high
    inside = np.zeros(n + 1)
    inside[0] = 1.0
    missed = 0.0
    for item in range(1, n + 1):
        inside = inside * (1 - rate) + np.concatenate([[0.0], inside[:-1]]) * rate
        missed += inside[outside[item]].sum()
        inside = np.where(outside[item], 0.0, inside)
    assert missed <= 2 * error


def shaped(shape: str, mean: float, n: int, generator: np.random.Generator) -> np.ndarray:
    """Scores in [0, 1] with exactly this mean, shape (RUNS, n)."""
    size = (RUNS, n)
    if shape == "bernoulli":
        return (generator.random(size) < mean).astype(float)
    if shape == "beta":
        return generator.beta(4 * mean, 4 * (1 - mean), size)
    if shape == "narrow":
        return np.clip(mean + 0.02 * (generator.random(size) - 0.5), 0, 1)
    raise AssertionError(shape)


def crossing_rate(scores: np.ndarray, bar: float, error: float) -> float:
    return float((log_wealth_above(scores, bar).max(axis=-1) >= -math.log(error)).mean())


def allowed(rate: float, runs: int = RUNS) -> float:
    """The promised rate plus 3 standard errors of its simulation."""
    return rate + 3 * math.sqrt(rate * (1 - rate) / runs)


@pytest.mark.sampled_slow(4)
@pytest.mark.sampled(6)
@pytest.mark.parametrize("alpha", [0.01, 0.025, 0.05])
@pytest.mark.parametrize("bar", [0.3, 0.6, 0.85])
@pytest.mark.parametrize("shape", ["bernoulli", "beta", "narrow"])
def test_graded_error_rates_are_kept(shape: str, bar: float, alpha: float) -> None:
    scores = shaped(shape, bar, 300, np.random.default_rng(11))
    assert crossing_rate(scores, bar, alpha) <= allowed(alpha)
    assert crossing_rate(1 - scores, 1 - bar, BETA) <= allowed(BETA)


def test_a_constant_at_the_bar_is_never_decided() -> None:
    constant = np.full((1, 2000), 0.7)
    assert crossing_rate(constant, 0.7, 0.05) == 0.0
    assert crossing_rate(1 - constant, 1 - 0.7, 0.05) == 0.0


def test_graded_test_finds_clear_cases() -> None:
    generator = np.random.default_rng(12)
    assert crossing_rate(shaped("beta", 0.9, 300, generator), 0.8, 0.05) > 0.99
    assert crossing_rate(1 - shaped("beta", 0.7, 300, generator), 1 - 0.8, 0.05) > 0.9


def clustered(mean: float, correlation: float, groups: int, size: int, generator: np.random.Generator) -> np.ndarray:
    """0/1 scores whose groups share a rate, beta distributed with this intra-group correlation; (RUNS, groups, size)."""
    weight = (1 - correlation) / correlation
    rates = generator.beta(mean * weight, (1 - mean) * weight, (RUNS, groups, 1))
    return (generator.random((RUNS, groups, size)) < rates).astype(float)


@pytest.mark.parametrize("correlation", [0.2, 0.6])
def test_groups_keep_the_error_rate_that_single_rows_would_break(correlation: float) -> None:
    bar, alpha, groups, size = 0.8, 0.05, 60, 8
    scores = clustered(bar, correlation, groups, size, np.random.default_rng(13))
    assert crossing_rate(scores.mean(axis=-1), bar, alpha) <= allowed(alpha)
    n = groups * size
    table = decisions(bar, alpha, n)
    right = np.cumsum(scores.reshape(RUNS, n), axis=1).astype(int)
    reached = table[np.arange(1, n + 1)[None, :], right]
    first = (reached != 0).argmax(axis=1)
    as_rows = float((reached[np.arange(RUNS), first] == 1).mean())
    assert as_rows > 0.08


def test_judge_bar_agrees_with_the_wealth_on_groups() -> None:
    scores = clustered(0.9, 0.3, 60, 4, np.random.default_rng(14))[:20]
    labels = [str(group) for group in range(60) for _ in range(4)]
    for run in scores:
        judged = judge_bar(run.ravel().tolist(), bar=0.8, alpha=0.05, binary=True, groups=labels)
        assert judged is not None
        wealth = log_wealth_above(run.mean(axis=-1), 0.8)
        crossed = np.flatnonzero(wealth >= -math.log(0.05))
        assert judged.n_available == 60
        assert (judged.outcome == "MET") == bool(len(crossed))
        if len(crossed):
            assert judged.n_used == crossed[0] + 1
