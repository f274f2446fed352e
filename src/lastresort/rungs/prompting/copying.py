"""Whether an instruction copies training rows: it would know these answers by heart, and help with no other input."""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from lastresort.evals.scorers.text import words
from lastresort.records.events import RefusedPrompt
from lastresort.types import Example

MOST_SHARED_WORDS = 8
NEAR_WORDS = 8  # between an input and its answer in a list, other inputs not counted
LISTED_ROWS, LISTED_WORDS = 2, 4  # of their inputs together: a rule, too, names an input of one word next to its answer
LINE_BREAK = re.compile(r"\\[nrt]|<br ?/?>")  # in JSON and in a table

Row = tuple[tuple[str, ...], tuple[str, ...]]  # words of the input and of the answer
Place = tuple[int, int]  # first word, and the one after the last


@dataclass(frozen=True, slots=True)
class CopiedRows:
    """kind: how. words: those that a row and the instruction share; of a list, the first row of it."""

    kind: RefusedPrompt
    words: str


def copied_rows(instruction: str, plain: str, rows: Sequence[Example]) -> CopiedRows | None:
    """What an instruction copies of the rows, None where it copies nothing.

    It copies if it shares more than 8 words in a row with an input or an answer, or if it holds at least two whole rows, with at
    least four words of input: the input, and the answer at most 8 words before or after it, not counting other inputs, since a list
    may name an answer once for several. Case, punctuation and line breaks do not count; a character of a script without spaces is a
    word. plain: the instruction before, whose words and examples are the task's own.
    """
    text, own = _words(instruction), _words(plain)
    runs = frozenset(_runs(text, MOST_SHARED_WORDS + 1)) - frozenset(_runs(own, MOST_SHARED_WORDS + 1))
    sides = [(tuple(_words(row.input_text)), tuple(_words(row.output))) for row in rows]
    for side in itertools.chain.from_iterable(sides):
        shared = next((run for run in _runs(side, MOST_SHARED_WORDS + 1) if run in runs), None)
        if shared is not None:
            return CopiedRows("shares words", " ".join(shared))
    listed = _listed(text, sides)
    if listed:
        known = _listed(own, sides)
        listed = [row for row in listed if row not in known]
    if len(listed) < LISTED_ROWS or sum(len(asked) for asked, _ in listed) < LISTED_WORDS:
        return None
    return CopiedRows("lists rows", " ".join(itertools.chain(*listed[0])))


def _words(text: str) -> list[str]:
    return words(LINE_BREAK.sub(" ", text))


def _runs(text: Sequence[str], length: int) -> Iterator[tuple[str, ...]]:
    return (tuple(text[start : start + length]) for start in range(len(text) - length + 1))


def _listed(text: Sequence[str], rows: Sequence[Row]) -> list[Row]:
    """The rows that the text holds."""
    asked = {row: _places(text, row[0]) for row in rows}
    inputs = {place for starts in asked.values() for start, end in starts for place in range(start, end)}
    others = [0, *itertools.accumulate(place not in inputs for place in range(len(text)))]  # words before, of no input

    def near(one: Place, other: Place) -> bool:
        first, second = sorted((one, other))
        return first[1] <= second[0] and others[second[0]] - others[first[1]] <= NEAR_WORDS

    found = []
    for row, starts in asked.items():
        answers = _places(text, row[1]) if starts else []
        if any(near(*pair) for pair in itertools.product(starts, answers)):
            found.append(row)
    return found


def _places(text: Sequence[str], run: Sequence[str]) -> list[Place]:
    """Where the text holds the run, which is nowhere if that is empty."""
    starts = (i for i, word in enumerate(text) if run and word == run[0])
    return [(i, i + len(run)) for i in starts if tuple(text[i : i + len(run)]) == tuple(run)]
