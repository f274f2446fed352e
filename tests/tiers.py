"""Which tier a case of a test belongs to: fast (`make test`), slow (`make test-slow`), or `release` (`make test-all` alone).

Of a test that is marked `sampled(every)`, one case in `every` is fast and the others are slow. Of the slow cases of one that is
marked `sampled_slow(every)`, one in `every` stays slow and the others wait for a release. `each="verdict"` draws so among the cases
of each value of that parameter, so that no verdict loses all its cases. Cases for a release are slow as well, so `-m slow` and
`-m "not slow"` share out all cases.
"""

from __future__ import annotations

import hashlib
import math
from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path

import pytest

SLOW_TIERS = ("slow", "slow and not release", "release")
"""What -m says where only tests that are not fast are wanted."""
FIRST = "tests/slow/"
"""Whose tests take minutes each. A process that came to them last would work on alone."""


def kept_cases(cases: Iterable[str], every: int) -> set[str]:
    """Those that stay in their tier: one in `every`, at least one, by a hash of their names, so that all processes agree.

    A new case takes the place of at most one. Every n-th would not do: of two crossed lists it can miss elements of one.
    """
    by_hash = sorted(cases, key=lambda case: hashlib.sha256(case.encode()).digest())
    return set(by_hash[: math.ceil(len(by_hash) / every)])


def may_have_slow_tests(file: Path) -> bool:
    """Whether a file of tests names a mark by which a test can be slow. Marks stand in the file of the test."""
    text = file.read_text(encoding="utf-8")
    return any(mark in text for mark in ("slow", "sampled", "release"))


def share_out(items: list[pytest.Item]) -> None:
    """Mark what is slow and what waits for a release, and put the longest tests first."""
    for item in items:
        if item.get_closest_marker("release"):
            item.add_marker("slow")
    _mark_the_rest(items, "sampled", "slow")
    _mark_the_rest([item for item in items if item.get_closest_marker("slow")], "sampled_slow", "release")
    items.sort(key=lambda item: not item.nodeid.startswith(FIRST))


def _mark_the_rest(items: Iterable[pytest.Item], draw: str, tier: str) -> None:
    """Cases that are in this tier already, or skipped on this machine, are left as they are and not drawn from."""
    drawn_from: dict[tuple[str, str, int], list[pytest.Item]] = defaultdict(list)
    for item in items:
        marker = item.get_closest_marker(draw)
        if marker and not item.get_closest_marker(tier) and not _skipped(item):
            every, value = _draw(item, draw, *marker.args, **marker.kwargs)
            drawn_from[item.nodeid.partition("[")[0], value, every].append(item)
    for (_, _, every), cases in drawn_from.items():
        kept = kept_cases([item.nodeid for item in cases], every)
        for item in cases:
            if item.nodeid not in kept:
                item.add_marker(tier)


def _skipped(item: pytest.Item) -> bool:
    return any(marker.args[0] is True for marker in item.iter_markers("skipif"))


def _draw(item: pytest.Item, draw: str, every: object = None, *, each: str | None = None) -> tuple[int, str]:
    """How many cases stand for one that is kept, and the item's value of the parameter `each`."""
    parameters = item.callspec.params if isinstance(item, pytest.Function) and hasattr(item, "callspec") else {}
    if not isinstance(every, int) or every < 1 or (each is not None and each not in parameters):
        raise pytest.UsageError(
            f"{item.nodeid}: {draw}(every, each=…) takes a whole number from 1, and a parameter of the test."
        )
    return every, "" if each is None else repr(parameters[each])
