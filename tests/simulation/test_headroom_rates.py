"""The check for headroom: how often it sees a difference among prompts that are equally good, and one that is there."""

from __future__ import annotations

import numpy as np

from lastresort.records.measurement import ItemScore
from lastresort.rungs.prompting.headroom import LEVEL, without_headroom

PROMPTS, ITEMS, RUNS = 7, 100, 300


def seen(gain: float, *, agreement: float = 0.7) -> float:
    """Share of runs with headroom. All prompts are right on 60% of items and share most of their answers; the last is better by
    `gain`. agreement: share of items on which a prompt answers as the plain one does, whatever that is.
    """
    random, found = np.random.default_rng(5), 0
    for _ in range(RUNS):
        plain = random.random(ITEMS) < 0.6
        items = {"plain": plain}
        for number in range(PROMPTS):
            own = random.random(ITEMS) < 0.6 + gain * (number == PROMPTS - 1) / (1 - agreement)
            items[str(number)] = np.where(random.random(ITEMS) < agreement, plain, own)
        scored = {name: [_scored(i, bool(right)) for i, right in enumerate(rights)] for name, rights in items.items()}
        best = max(items, key=lambda name: items[name].sum())
        found += without_headroom(scored, "plain", best, binary=True, groups=None, seed=0) is None
    return found / RUNS


def _scored(number: int, right: bool) -> ItemScore:
    return ItemScore(str(number), float(right), "a", "b", "in", "stop", True, 1, 1, 0.0, 0.0)


def test_equal_prompts_look_different_no_more_often_than_promised() -> None:
    assert seen(0.0) <= LEVEL + 2 * (LEVEL * (1 - LEVEL) / RUNS) ** 0.5


def test_a_prompt_that_is_better_by_12_points_mostly_shows() -> None:
    assert seen(0.12) > 0.5
