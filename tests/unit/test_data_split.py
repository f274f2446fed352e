"""Sizes, groups and errors of a split. Its invariants are in tests/property."""

from __future__ import annotations

import itertools

import pytest

from lastresort.data.split import DEFAULT_DEV_SHARE, split_examples
from lastresort.errors import DataError
from lastresort.types import Example, Message


def item(index: int, *, group: str | None = None, text: str | None = None) -> Example:
    return Example(str(index), (Message("user", text or f"question {index}"),), "x", group, row=index, source="a.jsonl")


def items(count: int) -> list[Example]:
    return [item(index) for index in range(count)]


@pytest.mark.parametrize(
    ("total", "dev", "test", "sizes"),
    [
        (10, 0.1, 0.3, (6, 1, 3)),
        (1000, DEFAULT_DEV_SHARE, 0.3, (500, 200, 300)),
        (300, DEFAULT_DEV_SHARE, 0.3, (110, 100, 90)),
        (280, DEFAULT_DEV_SHARE, 0.3, (140, 56, 84)),
        (300, 0.21, 0.3, (147, 63, 90)),
        (50, 7, 20, (23, 7, 20)),
        (3, 1, 1, (1, 1, 1)),
    ],
)
def test_shares_and_counts(total: int, dev: float, test: float, sizes: tuple[int, int, int]) -> None:
    split = split_examples(items(total), dev=dev, test=test, group_by=None, seed=0)
    assert (len(split.train), len(split.dev), len(split.test)) == sizes


def test_seeds_differ_and_the_test_order_is_not_the_file_order() -> None:
    first = split_examples(items(100), dev=10, test=40, group_by=None, seed=0)
    second = split_examples(items(100), dev=10, test=40, group_by=None, seed=1)
    assert {e.id for e in first.test} != {e.id for e in second.test}
    rows = [e.row for e in first.test]
    assert rows != sorted(rows)


def test_fixed_sides_are_kept_and_only_put_in_order() -> None:
    held = [item(index) for index in range(100, 130)]
    split = split_examples(items(50), dev=0.2, test=0.3, group_by=None, seed=0, fixed_test=held)
    assert {e.id for e in split.test} == {e.id for e in held}
    assert [e.id for e in split.test] != [e.id for e in held]
    assert (len(split.train), len(split.dev)) == (40, 10)
    both = split_examples(items(5), dev=0.2, test=0.3, group_by=None, seed=0, fixed_test=held, fixed_dev=[item(99)])
    assert (len(both.train), [e.id for e in both.dev]) == (5, ["99"])


def test_groups_stand_together_in_the_test_order() -> None:
    grouped = [item(index, group=f"g{index % 20}") for index in range(200)]
    split = split_examples(grouped, dev=40, test=60, group_by="customer", seed=3)
    order = [e.group for e in split.test]
    assert len(order) == 60
    assert sum(a != b for a, b in itertools.pairwise(order)) == len(set(order)) - 1


def test_a_giant_group_goes_to_train() -> None:
    grouped = [item(index, group="giant" if index < 70 else f"g{index}") for index in range(100)]
    for seed in range(10):
        split = split_examples(grouped, dev=10, test=15, group_by="customer", seed=seed)
        assert (len(split.dev), len(split.test)) == (10, 15)
        assert sum(e.group == "giant" for e in split.train) == 70


@pytest.mark.parametrize(
    ("examples", "dev", "test", "said"),
    [
        (items(2), 1, 1, "found 2 examples"),
        ([], 0.2, 0.3, "found 0 examples"),
        (items(10), 5, 5, "leave none for train"),
        ([item(index, text="same") for index in range(10)], 0.2, 0.3, "only 1 with different input"),
        ([item(index, group="abc"[index % 2]) for index in range(10)], 0.2, 0.3, "only 2 with different input"),
        (items(10), 0, 0.3, "split.dev: found 0"),
        (items(10), 0.2, 1.5, "split.test: found 1.5"),
        (items(10), True, 0.3, "split.dev: found True"),
        (items(10), -3, 0.3, "split.dev: found -3"),
    ],
)
def test_what_cannot_be_split(examples: list[Example], dev: float, test: float, said: str) -> None:
    with pytest.raises(DataError, match=said):
        split_examples(examples, dev=dev, test=test, group_by=None, seed=0)


def test_group_by_needs_a_group_in_every_row() -> None:
    with pytest.raises(DataError, match=r'a.jsonl, row 3, key "customer"'):
        split_examples([item(1, group="g"), item(2, group="h"), item(3)], dev=1, test=1, group_by="customer", seed=0)


def test_a_group_may_not_stand_on_two_fixed_sides() -> None:
    train = [item(index, group=f"g{index}") for index in range(10)]
    with pytest.raises(DataError, match=r'found the group "g4", which is in (train|dev) too'):
        split_examples(train, dev=2, test=1, group_by="customer", seed=0, fixed_test=[item(11, group="g4")])
