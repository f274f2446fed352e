"""The smallest training set that measurably shifts a model's answers, and the sizes at which its form leaks elsewhere. Pure.

Each training is compared with the base prompt on the same dev items: exact one-sided McNemar, or a sign-flip test of graded scores.
A size is shown where the trainings of all its seeds are. Sizes are tested from the largest down, and the first that is not shown
ends it. So, however many sizes there are, one at which some training gains nothing is named with a probability of at most LEVEL.
Smaller sizes that pass by themselves have no such promise: they are named as taken alone.

Of leaks each size has one test, of its requests over all seeds, and Holm's rule pays for the number of sizes.

Source: Maurer, Hothorn and Lehmacher 1995 (tests in a fixed order); Berger 1982 (all of several tests); Holm 1979.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from lastresort.evals.evidence.noninferiority import holm
from lastresort.evals.evidence.paired import p_above_zero

LEVEL = 0.05


def smallest_shown(ps: Sequence[Sequence[float]], level: float = LEVEL) -> int | None:
    """The place of the smallest size down to which all are shown, None where the largest is not. ps: by size, then by seed."""
    smallest = None
    for place in range(len(ps) - 1, -1, -1):
        if not passes_alone(ps[place], level):
            break
        smallest = place
    return smallest


def passes_alone(ps: Sequence[float], level: float = LEVEL) -> bool:
    """Whether all trainings of a size are shown, by themselves. ps: by seed."""
    return bool(ps) and max(ps) <= level


def leaking(base: Sequence[bool], trained: Sequence[Sequence[Sequence[bool]]]) -> list[bool]:
    """By size, whether fewer requests are answered correctly than by the base. trained: by size, seed and request."""
    before = np.asarray(base, dtype=np.float64)
    ps = [p_above_zero(before - np.mean(of_size, axis=0), binary=False) for of_size in trained]
    return [p <= LEVEL for p in holm(ps)]
