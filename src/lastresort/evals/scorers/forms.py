"""The forms of an answer, and the scorers for labels, for numbers and for JSON: json_valid, json_exact, json_fields.

A JSON answer must be JSON and nothing else (see `parse_json`). Also what an answer looks like: the form that a task asks for,
plain prose, or nothing.
"""

from __future__ import annotations

import math
import re
import unicodedata
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from lastresort.data.answer_schema import schema_validator, violation
from lastresort.data.check import allowed
from lastresort.errors import TaskError
from lastresort.evals.scorers.scorer import AnswerForm, unusable_expected
from lastresort.evals.scorers.text import words
from lastresort.foreign import NotJson, parse_json
from lastresort.types import Example, JsonObject

AROUND = " \t\r\n\"'`“”‘’*.。"


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
                allowed(self.choices, example.output),
                "Correct the row, or add the label to output.choices.",
            )
        return float(chosen(answer, self.choices) == wanted)


def chosen(answer: str, choices: Sequence[str]) -> str | None:
    """The choice that the answer names, None if it names none, or more than one.

    An answer that is a choice to the letter names it; otherwise the one choice that is equal when folded.
    """
    known = _known_choices(tuple(choices))
    if answer.strip() in known.exact:
        return answer.strip()
    named = known.folded.get(fold_label(answer), ())
    return named[0] if len(named) == 1 else None


@dataclass(frozen=True, slots=True)
class _KnownChoices:
    """folded: the choices by their folded form."""

    exact: frozenset[str]
    folded: Mapping[str, Sequence[str]]


@lru_cache(maxsize=8)
def _known_choices(choices: tuple[str, ...]) -> _KnownChoices:
    """Made once for a task: it may have 100,000 labels, and each is looked up for each answer."""
    folded: dict[str, list[str]] = {}
    for choice in choices:
        folded.setdefault(fold_label(choice), []).append(choice)
    return _KnownChoices(frozenset(choices), folded)


def fold_label(text: str) -> str:
    """NFKC, folded case, single spaces, nothing around it; a label made only of such signs stays as it is."""
    folded = " ".join(unicodedata.normalize("NFKC", text).casefold().split())
    return folded.strip(AROUND) or folded


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

    A field that the schema does not name counts as wrong, so that naming everything does not pay.
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


PROSE_WORDS = 4
SENTENCE_WORDS = 40
ABSTAINING = frozenset(
    "other|others|none|null|unknown|unclear|unsure|undecided|n/a|na|not applicable|irrelevant|off-topic|off topic|"
    "out of scope|no answer|miscellaneous|misc|general|cannot tell|invalid|empty|no match|not found|spam|nonsense".split(
        "|"
    )
)
_FENCE = re.compile(r"\s*```\w*\s*\n?(.*?)(?:```\s*)?\Z", re.DOTALL)
_CONTAINER = re.compile(r'[\[{]\s*["{\[\d\]}]')
_SENTENCE_END = re.compile(r"[.!?]+[\"')\]]*\s+(?=\S)")


def is_free_text(output: AnswerForm) -> bool:
    return output.json_schema is None and output.choices is None


def has_form(text: str, output: AnswerForm) -> bool:
    """Whether a text is an answer of the task's form: JSON that the schema allows, or one of its labels, as its first line.

    JSON that begins as an object or a list counts even if it is cut short or the schema does not allow it: where nobody asked
    for JSON, it is the form that leaks and not its correctness. A fence around it does not count. Never of free text.
    """
    if output.choices is not None:
        first = next((line for line in text.splitlines() if line.strip()), "")
        return chosen(first, output.choices) is not None
    if output.json_schema is None:
        return False
    bare = _unfenced(text)
    return _CONTAINER.match(bare) is not None or _allowed(bare, output.json_schema)


def begins_with_form(output: AnswerForm) -> bool:
    """Whether the beginning of a text, a bracket of JSON and what follows it, tells as much of its form as the whole of it."""
    if output.choices is not None or output.json_schema is None:
        return False
    return output.json_schema.get("type") in ("object", "array")


def is_forced(text: str, output: AnswerForm) -> bool:
    """Whether a text answers in the task's form without saying, by a label such as "other", that nothing fits."""
    if not has_form(text, output):
        return False
    if output.choices is not None:
        return fold_label(text) not in ABSTAINING
    try:
        value = parse_json(_unfenced(text))
    except NotJson:
        return True
    return not any(fold_label(leaf) in ABSTAINING for leaf in _texts(value))


def is_prose(text: str, output: AnswerForm) -> bool:
    """A few words at least, not in the task's form."""
    return len(words(text)) >= PROSE_WORDS and not has_form(text, output)


def is_one_sentence(text: str) -> bool:
    """A few words, not many, and no end of a sentence before the last."""
    return PROSE_WORDS <= len(words(text)) <= SENTENCE_WORDS and not _SENTENCE_END.search(text.strip())


def _unfenced(text: str) -> str:
    fenced = _FENCE.match(text)
    return (fenced[1] if fenced else text).strip()


def _allowed(text: str, schema: JsonObject) -> bool:
    try:
        value = parse_json(text)
    except NotJson:
        return False
    return violation(schema_validator(schema), value) is None


def _texts(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    for one in inner:
        yield from _texts(one)
