"""Which cases of a test are fast: of one marked `sampled(every)`, one case in `every` runs in `make test`, the others are slow.

`sampled(every, each="verdict")` draws so among the cases of each value of that parameter, so that no verdict loses all its cases.
"""

from __future__ import annotations

import hashlib
import math
from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path

import pytest


def fast_cases(cases: Iterable[str], every: int) -> set[str]:
    """Those that stay fast: one in `every`, at least one, by a hash of their names, so that all machines and processes agree.

    A new case takes the place of at most one. Every n-th would not do: of two crossed lists it can miss elements of one.
    """
    by_hash = sorted(cases, key=lambda case: hashlib.sha256(case.encode()).digest())
    return set(by_hash[: math.ceil(len(by_hash) / every)])


def may_have_slow_tests(file: Path) -> bool:
    """Whether a file of tests names a mark by which a test can be slow. Marks stand in the file of the test."""
    text = file.read_text(encoding="utf-8")
    return "slow" in text or "sampled" in text


def mark_the_rest_slow(items: Iterable[pytest.Item]) -> None:
    """Cases that are slow already, or skipped on this machine, are left as they are and not drawn from."""
    drawn_from: dict[tuple[str, str, int], list[pytest.Item]] = defaultdict(list)
    for item in items:
        marker = item.get_closest_marker("sampled")
        if marker and not item.get_closest_marker("slow") and not _skipped(item):
            every, value = _draw(item, *marker.args, **marker.kwargs)
            drawn_from[item.nodeid.partition("[")[0], value, every].append(item)
    for (_, _, every), cases in drawn_from.items():
        fast = fast_cases([item.nodeid for item in cases], every)
        for item in cases:
            if item.nodeid not in fast:
                item.add_marker("slow")


def _skipped(item: pytest.Item) -> bool:
    return any(marker.args[0] is True for marker in item.iter_markers("skipif"))


def _draw(item: pytest.Item, every: object = None, *, each: str | None = None) -> tuple[int, str]:
    """How many cases stand for one fast one, and the item's value of the parameter `each`."""
    parameters = item.callspec.params if isinstance(item, pytest.Function) and hasattr(item, "callspec") else {}
    if not isinstance(every, int) or every < 1 or (each is not None and each not in parameters):
        raise pytest.UsageError(
            f"{item.nodeid}: sampled(every, each=…) takes a whole number from 1, and a parameter of the test."
        )
    return every, "" if each is None else repr(parameters[each])
