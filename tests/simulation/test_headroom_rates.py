"""The check for headroom: how often it sees a difference among prompts that are equally good, and one that is there."""

from __future__ import annotations

import numpy as np
import pytest

from lastresort.records.measurement import ItemScore
from lastresort.rungs.prompting.headroom import LEVEL, without_headroom
from lastresort.rungs.race import looks, survivors

PROMPTS, ITEMS, RUNS = 7, 100, 300


def seen(gain: float, *, agreement: float = 0.7, raced: bool = False) -> float:
    """Share of runs with headroom. All prompts are right on 60% of items and share most of their answers; the last is better by
    `gain`. agreement: share of items on which a prompt answers as the plain one does, whatever that is. raced: each prompt answers
    as many items as in a race by halving, not all.
    """
    random, found = np.random.default_rng(5), 0
    for _ in range(RUNS):
        plain = random.random(ITEMS) < 0.6
        items = {"plain": plain}
        for number in range(PROMPTS):
            own = random.random(ITEMS) < 0.6 + gain * (number == PROMPTS - 1) / (1 - agreement)
            items[str(number)] = np.where(random.random(ITEMS) < agreement, plain, own)
        scored = {name: [_scored(i, bool(right)) for i, right in enumerate(rights)] for name, rights in items.items()}
        if raced:
            scored = {name: scored[name][:n] for name, n in _lengths(items).items()}
        most = max(map(len, scored.values()))
        best = max((name for name in items if len(scored[name]) == most), key=lambda name: items[name].sum())
        found += without_headroom(scored, "plain", best, binary=True, groups=None, seed=0) is None
    return found / RUNS


def _lengths(rights: dict[str, np.ndarray]) -> dict[str, int]:
    """How many items each answers in a race in which the better half goes on."""
    alive, found = list(rights), dict[str, int]()
    for look in looks(ITEMS, len(rights)):
        found |= dict.fromkeys(alive, look.stop)
        alive = survivors({name: float(rights[name][: look.stop].mean()) for name in alive}, alive, look.at_most)
    return found


def _scored(number: int, right: bool) -> ItemScore:
    return ItemScore(str(number), float(right), "a", "b", "in", "stop", True, 1, 1, 0.0, 0.0)


def test_equal_prompts_look_different_no_more_often_than_promised() -> None:
    assert seen(0.0) <= LEVEL + 2 * (LEVEL * (1 - LEVEL) / RUNS) ** 0.5


def test_a_prompt_that_is_better_by_12_points_mostly_shows() -> None:
    assert seen(0.12) > 0.5


@pytest.mark.slow
def test_a_race_answers_too_little_to_see_such_a_difference_mostly() -> None:
    """Prompts that are dropped early are compared on a quarter of dev: what is not seen may be there."""
    assert seen(0.0, raced=True) <= LEVEL + 2 * (LEVEL * (1 - LEVEL) / RUNS) ** 0.5
    assert 0.2 < seen(0.12, raced=True) < 0.5
