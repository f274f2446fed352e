"""What a scorer is, and its entry in the table."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol, runtime_checkable

from lastresort.errors import DataError
from lastresort.types import Example, JsonObject


class Scorer(Protocol):
    """Says how right an answer is.

    binary: every score is 0 or 1, so that the sharper statistics apply. Calling it twice gives the same score. Raises
    DataError where the example cannot be scored (its expected answer is malformed), never because the answer is bad.
    """

    @property
    def name(self) -> str: ...
    @property
    def binary(self) -> bool: ...
    def __call__(self, answer: str, example: Example) -> float: ...


@runtime_checkable
class AsksAModel(Protocol):
    """A scorer that asks another model, and so is better given many answers at once.

    needs_output: it compares with the expected answer. open: opens the model, so that what is wrong with it shows early.
    """

    @property
    def needs_output(self) -> bool: ...
    def open(self) -> None: ...
    def score_batch(self, answers: Sequence[str], examples: Sequence[Example]) -> list[float]: ...


def scores_of(scorer: Scorer, answers: Sequence[str], examples: Sequence[Example]) -> list[float]:
    """The score of each answer to its example."""
    if isinstance(scorer, AsksAModel):
        return scorer.score_batch(answers, examples)
    return [float(scorer(answer, example)) for answer, example in zip(answers, examples, strict=True)]


@dataclass(frozen=True, slots=True)
class AnswerForm:
    """What the task says about answers. about: what it asks, "" where the inputs say it."""

    json_schema: JsonObject | None = None
    choices: tuple[str, ...] | None = None
    about: str = ""


@dataclass(frozen=True, slots=True)
class ScorerEntry:
    """A line of the table. parameters: the names it takes. main: the one that a bare value sets. reads: what an answer must
    hold to be scored at all, None for any text.
    """

    build: Callable[[Mapping[str, Any], AnswerForm], Scorer]
    parameters: tuple[str, ...] = ()
    main: str | None = None
    reads: Literal["json", "number"] | None = None


def expected_place(example: Example) -> str:
    """Where the expected answer of an example is, for errors."""
    return f'{example.place}, key "output" (example {example.id})' if example.source else example.place


def unusable_expected(example: Example, found: str, expected: str, remedy: str) -> DataError:
    """The error for an expected answer that this scorer cannot compare with."""
    return DataError(found, where=expected_place(example), expected=expected, remedy=remedy)
