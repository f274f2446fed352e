"""Kinds of synthetic rows: which rows of train a request shows, and whether it settles the answer. A new one is a function and a
line in the table.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from random import Random

from lastresort.synthesis import prompts
from lastresort.types import Example

OF_LABEL, CONTRAST = 4, 2  # rows that `answer` shows
VARIED = 5  # rows that `expansion` shows


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


def _paraphrase(draw: Draw) -> RowRequest:
    """An input of train in other words. The answer is kept."""
    row = draw.next_row("paraphrase")
    return RowRequest("paraphrase", prompts.PARAPHRASE, (row,), row.output)


def _answer(draw: Draw) -> RowRequest:
    """New inputs for a label that is wanted, from some of its rows, and others for contrast. One without rows has those only."""
    label = draw.label if draw.label is not None else draw.random.choice(list(draw.seeds.by_label))
    own = draw.some(OF_LABEL, draw.seeds.of(label))
    others = [row for row in draw.seeds.rows if row.output != label and row not in own]
    return RowRequest("answer", prompts.ANSWER, (*own, *draw.some(CONTRAST, others)), label)


def _expansion(draw: Draw) -> RowRequest:
    """New inputs with their answers, from a few rows that show what such rows look like.

    Source: Wang et al. 2023, Self-Instruct.
    """
    first = draw.next_row("expansion")
    others = [row for row in draw.seeds.rows if row is not first]
    return RowRequest("expansion", prompts.EXPANSION, (first, *draw.some(VARIED - 1, others)), None)


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
