"""What a kind of synthetic row is: which rows of train its request shows, and whether it settles the answer."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from random import Random

from lastresort.types import Example


@dataclass(frozen=True, slots=True)
class RowRequest:
    """One request to the teacher. asks: its words, with places for n and answer. shown: rows of train. answer: that of every new
    row, None where the teacher writes it. number: of the request, from 0.
    """

    kind: str
    asks: str
    shown: tuple[Example, ...]
    answer: str | None
    number: int


@dataclass(frozen=True, slots=True)
class SeedRows:
    """The rows of train that may be shown, in random order. by_label: the same by answer, empty where answers are no labels."""

    rows: tuple[Example, ...]
    by_label: Mapping[str, Sequence[Example]] = field(default_factory=dict)

    def one(self, turn: int, start: float, label: str | None) -> Example:
        """Each row in turn, of this label where it has any. start: at which share of them turn 0 is."""
        pool = self._of(label)
        return pool[(turn + int(start * len(pool))) % len(pool)]

    def some(self, random: Random, n: int, label: str | None) -> tuple[Example, ...]:
        """At most n different rows, of this label where it has any."""
        pool = self._of(label)
        return tuple(random.sample(list(pool), min(n, len(pool))))

    def _of(self, label: str | None) -> Sequence[Example]:
        return (self.by_label.get(label) if label is not None else None) or self.rows


@dataclass(frozen=True, slots=True)
class Draw:
    """From what a request is made. label: whose rows are wanted most, None where any are welcome. number: of the request. turn: how
    many of its kind came before. start: where this kind starts among the rows, so that kinds begin with different ones.
    """

    seeds: SeedRows
    random: Random
    label: str | None
    number: int
    turn: int = 0
    start: float = 0.0

    def next_row(self) -> Example:
        """One that this kind was not shown yet, as long as there are such."""
        return self.seeds.one(self.turn, self.start, self.label)


@dataclass(frozen=True, slots=True)
class Kind:
    """request: makes the next one. keeps_passages: its rows are answered by the passages of the row shown.
    needs_labels: it has nothing to do where answers are no labels.
    """

    name: str
    request: Callable[[Draw], RowRequest]
    keeps_passages: bool = False
    needs_labels: bool = False
