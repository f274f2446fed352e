"""What a kind of synthetic row is: which rows of train its request shows, and whether it settles the answer."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from random import Random

from lastresort.synthesis.prompts import PER_REQUEST
from lastresort.types import Example


@dataclass(frozen=True, slots=True)
class RowRequest:
    """One request to the teacher. asks: its words, with places for n and answer. shown: rows of train. answer: that of every new
    row, None where the teacher writes it. n: rows to write.
    """

    kind: str
    asks: str
    shown: tuple[Example, ...]
    answer: str | None
    n: int = PER_REQUEST


@dataclass(frozen=True, slots=True)
class SeedRows:
    """The rows of train that may be shown, in random order. by_label: the same by answer, empty where answers are no labels."""

    rows: tuple[Example, ...]
    by_label: Mapping[str, Sequence[Example]] = field(default_factory=dict)

    def of(self, label: str | None) -> Sequence[Example]:
        """All of this label, where it has any."""
        return (self.by_label.get(label) if label is not None else None) or self.rows


@dataclass(frozen=True, slots=True)
class Draw:
    """From what a request is made. label: whose rows are wanted most, None where any are welcome. shown: how often each kind showed
    each row, by its id, as the first.
    """

    seeds: SeedRows
    random: Random
    label: str | None
    shown: Counter[tuple[str, str]]

    def next_row(self, kind: str) -> Example:
        """The one that this kind showed least often, of those the one that all kinds did."""
        every = Counter[str]()
        for (_, row), times in self.shown.items():
            every[row] += times
        return min(self.seeds.of(self.label), key=lambda row: (self.shown[kind, row.id], every[row.id]))

    def some(self, n: int, rows: Sequence[Example]) -> list[Example]:
        """At most n different ones of these, in random order."""
        return self.random.sample(list(rows), min(n, len(rows)))


@dataclass(frozen=True, slots=True)
class Kind:
    """request: makes the next one. keeps_passages: its rows are answered by the passages of the row shown.
    needs_labels: its rows are of the label that is wanted, even one that train lacks; without labels there are none.
    """

    name: str
    request: Callable[[Draw], RowRequest]
    keeps_passages: bool = False
    needs_labels: bool = False
