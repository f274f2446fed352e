"""Grouped rows, split and judged as a climb does it, keep the promised rate of a false MET.

A group's items are answered alike: each group draws its own chance of a right answer. The true score, the mean over groups,
lies at the bar, so that every MET is a false one. Items taken for independent would make it 20 to 40% here instead of 5.
"""

from __future__ import annotations

import math

import numpy as np
import pytest

from lastresort.climb.bar_test import BarRule, judge_so_far, order_of_test
from lastresort.data.split import split_examples
from lastresort.records.record import ItemScore
from lastresort.types import Example, Message

RUNS, BAR, ALPHA = 300, 0.7, 0.05


def pool(generator: np.random.Generator, groups: int, size: int) -> tuple[list[Example], dict[str, float]]:
    """Rows of `groups` groups, and whether each would be answered rightly. Group sizes vary around `size`."""
    rows, right = [], {}
    for number in range(groups):
        chance = float(generator.beta(0.7, 0.3))  # mean 0.7 = the bar; most groups are nearly all right or all wrong
        for _ in range(int(generator.integers(1, 2 * size))):
            name = f"row {len(rows)}"
            rows.append(Example(name, (Message("user", name),), "x", group=f"g{number}"))
            right[name] = float(generator.random() < chance)
    return rows, right


def scored(example: Example, score: float) -> ItemScore:
    return ItemScore(example.id, score, "", "x", "", "stop", None, 1, 1, 0.0, 0.0)


@pytest.mark.parametrize("group_by", [None, "customer"])
@pytest.mark.parametrize("runs", [24, pytest.param(RUNS, marks=pytest.mark.slow)])
def test_false_met_of_grouped_rows(group_by: str | None, runs: int) -> None:
    generator = np.random.default_rng(3)
    met = 0
    for seed in range(runs):
        rows, right = pool(generator, groups=80, size=6)
        test = order_of_test(split_examples(rows, dev=0.2, test=0.5, group_by=group_by, seed=seed).test)
        items = [scored(example, right[example.id]) for example in test]
        outcome = None
        for end in range(16, len(items) + 16, 16):  # the climb looks after every batch
            found = judge_so_far(BarRule(BAR, True, ALPHA), items[:end], test)
            if found is not None:
                outcome = found.outcome
                break
        assert outcome is not None
        met += outcome == "MET"
    assert met / runs <= ALPHA + 3 * math.sqrt(ALPHA * (1 - ALPHA) / runs)
