"""What an answer looks like: the form that a task asks for, plain prose, or nothing."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from lastresort.data.answer_schema import schema_validator, violation
from lastresort.data.formats.rows import NotJson, parse_json
from lastresort.evals.scorers.forms import chosen, fold_label
from lastresort.evals.scorers.scorer import AnswerForm
from lastresort.evals.scorers.text import words
from lastresort.types import JsonObject

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
