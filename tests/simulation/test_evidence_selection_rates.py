"""Choosing among variants picks well, and the corrected estimate is less biased than the best dev score."""

from __future__ import annotations

import numpy as np
import pytest

from lastresort.evals.evidence.selection import choose, selection_bias_corrected


def drawn(rates: dict[str, float], n: int, generator: np.random.Generator) -> dict[str, list[float]]:
    """Dev scores that share the difficulty of each item, as real variants do."""
    difficulty = generator.random(n)
    own = {name: np.where(generator.random(n) < 0.7, difficulty, generator.random(n)) for name in rates}
    return {name: (own[name] < rate).astype(float).tolist() for name, rate in rates.items()}


@pytest.mark.slow
def test_a_failing_cheap_variant_is_not_picked() -> None:
    """Zero-shot at .70 and five examples at .88, 60 dev items: "not significantly worse" would often say zero-shot."""
    generator = np.random.default_rng(41)
    rates, cost = {"zero": 0.70, "five": 0.88}, {"zero": 60.0, "five": 400.0}
    picked = [choose(drawn(rates, 60, generator), cost).name for _ in range(150)]
    assert picked.count("zero") <= 2


def test_the_cheaper_of_two_equal_variants_wins_where_it_can_be_shown() -> None:
    """The same answers but for one item in 500 on average: the cheap one is shown to be as good."""
    generator = np.random.default_rng(42)
    cost = {"cheap": 1.0, "dear": 5.0}
    picked = []
    for _ in range(20):
        dear = (generator.random(400) < 0.85).astype(float)
        cheap = np.where(generator.random(400) < 0.002, 0.0, dear)
        picked.append(choose({"dear": dear.tolist(), "cheap": cheap.tolist()}, cost).name)
    assert picked.count("cheap") >= 19


@pytest.mark.slow
def test_the_correction_reduces_the_bias() -> None:
    """Eight variants that are all right at .8, 100 items: the best score promises too much, the corrected one does not."""
    generator = np.random.default_rng(43)
    rates = {f"v{i}": 0.8 for i in range(8)}
    best, corrected = [], []
    for seed in range(150):
        scores = {name: (generator.random(100) < rate).astype(float).tolist() for name, rate in rates.items()}
        best.append(max(float(np.mean(s)) for s in scores.values()))
        corrected.append(selection_bias_corrected(scores, seed))
    bias, left = np.mean(best) - 0.8, np.mean(corrected) - 0.8
    assert bias > 0.04
    assert abs(left) < bias / 4


@pytest.mark.slow
def test_the_correction_draws_whole_groups() -> None:
    """Twelve groups of ten items answered alike: items drawn one by one stand on both sides, and nothing is corrected."""
    generator = np.random.default_rng(45)
    labels = [f"g{i // 10}" for i in range(120)]
    best, by_item, by_group = [], [], []
    for seed in range(100):
        scores = {f"v{i}": np.repeat((generator.random(12) < 0.6).astype(float), 10).tolist() for i in range(6)}
        best.append(max(float(np.mean(s)) for s in scores.values()))
        by_item.append(selection_bias_corrected(scores, seed))
        by_group.append(selection_bias_corrected(scores, seed, groups=labels))
    bias = np.mean(best) - 0.6
    assert np.mean(by_item) - 0.6 > 0.8 * bias
    assert abs(np.mean(by_group) - 0.6) < bias / 3


def test_a_group_of_equal_items_counts_as_one_item() -> None:
    generator = np.random.default_rng(46)
    scores = {name: (generator.random(20) < 0.7).astype(float) for name in "abc"}
    repeated = {name: np.repeat(row, 3).tolist() for name, row in scores.items()}
    labels = [f"g{i // 3:02}" for i in range(60)]
    alone = selection_bias_corrected({name: row.tolist() for name, row in scores.items()}, 7)
    assert np.isclose(selection_bias_corrected(repeated, 7, groups=labels), alone)


@pytest.mark.slow
def test_the_correction_does_not_deny_a_clear_winner() -> None:
    generator = np.random.default_rng(44)
    corrected, plain = [], []
    for seed in range(100):
        scores = drawn({"bad": 0.4, "worse": 0.3, "good": 0.9}, 100, generator)
        corrected.append(selection_bias_corrected(scores, seed))
        plain.append(float(np.mean(scores["good"])))
    assert abs(np.mean(corrected) - np.mean(plain)) < 0.002
