"""Whatever the examples: nothing is lost, nothing straddles, and the order of the rows does not matter."""

from __future__ import annotations

import random

from hypothesis import assume, given, settings
from hypothesis import strategies as st

from lastresort.data.duplicates import normalised
from lastresort.data.split import Split, find_leaks, split_examples
from lastresort.errors import DataError
from lastresort.types import Example, Message

ROWS = st.lists(st.tuples(st.integers(0, 30), st.one_of(st.none(), st.integers(0, 12))), min_size=3, max_size=60)


def examples_of(rows: list[tuple[int, int | None]]) -> list[Example]:
    return [
        Example(
            str(index), (Message("user", f"Question {word}" + "?" * (index % 2)),), "x", None if g is None else f"g{g}"
        )
        for index, (word, g) in enumerate(rows)
    ]


def split_or_skip(examples: list[Example], seed: int) -> Split:
    try:
        return split_examples(examples, dev=0.2, test=0.3, group_by=None, seed=seed)
    except DataError:
        assume(False)
        raise


@settings(max_examples=150, deadline=None)
@given(ROWS, st.integers(0, 5), st.randoms(use_true_random=False))
def test_a_split_is_a_partition_that_tears_nothing_apart(
    rows: list[tuple[int, int | None]], seed: int, shuffle: random.Random
) -> None:
    examples = examples_of(rows)
    split = split_or_skip(examples, seed)
    sides = (split.train, split.dev, split.test)
    assert sorted(e.id for side in sides for e in side) == sorted(e.id for e in examples)
    for key in (lambda e: e.group, lambda e: normalised(e.input_text)):
        found = [{key(e) for e in side} - {None} for side in sides]
        assert sum(map(len, found)) == len(set().union(*found))
    shuffled = examples[:]
    shuffle.shuffle(shuffled)
    assert split_or_skip(shuffled, seed) == split
    assert not [leak for leak in find_leaks(split.train, split.dev, split.test) if leak.kind == "exact"]
