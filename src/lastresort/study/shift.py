"""The smallest training set that measurably shifts a model's answers. Pure.

Each training is compared with the base prompt on the same dev items: exact one-sided McNemar, or a sign-flip test of graded scores.
A size is shown where the trainings of all its seeds are. Sizes are tested from the largest down, and the first that is not shown
ends it. So, however many sizes there are, one at which some training gains nothing is named with a probability of at most LEVEL.

Source: Maurer, Hothorn and Lehmacher 1995 (tests in a fixed order); Berger 1982 (all of several tests).
"""

from __future__ import annotations

from collections.abc import Sequence

LEVEL = 0.05


def smallest_shown(ps: Sequence[Sequence[float]], level: float = LEVEL) -> int | None:
    """The place of the smallest size down to which all are shown, None where the largest is not. ps: by size, then by seed."""
    found = None
    for place in range(len(ps) - 1, -1, -1):
        if not ps[place] or max(ps[place]) > level:
            break
        found = place
    return found
