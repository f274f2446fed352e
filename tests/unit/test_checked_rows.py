"""How many rows the check of a run's first batch takes."""

from __future__ import annotations

from lastresort.engine.forest import Row
from lastresort.train.items import Item, completions, pairs
from lastresort.train.policy import CHECKED_ITEMS, checked_rows


def rows_of(*lengths: int) -> list[Row]:
    return [Row((1,) * n, (False,) * (n - 1) + (True,)) for n in lengths]


def test_as_many_rows_as_fit_padded() -> None:
    items = completions(rows_of(100, 100, 100, 100, 100))
    assert len(checked_rows(items, 1000)) == CHECKED_ITEMS
    assert len(checked_rows(items, 300)) == 3
    assert len(checked_rows(items, 299)) == 2


def test_a_longer_row_counts_for_all_since_all_are_padded_to_it() -> None:
    assert len(checked_rows(completions(rows_of(100, 100, 200, 100)), 500)) == 2


def test_two_rows_whatever_their_length_so_that_a_piece_is_shared() -> None:
    assert len(checked_rows(completions(rows_of(900, 900, 900)), 1000)) == 2


def test_the_two_rows_of_a_pair_stay_together() -> None:
    items: list[Item] = pairs(rows_of(300, 300, 300), rows_of(280, 280, 280))
    assert len(checked_rows(items, 1000)) == 2
    assert len(checked_rows(items, 1200)) == 4


def test_one_row_where_there_is_no_other() -> None:
    assert len(checked_rows(completions(rows_of(50)), 10)) == 1
