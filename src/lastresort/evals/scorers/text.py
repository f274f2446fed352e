"""Scorers for short texts: exact, normalized, contains."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from lastresort.evals.scorers.scorer import Output
from lastresort.evals.scorers.words import same_text, words
from lastresort.types import Example


@dataclass(frozen=True, slots=True)
class Exact:
    """1 if the answer is the expected text, up to whitespace around it and Unicode composition (NFC)."""

    name: str = "exact"
    binary: bool = True

    def __call__(self, answer: str, example: Example) -> float:
        return float(same_text(answer, example.output))


@dataclass(frozen=True, slots=True)
class Normalized:
    """1 if both have the same words: case, spaces, punctuation and compatibility forms (NFKC) do not count.

    Signs and decimal points of numbers do. Texts without any word are compared as they are.
    """

    name: str = "normalized"
    binary: bool = True

    def __call__(self, answer: str, example: Example) -> float:
        wanted = words(example.output)
        return float(words(answer) == wanted if wanted else same_text(answer, example.output))


@dataclass(frozen=True, slots=True)
class Contains:
    """1 if the words of the expected text stand in the answer, together and in order ("art" is not in "party").

    An expected text without any word must be the whole answer.
    """

    name: str = "contains"
    binary: bool = True

    def __call__(self, answer: str, example: Example) -> float:
        wanted, said = words(example.output), words(answer)
        if not wanted:
            return float(same_text(answer, example.output))
        width = len(wanted)
        return float(any(said[start : start + width] == wanted for start in range(len(said) - width + 1)))


def exact(parameters: Mapping[str, Any], output: Output) -> Exact:
    return Exact()


def normalized(parameters: Mapping[str, Any], output: Output) -> Normalized:
    return Normalized()


def contains(parameters: Mapping[str, Any], output: Output) -> Contains:
    return Contains()
