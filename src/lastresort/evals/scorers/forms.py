"""The scorers for labels and for numbers."""

from __future__ import annotations

import math
import re
import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from lastresort.errors import TaskError
from lastresort.evals.scorers.scorer import AnswerForm, unusable_expected
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


def choice(parameters: Mapping[str, Any], output: AnswerForm) -> Choice:
    return Choice(output.choices)


_NUMBER = re.compile(
    r"(?<![\w.])(?P<sign>[-+]?)[ ]?[$€£¥]?(?P<inner>[-+]?)"
    r"(?P<digits>(?:\d{1,3}(?:,\d{3})+(?!\d)|\d+)(?:\.\d+)?|\.\d+)(?P<exponent>[eE][-+]?\d+)?"
)
_ROUNDING = 1e-12


@dataclass(frozen=True, slots=True)
class Number:
    """1 if the final number of the answer is the expected one, within tolerance or relative * |expected|.

    The final number, because a model reasons first and concludes last. Read: 1,234.5  -3  -$3  2.5e-3  .5; a currency
    sign before and a percent sign after it do not count (12% is 12). Not read: fractions, words, decimal commas.
    """

    tolerance: float
    relative: float
    name: str = "number"
    binary: bool = True

    def __call__(self, answer: str, example: Example) -> float:
        expected = final_number(example.output)
        if expected is None:
            raise unusable_expected(
                example, f"{example.output!r}", "an answer with a number in it", "Correct the row or change `score`."
            )
        said = final_number(answer)
        allowed = max(self.tolerance, self.relative * abs(expected)) + _ROUNDING * abs(expected)
        return float(said is not None and abs(said - expected) <= allowed)


def final_number(text: str) -> float | None:
    """The last finite number in the text, None if there is none. A minus between two numbers is not a sign."""
    numbers = [_value(match) for match in _NUMBER.finditer(text.replace("−", "-"))]
    finite = [number for number in numbers if math.isfinite(number)]
    return finite[-1] if finite else None


def number(parameters: Mapping[str, Any], output: AnswerForm) -> Number:
    return Number(_amount(parameters, "tolerance"), _amount(parameters, "relative"))


def _value(match: re.Match[str]) -> float:
    size = float(match["digits"].replace(",", "") + (match["exponent"] or ""))
    return -size if "-" in (match["sign"], match["inner"]) else size


def _amount(parameters: Mapping[str, Any], key: str) -> float:
    value = parameters.get(key, 0.0)
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 <= value < math.inf:
        raise TaskError(
            f"{value!r}", where=f'task file, key "score.number.{key}"', expected="a number that is not negative"
        )
    return float(value)
