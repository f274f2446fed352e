"""How many rows the check of a run's first batch takes."""

from __future__ import annotations

from lastresort.engine.forest import Row
from lastresort.train.loop.batches import TrainingItem, completions, pairs
from lastresort.train.loop.policy import CHECKED_ITEMS, checked_rows, shortened


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
    rows = checked_rows(completions(rows_of(900, 900, 900)), 1000)
    assert len(rows) == 2
    assert sum(len(row.ids) for row in rows) <= 1000, "a pass of the run holds no more"
    assert all(any(row.targets) for row in rows)


def test_rows_longer_than_a_pass_are_checked_in_the_room_of_one_of_them() -> None:
    assert [len(row.ids) for row in checked_rows(completions(rows_of(900, 300)), 10)] == [450, 300]


def test_what_is_cut_out_is_the_middle_and_what_follows_the_last_target() -> None:
    row = Row(tuple(range(10)), tuple(i in (3, 7) for i in range(10)))
    short = shortened(row, 5)
    assert short.ids == (0, 1, 2, 6, 7)
    assert short.targets == (False, False, False, False, True)
    assert shortened(row, 8) is row


def test_the_two_rows_of_a_pair_stay_together() -> None:
    items: list[TrainingItem] = pairs(rows_of(300, 300, 300), rows_of(280, 280, 280))
    assert len(checked_rows(items, 1000)) == 2
    assert len(checked_rows(items, 1200)) == 4


def test_rows_longer_than_the_packed_form_takes_are_shortened_to_it() -> None:
    rows = checked_rows(completions(rows_of(900, 300, 20)), 10_000, longest=50)
    assert [len(row.ids) for row in rows] == [50, 50, 20]
    assert all(any(row.targets) for row in rows)
    late = Row((1,) * 80, (False,) * 60 + (True,) + (False,) * 19)
    (short,) = checked_rows(completions([late]), 10_000, longest=70)
    assert (len(short.ids), short.targets[-1]) == (61, True), "what follows the last target is long too"


def test_as_many_rows_as_fit_once_they_are_shortened() -> None:
    assert len(checked_rows(completions(rows_of(900, 900, 900)), 150, longest=50)) == 3


def test_one_row_where_there_is_no_other() -> None:
    assert len(checked_rows(completions(rows_of(50)), 10)) == 1
