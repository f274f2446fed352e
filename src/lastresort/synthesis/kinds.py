"""Kinds of synthetic rows: which rows of train and which passage a request shows, and whether it settles the answer. A new one is
a function and a line in the table.

Of the passages of a task's documents a teacher is shown only those that give away no item of dev and test.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from heapq import heapify, heapreplace
from random import Random
from typing import Protocol, TypeVar

from lastresort.data.duplicates import input_hash
from lastresort.data.held_passages import CutDocuments, HeldPassages, chunks_that_hold
from lastresort.knowledge.chunks import Chunk
from lastresort.synthesis import prompts
from lastresort.types import Example

OF_LABEL, CONTRAST = 4, 2  # rows that `answer` shows
VARIED = 5  # rows that `expansion` shows
FORM_ROWS = 3  # that `documents` shows
LOOKED_AT = 200  # rows, for some that fit


class _Seed(Protocol):
    @property
    def id(self) -> str: ...


S = TypeVar("S", bound=_Seed)


@dataclass(frozen=True, slots=True)
class RowRequest:
    """One request to the teacher. asks: its words, with a place for the answer. shown: rows of train. answer: that of every new
    row, None where the teacher writes it. n: rows to write. passage: of the documents, in which the answers are.
    """

    kind: str
    asks: str
    shown: tuple[Example, ...]
    answer: str | None
    n: int = prompts.PER_REQUEST
    passage: Chunk | None = None

    @property
    def turn(self) -> tuple[str, str]:
        """Whose turn it was: the kind, and the id of the passage, else of the first row."""
        return self.kind, self.shown[0].id if self.passage is None else self.passage.id


@dataclass(frozen=True, slots=True)
class SeedRows:
    """The rows of train that may be shown, one for each input, in random order. by_label: by answer, one for each input of a label;
    empty where answers are no labels.
    passages: of the task's documents, in random order, empty where no question is to be made from them. protection: what
    keeps others from the teacher, None where no documents were read.
    """

    rows: tuple[Example, ...]
    by_label: Mapping[str, Sequence[Example]] = field(default_factory=dict)
    passages: tuple[Chunk, ...] = ()
    protection: PassageProtection | None = None

    def of(self, label: str | None) -> Sequence[Example]:
        """All of this label, where it has any."""
        return (self.by_label.get(label) if label is not None else None) or self.rows


class Turns:
    """Whose turn it is to be the first row of a request, or its passage. shown: how often each kind showed each of them, by id."""

    def __init__(self, seeds: SeedRows, shown: Mapping[tuple[str, str], int]) -> None:
        self._seeds, self._shown = seeds, Counter(shown)
        self._by_all = Counter[str]()
        for (_, one), times in shown.items():
            self._by_all[one] += times
        self._waiting: dict[tuple[str, str | None], list[tuple[int, int, int]]] = {}

    def next_row(self, kind: str, label: str | None) -> Example:
        """The one of the label that this kind showed least often, of those the one that all kinds did."""
        return self._next(kind, label, self._seeds.of(label))

    def next_passage(self, kind: str) -> Chunk:
        """The one that this kind showed least often."""
        return self._next(kind, None, self._seeds.passages)

    def count(self, request: RowRequest) -> None:
        kind, one = request.turn
        self._shown[kind, one] += 1
        self._by_all[one] += 1

    def _next(self, kind: str, label: str | None, seeds: Sequence[S]) -> S:
        key = (kind, label)
        if key not in self._waiting:
            self._waiting[key] = [(*self._times(kind, one.id), place) for place, one in enumerate(seeds)]
            heapify(self._waiting[key])
        waiting = self._waiting[key]
        while True:  # what is noted of one is too low once it was shown, and never too high
            noted, place = waiting[0][:2], waiting[0][2]
            if (times := self._times(kind, seeds[place].id)) == noted:
                return seeds[place]
            heapreplace(waiting, (*times, place))

    def _times(self, kind: str, one: str) -> tuple[int, int]:
        return self._shown[kind, one], self._by_all[one]


@dataclass(frozen=True, slots=True)
class Draw:
    """From what a request is made. label: whose rows are wanted most, None where any are welcome."""

    seeds: SeedRows
    turns: Turns
    random: Random
    label: str | None

    def next_row(self, kind: str) -> Example:
        return self.turns.next_row(kind, self.label)

    def next_passage(self, kind: str) -> Chunk:
        return self.turns.next_passage(kind)

    def some(
        self,
        n: int,
        rows: Sequence[Example],
        fits: Callable[[Example], bool] = lambda row: True,
        shown: Sequence[Example] = (),
    ) -> list[Example]:
        """At most n of these that fit, in random order, no two of the same input, and none of that of a row that is shown."""
        found = different([row for row in self.random.sample(rows, min(LOOKED_AT, len(rows))) if fits(row)], shown)
        if len(found) < n and len(rows) > LOOKED_AT:
            found = [row for row in rows if fits(row)]
            self.random.shuffle(found)
            found = different(found, shown)
        return found[:n]


def different(rows: Sequence[Example], shown: Sequence[Example] = ()) -> list[Example]:
    """The first row of each input, without the inputs that are shown: train may have a row several times."""
    known, found = set(map(input_hash, shown)), list[Example]()
    for row in rows:
        if (one := input_hash(row)) not in known:
            known.add(one)
            found.append(row)
    return found


@dataclass(frozen=True, slots=True)
class Kind:
    """request: makes the next one. keeps_passages: its rows are answered by the passages of the row shown.
    needs_labels: its rows are of the label that is wanted, even one that train lacks; without labels there are none.
    needs_passages: it shows a passage of the task's documents, from which its rows are answered; without any there are none.
    """

    name: str
    request: Callable[[Draw], RowRequest]
    keeps_passages: bool = False
    needs_labels: bool = False
    needs_passages: bool = False


def _paraphrase(draw: Draw) -> RowRequest:
    """An input of train in other words. The answer is kept."""
    row = draw.next_row("paraphrase")
    return RowRequest("paraphrase", prompts.PARAPHRASE, (row,), row.output)


def _answer(draw: Draw) -> RowRequest:
    """New inputs for a label that is wanted, from some of its rows and others for contrast: more, if it has no rows."""
    label = draw.label if draw.label is not None else draw.random.choice(list(draw.seeds.by_label))
    own = draw.some(OF_LABEL, draw.seeds.by_label[label])
    most = CONTRAST if own else OF_LABEL + CONTRAST
    others = draw.some(most, draw.seeds.rows, lambda row: row.output != label, own)
    return RowRequest("answer", prompts.ANSWER, (*own, *others), label)


def _expansion(draw: Draw) -> RowRequest:
    """New inputs with their answers, from a few rows that show what such rows look like.

    Source: Wang et al. 2023, Self-Instruct.
    """
    first = draw.next_row("expansion")
    others = draw.some(VARIED - 1, draw.seeds.rows, shown=[first])
    return RowRequest("expansion", prompts.EXPANSION, (first, *others), None)


def _harder(draw: Draw) -> RowRequest:
    """Harder variants of one row, with their answers.

    Source: Xu et al. 2024, WizardLM (Evol-Instruct), of which only the steps that keep the task are used.
    """
    return RowRequest("harder", prompts.HARDER, (draw.next_row("harder"),), None)


def stands_alone(row: Example) -> bool:
    """Whether its input is one question, which no earlier turn leads to."""
    return all(turn.role == "system" for turn in row.input[:-1])


def _documents(draw: Draw) -> RowRequest:
    """Questions that a passage answers, with their answers. Rows show how questions and answers look.

    Source: Alberti et al. 2019, Synthetic QA Corpora Generation with Roundtrip Consistency.
    """
    shown = draw.some(FORM_ROWS, draw.seeds.rows, stands_alone)
    return RowRequest("documents", prompts.DOCUMENTS, tuple(shown), None, passage=draw.next_passage("documents"))


KINDS: dict[str, Kind] = {
    kind.name: kind
    for kind in (
        Kind("paraphrase", _paraphrase, keeps_passages=True),
        Kind("answer", _answer, needs_labels=True),
        Kind("expansion", _expansion),
        Kind("harder", _harder),
        Kind("documents", _documents, needs_passages=True),
    )
}


LEAST_CHARACTERS = 80  # of a passage that says more than a heading


@dataclass(frozen=True, slots=True)
class PassageProtection:
    """What keeps passages of dev and test from a teacher. hidden: passages that are not shown for it. rows: of dev and test, of
    which `unnamed` name no passage. unknown: labels of theirs that name nothing. skipped: files that were not read.
    """

    hidden: int
    rows: int
    unnamed: int
    unknown: tuple[str, ...]
    skipped: tuple[str, ...]


def seed_passages(cut: CutDocuments, held: Sequence[Example], seed: int) -> tuple[tuple[Chunk, ...], PassageProtection]:
    """In random order. held: rows of dev and test as they were read. No passage is shown that one of them names, nor one with
    (nearly) the same text, since a question about it could be an item of theirs in other words, and none that has the input of one
    in it.
    """
    long_enough = [chunk for chunk in cut.chunks if len(chunk.text) >= LEAST_CHARACTERS]
    passages = HeldPassages(cut, held)
    asked = chunks_that_hold((row.input[-1].content for row in held), long_enough)
    hidden = {
        chunk.id
        for chunk, is_held in zip(long_enough, passages.hold(long_enough), strict=True)
        if is_held or chunk.id in asked
    }
    found = [chunk for chunk in long_enough if chunk.id not in hidden]
    protection = PassageProtection(len(hidden), len(held), passages.unnamed, passages.unknown, cut.skipped)
    return tuple(Random(f"synthetic passages:{seed}").sample(found, len(found))), protection


def passages_hash(passages: Sequence[Chunk]) -> str:
    """Changes with what a teacher may be shown; "" without passages."""
    known = "".join(sorted(f"{chunk.id}\0{chunk.embedded}\0" for chunk in passages))
    return hashlib.sha256(known.encode()).hexdigest()[:16] if passages else ""
