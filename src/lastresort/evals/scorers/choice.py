"""The scorer for labels."""

from __future__ import annotations

import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from lastresort.evals.scorers.scorer import Output, unusable_expected
from lastresort.types import Example

_AROUND = " \t\r\n\"'`“”‘’*.。"


@dataclass(frozen=True, slots=True)
class Choice:
    """1 if the answer is the expected label and nothing else.

    Case, quotes, asterisks and a full stop around it do not count, unless two of the labels differ in nothing else.
    A sentence with the label in it is wrong: what reads the label downstream would not find it either.
    """

    choices: tuple[str, ...] | None
    name: str = "choice"
    binary: bool = True

    def __call__(self, answer: str, example: Example) -> float:
        if self.choices is None:
            return float(fold_label(answer) == fold_label(example.output))
        wanted = chosen(example.output, self.choices)
        if wanted is None:
            raise unusable_expected(
                example,
                f"{example.output!r}",
                f"one of output.choices ({', '.join(self.choices)})",
                "Correct the row or add the label to output.choices.",
            )
        return float(chosen(answer, self.choices) == wanted)


def chosen(answer: str, choices: Sequence[str]) -> str | None:
    """The choice that the answer names, None if it names none, or more than one.

    An answer that is a choice to the letter names it; otherwise the one choice that is equal when folded.
    """
    if answer.strip() in choices:
        return answer.strip()
    folded = fold_label(answer)
    named = [choice for choice in choices if fold_label(choice) == folded]
    return named[0] if len(named) == 1 else None


def fold_label(text: str) -> str:
    """NFKC, folded case, single spaces, nothing around it; a label made only of such signs stays as it is."""
    folded = " ".join(unicodedata.normalize("NFKC", text).casefold().split())
    return folded.strip(_AROUND) or folded


def choice(parameters: Mapping[str, Any], output: Output) -> Choice:
    return Choice(output.choices)
