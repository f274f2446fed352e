"""Whether an instruction copies training rows: it would know these answers by heart, and help with no other input."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from lastresort.evals.scorers.text import words
from lastresort.records.events import RefusedPrompt
from lastresort.types import Example

MOST_SHARED_WORDS = 8
NEAR_WORDS = 8  # between an input and its answer in a list
LISTED_ROWS = 2  # one may be a coincidence, where inputs are single words


@dataclass(frozen=True, slots=True)
class CopiedRows:
    """kind: how. words: those that a row and the instruction share; of a list, the first row of it."""

    kind: RefusedPrompt
    words: str


def copied_rows(instruction: str, plain: str, rows: Sequence[Example]) -> CopiedRows | None:
    """What an instruction copies of the rows, None where it copies nothing.

    It copies if it shares more than 8 words in a row with an input or an answer, or if it holds at least two whole rows: the input,
    and within 8 words after it the answer. Case and punctuation do not count; a character of a script without spaces is a word.
    plain: the instruction before, whose words are the task's own.
    """
    text, own = words(instruction), frozenset(_runs(words(plain), MOST_SHARED_WORDS + 1))
    runs = frozenset(_runs(text, MOST_SHARED_WORDS + 1)) - own
    listed: list[str] = []
    for row in rows:
        sides = words(row.input_text), words(row.output)
        for side in sides:
            shared = next((run for run in _runs(side, MOST_SHARED_WORDS + 1) if run in runs), None)
            if shared is not None:
                return CopiedRows("shares words", " ".join(shared))
        if _lists(text, *sides):
            listed.append(" ".join([*sides[0], *sides[1]]))
    return CopiedRows("lists rows", listed[0]) if len(listed) >= LISTED_ROWS else None


def _runs(text: Sequence[str], length: int) -> Iterator[tuple[str, ...]]:
    return (tuple(text[start : start + length]) for start in range(len(text) - length + 1))


def _lists(text: Sequence[str], asked: Sequence[str], answer: Sequence[str]) -> bool:
    """Whether the text holds the input, and its answer soon after it."""
    if not asked or not answer:
        return False
    for start, run in enumerate(_runs(text, len(asked))):
        if run == tuple(asked):
            end = start + len(asked)
            if tuple(answer) in _runs(text[end : end + NEAR_WORDS + len(answer)], len(answer)):
                return True
    return False
