"""Scorers for JSON answers: json_valid, json_exact, json_fields. An answer must be JSON and nothing else (see `parse_json`)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from lastresort.data.answer_schema import schema_validator, violation
from lastresort.data.formats.rows import NotJson, parse_json
from lastresort.evals.scorers.scorer import AnswerForm, unusable_expected
from lastresort.types import Example


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
