"""Which cases of a test are fast: of one marked `sampled(every)`, one case in `every` runs in `make test`, the others are slow."""

from __future__ import annotations

import math
import random
from collections import defaultdict
from collections.abc import Iterable, Sequence

import pytest


def fast_cases(test: str, cases: Sequence[str], every: int) -> set[str]:
    """The cases that stay fast, drawn by the test's name: the same on every machine, until the test has other cases.

    Drawn, not every n-th: where two lists are crossed, that could take the same element of one of them each time.
    """
    return set(random.Random(test).sample(cases, math.ceil(len(cases) / every)))


def mark_the_rest_slow(items: Iterable[pytest.Item]) -> None:
    """Cases that are slow already are not counted."""
    cases: dict[str, list[pytest.Item]] = defaultdict(list)
    for item in items:
        if item.get_closest_marker("sampled") and not item.get_closest_marker("slow"):
            cases[item.nodeid.partition("[")[0]].append(item)
    for test, found in cases.items():
        marker = found[0].get_closest_marker("sampled")
        assert marker is not None
        fast = fast_cases(test, [item.nodeid for item in found], *marker.args)
        for item in found:
            if item.nodeid not in fast:
                item.add_marker("slow")
