"""Kinds of synthetic rows: which rows of train a request shows, and whether it settles the answer. A new one is a function and a
line in the table.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from heapq import heapify, heapreplace
from random import Random

from lastresort.synthesis import prompts
from lastresort.types import Example

OF_LABEL, CONTRAST = 4, 2  # rows that `answer` shows
VARIED = 5  # rows that `expansion` shows
LOOKED_AT = 200  # rows, for some that fit


@dataclass(frozen=True, slots=True)
class RowRequest:
    """One request to the teacher. asks: its words, with a place for the answer. shown: rows of train. answer: that of every new
    row, None where the teacher writes it. n: rows to write.
    """

    kind: str
    asks: str
    shown: tuple[Example, ...]
    answer: str | None
    n: int = prompts.PER_REQUEST


@dataclass(frozen=True, slots=True)
class SeedRows:
    """The rows of train that may be shown, in random order. by_label: the same by answer, empty where answers are no labels."""

    rows: tuple[Example, ...]
    by_label: Mapping[str, Sequence[Example]] = field(default_factory=dict)

    def of(self, label: str | None) -> Sequence[Example]:
        """All of this label, where it has any."""
        return (self.by_label.get(label) if label is not None else None) or self.rows


class Turns:
    """Whose turn it is to be the first row of a request. shown: how often each kind showed each row so far, by its id."""

    def __init__(self, seeds: SeedRows, shown: Mapping[tuple[str, str], int]) -> None:
        self._seeds, self._shown = seeds, Counter(shown)
        self._by_all = Counter[str]()
        for (_, row), times in shown.items():
            self._by_all[row] += times
        self._waiting: dict[tuple[str, str | None], list[tuple[int, int, int]]] = {}

    def next_row(self, kind: str, label: str | None) -> Example:
        """The one of the label that this kind showed least often, of those the one that all kinds did."""
        rows, key = self._seeds.of(label), (kind, label)
        if key not in self._waiting:
            self._waiting[key] = [(*self._times(kind, row), place) for place, row in enumerate(rows)]
            heapify(self._waiting[key])
        waiting = self._waiting[key]
        while True:  # what is noted of a row is too low once it was shown, and never too high
            noted, place = waiting[0][:2], waiting[0][2]
            if (times := self._times(kind, rows[place])) == noted:
                return rows[place]
            heapreplace(waiting, (*times, place))

    def count(self, kind: str, row: Example) -> None:
        self._shown[kind, row.id] += 1
        self._by_all[row.id] += 1

    def _times(self, kind: str, row: Example) -> tuple[int, int]:
        return self._shown[kind, row.id], self._by_all[row.id]


@dataclass(frozen=True, slots=True)
class Draw:
    """From what a request is made. label: whose rows are wanted most, None where any are welcome."""

    seeds: SeedRows
    turns: Turns
    random: Random
    label: str | None

    def next_row(self, kind: str) -> Example:
        return self.turns.next_row(kind, self.label)

    def some(
        self, n: int, rows: Sequence[Example], fits: Callable[[Example], bool] = lambda row: True
    ) -> list[Example]:
        """At most n different ones of these that fit, in random order."""
        found = [row for row in self.random.sample(rows, min(LOOKED_AT, len(rows))) if fits(row)]
        if len(found) < n and len(rows) > LOOKED_AT:
            found = [row for row in rows if fits(row)]
            self.random.shuffle(found)
        return found[:n]


@dataclass(frozen=True, slots=True)
class Kind:
    """request: makes the next one. keeps_passages: its rows are answered by the passages of the row shown.
    needs_labels: its rows are of the label that is wanted, even one that train lacks; without labels there are none.
    """

    name: str
    request: Callable[[Draw], RowRequest]
    keeps_passages: bool = False
    needs_labels: bool = False


def _paraphrase(draw: Draw) -> RowRequest:
    """An input of train in other words. The answer is kept."""
    row = draw.next_row("paraphrase")
    return RowRequest("paraphrase", prompts.PARAPHRASE, (row,), row.output)


def _answer(draw: Draw) -> RowRequest:
    """New inputs for a label that is wanted, from some of its rows and others for contrast: more, if it has no rows."""
    label = draw.label if draw.label is not None else draw.random.choice(list(draw.seeds.by_label))
    own = draw.some(OF_LABEL, draw.seeds.by_label[label])
    others = draw.some(CONTRAST if own else OF_LABEL + CONTRAST, draw.seeds.rows, lambda row: row.output != label)
    return RowRequest("answer", prompts.ANSWER, (*own, *others), label)


def _expansion(draw: Draw) -> RowRequest:
    """New inputs with their answers, from a few rows that show what such rows look like.

    Source: Wang et al. 2023, Self-Instruct.
    """
    first = draw.next_row("expansion")
    others = draw.some(VARIED - 1, draw.seeds.rows, lambda row: row is not first)
    return RowRequest("expansion", prompts.EXPANSION, (first, *others), None)


def _harder(draw: Draw) -> RowRequest:
    """Harder variants of one row, with their answers.

    Source: Xu et al. 2024, WizardLM (Evol-Instruct), of which only the steps that keep the task are used.
    """
    return RowRequest("harder", prompts.HARDER, (draw.next_row("harder"),), None)


KINDS: dict[str, Kind] = {
    kind.name: kind
    for kind in (
        Kind("paraphrase", _paraphrase, keeps_passages=True),
        Kind("answer", _answer, needs_labels=True),
        Kind("expansion", _expansion),
        Kind("harder", _harder),
    )
}
