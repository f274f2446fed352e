"""Successive halving: measure many candidates on a little, few on all."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence

FINALISTS = 2


def stretches(n: int, candidates: int, *, least: int = 24) -> list[tuple[int, int]]:
    """Consecutive stretches [start, stop) of n items, one a round; each later round is about as dear as the first.

    With every round the better half stays, so a stretch may double. least: items in the first, below which a score says little.
    """
    rounds = max(1, math.ceil(math.log2(candidates))) if candidates > 1 else 1
    first = max(least, math.ceil(n / (2**rounds - 1)))
    cuts = [0]
    size = first
    while cuts[-1] < n:
        cuts.append(min(n, cuts[-1] + size))
        size *= 2
    if len(cuts) > 2 and cuts[-1] - cuts[-2] < least:
        del cuts[-2]
    return list(itertools.pairwise(cuts))


def survivors(scores: dict[str, float], order: Sequence[str], *, at_least: int = FINALISTS) -> list[str]:
    """The better half by score, ties kept in `order` (cheaper first), never fewer than `at_least`; the best always stays."""
    keep = max(at_least, math.ceil(len(scores) / 2))
    ranked = sorted(scores, key=lambda name: (-scores[name], order.index(name)))
    return sorted(ranked[:keep], key=order.index)
