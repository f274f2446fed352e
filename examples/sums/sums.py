"""How an answer is judged, and how it is rewarded: a program can tell a right answer, though nobody can list them all."""

from __future__ import annotations

import re

SUM = re.compile(r"(\d{1,6}) \+ (\d{1,6})")
FORM, UNITS, NEARNESS = 0.1, 0.2, 0.2  # of the reward of a wrong answer


def score(answer: str, expected: str) -> bool:
    """Whether the answer is `a + b` and nothing else, both greater than 1, with the sum that `expected` has."""
    parts = _parts(answer)
    return parts is not None and sum(parts) == _total(expected)


def reward(answer: str, expected: str) -> float:
    """1 for a right answer; for a wrong one FORM, and if the last digit of its sum is right UNITS and up to NEARNESS, by how close
    the sum comes; 0 where it is no sum of two smaller numbers.

    Without steps in between most groups of a weak model would be all wrong, and teach nothing. Nearness alone is no good step: the
    model learned to write 2 + 87 for 87, always near and never right.
    """
    parts, total = _parts(answer), _total(expected)
    if parts is None or max(parts) >= total:
        return 0.0
    if sum(parts) == total:
        return 1.0
    if (sum(parts) - total) % 10:
        return FORM
    return FORM + UNITS + NEARNESS * (1 - abs(sum(parts) - total) / total)


def _parts(answer: str) -> tuple[int, int] | None:
    found = SUM.fullmatch(answer.strip())
    if found is None or min(int(found[1]), int(found[2])) < 2:
        return None
    return int(found[1]), int(found[2])


def _total(expected: str) -> int:
    parts = _parts(expected)
    assert parts is not None, "make_sums.py writes sums"
    return sum(parts)
