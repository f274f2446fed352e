"""The items of a gate: in the order of their suite, without those that are too much like a training row."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from lastresort.errors import DataError
from lastresort.evals.suites.duplicates import without_duplicates
from lastresort.evals.suites.suite import Item
from lastresort.types import Example

TRIES = 4  # as many items as wanted may be passed over so many times


@dataclass(frozen=True, slots=True)
class Drawn:
    """passed_over: how many items were left because a training row says the same."""

    items: tuple[Item, ...]
    passed_over: int


class Drawable(Protocol):
    """A suite, or anything else that has items."""

    @property
    def name(self) -> str: ...

    def draw(self, seed: int, start: int, stop: int) -> list[Item]: ...


def draw(suite: Drawable, seed: int, count: int, training_texts: Sequence[str]) -> Drawn:
    """The first `count` items of the seed's sequence that no training text gives away, fewer where it has no more.

    Raises DataError where there are hardly any.
    """
    items: list[Item] = []
    start = 0
    while len(items) < count:
        if start > TRIES * count:
            raise DataError(
                f"{start - len(items)} of the first {start} items of the suite {suite.name} are in the training rows",
                expected="items that were not trained on",
                remedy=f"Take them out of training, or set keep.{suite.name}: skip.",
            )
        fresh = suite.draw(seed, start, start + count - len(items))
        if not fresh:
            break
        items += without_duplicates(fresh, training_texts)
        start += len(fresh)
    return Drawn(tuple(items), start - len(items))


def training_texts(train: Sequence[Example]) -> list[str]:
    """What the users say in the training rows, turn by turn."""
    return [turn.content for example in train for turn in example.input if turn.role == "user"]
