"""Of a test that is marked `sampled`, some cases are fast and the others slow, none is neither."""

from __future__ import annotations

import math
from collections import Counter

import pytest

from tiers import fast_cases, mark_the_rest_slow


@pytest.mark.parametrize(("n", "every"), [(1, 4), (4, 4), (5, 4), (12, 1), (3000, 16)])
def test_one_case_in_so_many_stays_and_never_none(n: int, every: int) -> None:
    cases = [f"test[{number}]" for number in range(n)]
    fast = fast_cases("test", cases, every)
    assert fast <= set(cases)
    assert len(fast) == math.ceil(n / every)
    assert fast == fast_cases("test", cases, every), "another process draws the same"


def test_crossed_lists_are_drawn_from_all_over() -> None:
    """Every fourth of three by four cases would always have the same element of the second list."""
    cases = [f"test[{one}-{other}]" for one in range(30) for other in range(4)]
    assert len(Counter(case[-2] for case in fast_cases("test", cases, 4))) == 4


class Item:
    """What is needed of pytest's."""

    def __init__(self, nodeid: str, **marks: pytest.Mark) -> None:
        self.nodeid, self.marks = nodeid, marks

    def get_closest_marker(self, name: str) -> pytest.Mark | None:
        return self.marks.get(name)

    def add_marker(self, name: str) -> None:
        self.marks[name] = pytest.Mark(name, (), {}, _ispytest=True)


def test_other_tests_and_slow_cases_are_left_as_they_are() -> None:
    by_four, slow = pytest.mark.sampled(4).mark, pytest.mark.slow.mark
    items = [Item(f"a.py::sampled[{number}]", sampled=by_four) for number in range(8)]
    items += [Item(f"a.py::sampled[slow {number}]", sampled=by_four, slow=slow) for number in range(8)]
    items += [Item(f"a.py::other[{number}]") for number in range(8)]
    mark_the_rest_slow(items)  # type: ignore[arg-type]
    slow_ones = Counter(item.nodeid.partition("[")[0] for item in items if "slow" in item.marks)
    assert slow_ones == {"a.py::sampled": 6 + 8}
