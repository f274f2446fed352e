"""Laws of the evidence that hold for every input."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from lastresort.evals.evidence.bar import judge_bar
from lastresort.evals.evidence.martingale import log_evidence_above
from lastresort.evals.evidence.noninferiority import holm, non_inferior
from lastresort.evals.evidence.paired import better
from lastresort.evals.evidence.selection import choose
from lastresort.evals.evidence.tango import tango_interval

binary_scores = st.lists(st.sampled_from([0.0, 1.0]), min_size=1, max_size=120)
graded_scores = st.lists(st.floats(0, 1), min_size=1, max_size=60)
bars = st.floats(0.05, 0.95)
quick = settings(max_examples=60, deadline=None)


@quick
@given(binary_scores, bars, st.integers(1, 30))
def test_batches_do_not_matter(scores: list[float], bar: float, batch: int) -> None:
    """Item by item or in batches: the same verdict from the same items."""
    whole = judge_bar(scores, bar=bar, alpha=0.05, binary=True)
    for end in range(batch, len(scores) + batch, batch):
        judged = judge_bar(scores[:end], bar=bar, alpha=0.05, binary=True, n_available=len(scores))
        if judged is not None:
            assert judged == whole
            return
    raise AssertionError("the last batch must decide")


@quick
@given(graded_scores, bars, st.booleans())
def test_a_judgement_is_sound(scores: list[float], bar: float, as_binary: bool) -> None:
    values = [float(round(s)) for s in scores] if as_binary else scores
    judged = judge_bar(values, bar=bar, alpha=0.05, binary=as_binary)
    assert judged is not None
    low, high = judged.interval
    assert 0 <= low <= judged.score + 1e-12
    assert judged.score - 1e-12 <= high <= 1
    assert 1 <= judged.n_used <= judged.n_available == len(values)
    if judged.n_used < len(values):
        assert judged.outcome != "UNDECIDED"
        assert low >= bar - 1e-9 or high <= bar + 0.06
    if judged.n_needed is not None:
        assert judged.outcome == "UNDECIDED"
        assert len(values) < judged.n_needed <= 10 * len(values)


@quick
@given(st.integers(1, 200), st.floats(0, 1), st.floats(0.02, 0.98), st.floats(0.02, 0.98))
def test_evidence_falls_in_the_bar_below_the_rate(n: int, share: float, one: float, other: float) -> None:
    """What the inversion of E rests on: below the rate seen it is monotone, and at that rate at most 1."""
    s = round(share * n)
    low, high = sorted((one, other))
    assume(high <= s / n)
    assert float(log_evidence_above(s, n, low)) >= float(log_evidence_above(s, n, high)) - 1e-9
    if 0 < s < n:
        assert float(log_evidence_above(s, n, s / n)) <= 1e-9


@quick
@given(st.data())
def test_exchanging_the_systems_mirrors_the_comparison(data: st.DataObject) -> None:
    a = data.draw(binary_scores)
    b = data.draw(st.lists(st.sampled_from([0.0, 1.0]), min_size=len(a), max_size=len(a)))
    one, other = better(a, b, binary=True), better(b, a, binary=True)
    assert one.difference == -other.difference
    assert math.isclose(one.interval[0], -other.interval[1], abs_tol=1e-9)
    assert one.p + other.p >= 1
    assert one.interval[0] - 1e-9 <= one.difference <= one.interval[1] + 1e-9


@quick
@given(st.integers(0, 30), st.integers(0, 30), st.integers(60, 200))
def test_tango_narrows_with_confidence(b: int, c: int, n: int) -> None:
    wide, narrow = tango_interval(b, c, n, 0.95), tango_interval(b, c, n, 0.8)
    assert wide[0] < narrow[0] <= (b - c) / n <= narrow[1] < wide[1]


@pytest.mark.slow
@settings(max_examples=60, deadline=None)
@given(st.integers(0, 12), st.integers(0, 30), st.integers(60, 240), st.sampled_from([0.025, 0.05]))
def test_the_interval_lies_where_the_verdict_is(wins: int, losses: int, n: int, alpha: float) -> None:
    """The exact test decides; the limits beside it are the score test's, which near the margin may differ from it."""
    base = [0.0] * wins + [1.0] * (n - wins)
    tuned = [1.0] * wins + [0.0] * losses + [1.0] * (n - wins - losses)
    found = non_inferior(base, tuned, margin=0.05, binary=True, alpha=alpha)
    low, high = found.interval
    assert low <= found.difference <= high
    assert (found.verdict == "NON_INFERIOR") == (low > -0.05)
    assert (found.p_regressed <= alpha) == (high < -0.05)


@pytest.mark.slow
@settings(max_examples=25, deadline=None)
@given(st.integers(0, 8), st.integers(0, 8), st.integers(20, 60))
def test_a_larger_margin_is_easier(b: int, c: int, n: int) -> None:
    base = [0.0] * b + [1.0] * (n - b)
    tuned = [1.0] * b + [0.0] * c + [1.0] * (n - b - c)
    p = [non_inferior(base, tuned, margin=margin, binary=True).p for margin in (0.05, 0.15, 0.3)]
    assert p[0] >= p[1] - 1e-6
    assert p[1] >= p[2] - 1e-6


@quick
@given(st.lists(st.floats(0, 1), max_size=12))
def test_holm_lies_between_plain_and_bonferroni(p_values: list[float]) -> None:
    adjusted = holm(p_values)
    for p, corrected in zip(p_values, adjusted, strict=True):
        assert p <= corrected <= min(1.0, len(p_values) * p) + 1e-12
    assert list(np.argsort(p_values, kind="stable")) == list(np.lexsort((p_values, adjusted)))


@quick
@given(st.dictionaries(st.sampled_from("abcde"), st.tuples(st.integers(0, 40), st.integers(1, 9)), min_size=1))
def test_the_choice_is_never_far_below_the_best(variants: dict[str, tuple[int, int]]) -> None:
    """40 items show nothing at .02, so that only variants within one item of the best can be chosen."""
    scores = {name: [1.0] * right + [0.0] * (40 - right) for name, (right, _) in variants.items()}
    choice = choose(scores, {name: cost for name, (_, cost) in variants.items()})
    best = max(right for right, _ in variants.values())
    assert variants[choice.name][0] >= best - 1
    cheaper = [
        name for name, (right, cost) in variants.items() if right >= best - 1 and cost < variants[choice.name][1]
    ]
    assert not cheaper
