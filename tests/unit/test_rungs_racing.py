"""Successive halving on dev."""

from __future__ import annotations

import pytest

from lastresort.rungs.race import stretches, survivors


@pytest.mark.parametrize(("n", "candidates"), [(100, 10), (100, 1), (30, 10), (24, 5), (700, 8), (5, 4), (101, 3)])
def test_stretches_cover_every_item_once(n: int, candidates: int) -> None:
    found = stretches(n, candidates)
    assert [i for start, stop in found for i in range(start, stop)] == list(range(n))
    assert all(stop - start >= min(24, n) for start, stop in found)


def test_one_candidate_runs_straight_through() -> None:
    assert stretches(100, 1) == [(0, 100)]


def test_survivors_keep_the_better_half_and_prefer_the_cheaper_on_ties() -> None:
    scores = {"a": 0.5, "b": 0.9, "c": 0.5, "d": 0.1}
    assert survivors(scores, ["a", "b", "c", "d"]) == ["a", "b"]
    assert survivors(scores, ["c", "b", "a", "d"]) == ["c", "b"]
    assert survivors({"a": 0.1, "b": 0.2}, ["a", "b"]) == ["a", "b"]
    assert survivors({"a": 0.1}, ["a"]) == ["a"]
