"""What leaves a split before it is measured on, and what is said about it."""

from __future__ import annotations

from dataclasses import replace

import pytest

from lastresort.data.duplicates import input_hash
from lastresort.data.split import Split, clean, first_of_each, split_examples
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


def synthetic(text: str, row: int, *seeds: Example, group: str | None = None) -> Example:
    return replace(item(text, row, side="synthetic"), seeds=tuple(map(input_hash, seeds)), group=group)


@pytest.mark.parametrize("n", [1, 10, 12, 40])
def test_many_near_copies_of_a_held_out_item_among_synthetic_rows_all_leave(n: int) -> None:
    """As many as make the item's own words common among all inputs."""
    held = "seventeen teapots stand under chestnut trees behind school while gingerbread towers wobble"
    long = [word for word in held.split() if len(word) >= 5]
    slips = [(long[i % len(long)], "xyzq"[i // len(long)]) for i in range(n)]
    copies = [synthetic(held.replace(word, f"{word[:2]}{x}{word[3:]}"), row) for row, (word, x) in enumerate(slips)]
    new = synthetic("horse dances Quito", n)
    own, test = side("train", "Oslo", 30), side("test", "Turin", 30, more=(held,))
    cleaned = clean(Split((*own, *copies, new), side("dev", "Lyon", 25), test))
    assert cleaned.split.train == (*own, new)
    assert all(leak.held is test[-1] for leak in cleaned.leaks)
    assert cleaned.notes == (RowsLeftOut("train", "in dev or test", n),)


def test_synthetic_rows_that_are_not_made_from_train_leave_it() -> None:
    """But from a held-out row, one that leaks, one that is gone, another synthetic one, or for a held-out group. Ids say nothing:
    in each file they may be the numbers of its rows. An answer may have been corrected.
    """
    own = side("train", "Oslo", 30, more=("the horse sleeps Turin",))
    dev = (*side("dev", "Lyon", 24), replace(item("newt rests Lyon", 25, side="dev"), group="g"))
    test = side("test", "Turin", 30)
    own, dev, test = (tuple(replace(one, id=str(one.row)) for one in rows) for rows in (own, dev, test))
    stay = [
        synthetic("one", 1, own[1], replace(own[2], id="other", output="corrected")),
        synthetic("two", 2),
        synthetic("three", 3, own[3], group="h"),
    ]
    leave = [
        synthetic("four", 4, own[1], dev[3]),
        synthetic("five", 5, test[0]),
        synthetic("six", 6, own[30]),
        synthetic("seven", 7, group="g"),
        synthetic("eight", 8, replace(own[1], input=(Message("user", "as it was before"),))),
        synthetic("nine", 9, stay[0]),
    ]
    cleaned = clean(Split((*own, *stay, *leave), dev, test))
    assert cleaned.split.train == (*own[:30], *stay)
    assert cleaned.notes == (
        RowsLeftOut("train", "in dev or test", 1),
        RowsLeftOut("train", "not made from train", 6),
    )


@pytest.mark.parametrize("inputs", [80, 95])
def test_inputs_that_repeat_are_accepted_in_the_default_split_as_those_that_do_not(inputs: int) -> None:
    rows = [item(f"case{i} alpha{i} beta{i}", i * 10 + copy) for i in range(inputs) for copy in range(10)]
    for examples in (rows[::10], rows):
        split = split_examples(examples, dev=0.2, test=0.2, group_by=None, seed=0)
        assert len(clean(split).split.dev) == inputs // 5


def test_too_few_dev_items_left_is_an_error_that_counts() -> None:
    train, test = side("train", "Oslo", 30), side("test", "Turin", 30)
    dev = side("dev", "Lyon", 19, more=("horse sleeps Turin",))
    with pytest.raises(DataError, match=r"dev\.jsonl: found 20 dev items, and 19 without .* expected at least 20"):
        clean(Split(train, dev, test))
    assert len(clean(Split(train, side("dev", "Lyon", 20, more=("horse sleeps Turin",)), test)).split.dev) == 20
