"""The scorers for labels, for numbers and for JSON answers: json_valid, json_exact, json_fields.

A JSON answer must be JSON and nothing else (see `parse_json`).
"""

from __future__ import annotations

import math
import re
import unicodedata
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from lastresort.data.answer_schema import schema_validator, violation
from lastresort.data.formats.rows import NotJson, parse_json
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


def same_json(left: Any, right: Any) -> bool:
    """Equal as JSON: 1 is 1.0, true is not 1, the order of keys does not matter, the order of a list does."""
    if isinstance(left, bool) or isinstance(right, bool):
        return left is right
    if isinstance(left, dict) and isinstance(right, dict):
        return left.keys() == right.keys() and all(same_json(value, right[key]) for key, value in left.items())
    if isinstance(left, list) and isinstance(right, list):
        return len(left) == len(right) and all(same_json(a, b) for a, b in zip(left, right, strict=True))
    return bool(left == right)


def leaves(value: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    """Each field with its path; an object's fields are opened, a list and an empty object are one field."""
    if isinstance(value, dict) and value:
        for key, inner in value.items():
            yield from leaves(inner, (*path, key))
    else:
        yield path, value


@dataclass(frozen=True, slots=True)
class JsonValid:
    """1 if the answer is JSON, and valid against output.schema where there is one; what it says does not count."""

    validator: Any | None
    name: str = "json_valid"
    binary: bool = True

    def __call__(self, answer: str, example: Example) -> float:
        try:
            value = parse_json(answer)
        except NotJson:
            return 0.0
        return float(self.validator is None or violation(self.validator, value) is None)


@dataclass(frozen=True, slots=True)
class JsonExact:
    """1 if the answer is JSON equal to the expected one: 1 is 1.0, the order of keys does not matter."""

    name: str = "json_exact"
    binary: bool = True

    def __call__(self, answer: str, example: Example) -> float:
        expected = _expected(example)
        try:
            return float(same_json(parse_json(answer), expected))
        except NotJson:
            return 0.0


@dataclass(frozen=True, slots=True)
class JsonFields:
    """Share of right fields among those expected or answered; nested objects are opened, a list is one field.

    A field that was not asked for counts as wrong, so that naming everything does not pay.
    """

    name: str = "json_fields"
    binary: bool = False

    def __call__(self, answer: str, example: Example) -> float:
        expected = dict(leaves(_expected(example)))
        try:
            said = dict(leaves(parse_json(answer)))
        except NotJson:
            return 0.0
        right = sum(path in said and same_json(said[path], value) for path, value in expected.items())
        return right / len(expected.keys() | said.keys())


def json_valid(parameters: Mapping[str, Any], output: AnswerForm) -> JsonValid:
    return JsonValid(None if output.json_schema is None else schema_validator(output.json_schema))


def json_exact(parameters: Mapping[str, Any], output: AnswerForm) -> JsonExact:
    return JsonExact()


def json_fields(parameters: Mapping[str, Any], output: AnswerForm) -> JsonFields:
    return JsonFields()


def _expected(example: Example) -> Any:
    try:
        return parse_json(example.output)
    except NotJson as error:
        raise unusable_expected(
            example,
            f"text that is not JSON ({error})",
            "a JSON value",
            "Write the expected answer as a JSON object, or choose a scorer for text.",
        ) from error
