"""What leaves a split before it is measured on, and what is said about it."""

from __future__ import annotations

import pytest

from lastresort.data.split import Split, clean, first_of_each
from lastresort.errors import DataError
from lastresort.records.reasons import RowsLeftOut
from lastresort.types import Example, Message

ANIMALS = ["horse", "otter", "raven", "gecko", "moose", "tiger", "snail", "whale", "zebra", "koala"]
DEEDS = ["sleeps", "drinks", "jumps", "waits"]


def item(text: str, row: int, *, output: str = "x", side: str = "test") -> Example:
    return Example(f"{side}-{row}", (Message("user", text),), output, row=row, source=f"{side}.jsonl")


def side(name: str, place: str, n: int, *, more: tuple[str, ...] = ()) -> tuple[Example, ...]:
    texts = [f"{ANIMALS[i % 10]} {DEEDS[i // 10]} {place}" for i in range(n)] + list(more)
    return tuple(item(text, row, side=name) for row, text in enumerate(texts, start=1))


def test_a_clean_split_stays_as_it_is() -> None:
    split = Split(side("train", "Oslo", 30), side("dev", "Lyon", 12), side("test", "Turin", 30))
    cleaned = clean(split)
    assert (cleaned.split, cleaned.leaks, cleaned.notes) == (split, (), ())


def test_of_equal_inputs_the_first_row_is_kept_where_it_stands() -> None:
    """The order of a side is random; the first of the file stays, not the first of the order."""
    order = [item("b", 4), item("A?", 3), item("c", 5), item("a", 1), item("a.", 2, output="y")]
    assert [kept.row for kept in first_of_each(order)] == [4, 5, 1]


def test_repeats_leave_dev_and_test_but_not_train() -> None:
    split = Split(
        side("train", "Oslo", 30, more=("horse sleeps Oslo",)),
        side("dev", "Lyon", 25, more=("horse sleeps Lyon.",)),
        side("test", "Turin", 30, more=("Horse sleeps Turin", "horse sleeps turin!")),
    )
    cleaned = clean(split)
    found = cleaned.split
    assert (found.train, found.dev, found.test) == (split.train, split.dev[:25], split.test[:30])
    assert cleaned.notes == (
        RowsLeftOut("dev", "repeated", 1),
        RowsLeftOut("test", "repeated", 2),
    )


def test_dev_items_that_stand_in_test_leave_dev_exact_and_near() -> None:
    split = Split(
        side("train", "Oslo", 30),
        side("dev", "Lyon", 25, more=("horse sleeps Turin", "please otter sleeps Turin")),
        side("test", "Turin", 30),
    )
    cleaned = clean(split)
    assert cleaned.split.dev == split.dev[:25]
    assert cleaned.split.test == split.test
    assert cleaned.notes == (RowsLeftOut("dev", "in test", 2),)


def test_leaks_leave_train_and_are_named() -> None:
    split = Split(
        side("train", "Oslo", 30, more=("the horse sleeps Turin",)), side("dev", "Lyon", 25), side("test", "Turin", 30)
    )
    cleaned = clean(split)
    assert cleaned.split.train == split.train[:30]
    assert [(leak.kind, leak.train.row, leak.held.row) for leak in cleaned.leaks] == [("near", 31, 1)]
    assert cleaned.notes == (RowsLeftOut("train", "in dev or test", 1),)


def test_too_few_dev_items_left_is_an_error_that_counts() -> None:
    train, test = side("train", "Oslo", 30), side("test", "Turin", 30)
    dev = side("dev", "Lyon", 19, more=("horse sleeps Turin",))
    with pytest.raises(
        DataError, match=r"dev\.jsonl: found 20 dev items, of which 19 are left .* expected at least 20"
    ):
        clean(Split(train, dev, test))
    assert len(clean(Split(train, side("dev", "Lyon", 20, more=("horse sleeps Turin",)), test)).split.dev) == 20
