"""The limit that decided: on the right side of the bar, and equal to what the rule's own formula or its oracle gives."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from statsmodels.stats.proportion import proportion_confint

from lastresort.evals.evidence.bar import judge_bar
from lastresort.evals.evidence.martingale import log_evidence_above, log_wealth_above

BETA = 0.05


def mixed(right: int, n: int, seed: int = 0) -> list[float]:
    scores = np.array([1.0] * right + [0.0] * (n - right))
    np.random.default_rng(seed).shuffle(scores)
    return scores.tolist()


def test_the_exact_step_decides_met_inside_the_interval() -> None:
    """172 of 300 at a bar of .5 and alpha .025: too little for the sequence, enough for Clopper-Pearson."""
    found = judge_bar(mixed(172, 300), bar=0.5, alpha=0.025, binary=True)
    assert found is not None
    assert (found.outcome, found.unit) == ("MET", "item")
    assert found.interval[0] < 0.5  # this is what has to be explained
    assert found.decided is not None
    assert (found.decided.by, found.decided.error) == ("exact", pytest.approx(0.02))
    low, _ = proportion_confint(172, 300, alpha=2 * 0.02, method="beta")
    assert found.decided.limit == pytest.approx(low, abs=1e-9)
    assert found.decided.limit >= 0.5


def test_the_exact_step_decides_not_met() -> None:
    found = judge_bar(mixed(130, 300), bar=0.5, alpha=0.01, binary=True)
    assert found is not None
    assert found.outcome == "NOT_MET"
    assert found.decided is not None
    assert found.decided.by == "exact"
    _, high = proportion_confint(130, 300, alpha=2 * 0.8 * BETA, method="beta")
    assert found.decided.limit == pytest.approx(high, abs=1e-9)


def test_the_sequence_decides_at_its_own_error() -> None:
    found = judge_bar([1.0] * 60, bar=0.8, alpha=0.05, binary=True, n_available=300)
    assert found is not None
    assert found.decided is not None
    assert (found.decided.by, found.decided.error) == ("sequence", pytest.approx(0.01))
    evidence = log_evidence_above(found.n_used, found.n_used, found.decided.limit)
    assert float(evidence) == pytest.approx(-math.log(0.01), abs=1e-6)
    low = judge_bar([0.0] * 60, bar=0.8, alpha=0.05, binary=True, n_available=300)
    assert low is not None
    assert low.decided is not None
    evidence = log_evidence_above(low.n_used, low.n_used, 1 - low.decided.limit)
    assert float(evidence) == pytest.approx(-math.log(0.2 * BETA), abs=1e-6)


def test_graded_not_met_is_decided_at_beta_beside_an_interval_at_alpha() -> None:
    scores = np.clip(np.random.default_rng(2).normal(0.62, 0.2, 400), 0, 1)
    found = judge_bar(scores.tolist(), bar=0.7, alpha=0.0083, binary=False)
    assert found is not None
    assert found.outcome == "NOT_MET"
    assert found.decided is not None
    assert (found.decided.by, found.decided.error) == ("sequence", BETA)
    assert found.decided.limit <= 0.7 < found.interval[1]
    crossed = log_wealth_above(1 - scores[: found.n_used], 1 - found.decided.limit - 0.002).max()
    assert crossed >= -math.log(BETA) - 0.5


def test_groups_are_named() -> None:
    found = judge_bar([1.0, 0.0] * 20, bar=0.9, alpha=0.05, binary=True, groups=[str(i // 2) for i in range(40)])
    assert found is not None
    assert (found.unit, found.n_available) == ("group", 20)


def test_undecided_has_no_limit() -> None:
    found = judge_bar(mixed(25, 50), bar=0.5, alpha=0.05, binary=True)
    assert found is not None
    assert (found.outcome, found.decided) == ("UNDECIDED", None)


@settings(max_examples=60, deadline=None)
@given(
    st.integers(0, 10_000),
    st.sampled_from([0.3, 0.5, 0.8, 0.95, 0.6543]),
    st.sampled_from([0.01, 0.05]),
    st.booleans(),
)
def test_the_limit_agrees_with_the_verdict(seed: int, bar: float, alpha: float, binary: bool) -> None:
    generator = np.random.default_rng(seed)
    rate = generator.uniform(0.05, 0.99)
    scores = (generator.random(120) < rate).astype(float) if binary else generator.beta(4 * rate, 4 * (1 - rate), 120)
    found = judge_bar(scores.tolist(), bar=bar, alpha=alpha, binary=binary)
    assert found is not None
    if found.outcome == "UNDECIDED":
        assert found.decided is None
        return
    assert found.decided is not None
    assert found.decided.limit >= bar if found.outcome == "MET" else found.decided.limit <= bar
    assert found.decided.limit <= found.score if found.outcome == "MET" else found.decided.limit >= found.score
