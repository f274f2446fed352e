"""Expected and got side by side, as safe HTML with the differing parts marked."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from difflib import SequenceMatcher, ndiff
from typing import Any

from markupsafe import Markup, escape

from lastresort.data.answer_schema import schema_validator, violation
from lastresort.foreign import NotJson, parse_json
from lastresort.types import JsonObject

LONGEST, LONGEST_FAULT = 1_500, 300  # characters
MOST_TOKENS = 800
DEEPEST = 20
SHORT = 60
_LINE = re.compile(r"\n|[^\n]+")
_TOKEN = re.compile(r"\s+|\w+|[^\w\s]")


@dataclass(frozen=True, slots=True)
class AnswerSides:
    """Escaped HTML of both sides. note: what is wrong with the form of the answer, "" where nothing is."""

    expected: Markup
    got: Markup
    note: str = ""


def side_by_side(expected: str, got: str, schema: JsonObject | None = None) -> AnswerSides:
    """Compare key by key where the expected answer is a JSON object or list, else word by word. schema: of a right form."""
    right = _json(expected)
    if not isinstance(right, dict | list):
        return AnswerSides(*_words(clipped(expected), clipped(got)))
    try:
        answer = parse_json(got)
    except NotJson as error:
        note = f"Not JSON: {error.reason} at character {error.position + 1}." if got.strip() else "Empty answer."
        shown, at = clipped(got), error.position
        return AnswerSides(_tree(right, right), escape(shown[:at]) + _mark(shown[at:]), note)
    fault = None if schema is None else violation(schema_validator(schema), answer)
    note = "" if fault is None else f"JSON that does not fit the schema, at {clipped(fault, LONGEST_FAULT)}."
    return AnswerSides(_tree(right, answer), _tree(answer, right), note)


def changed(before: str, after: str) -> Markup:
    """Escaped HTML of a text that became another: what fell away and what came, word by word; line by line where they are long or
    have little in common.
    """
    left, right = _TOKEN.findall(before), _TOKEN.findall(after)
    kept = SequenceMatcher(None, re.findall(r"\w+", before), re.findall(r"\w+", after)).ratio()
    if len(left) + len(right) > MOST_TOKENS or kept < 0.5:
        left, right = _LINE.findall(before), _LINE.findall(after)
    found = Markup("")
    for kind, a, b, c, d in SequenceMatcher(None, left, right, autojunk=False).get_opcodes():
        old, new = "".join(left[a:b]), "".join(right[c:d])
        if kind == "equal":
            found += escape(old)
            continue
        found += Markup("<del>{}</del>").format(old) if old else ""
        found += Markup("\n" if old and new and len(old) + len(new) > SHORT and not old.endswith("\n") else "")
        found += Markup("<ins>{}</ins>").format(new) if new else ""
    return found


def changed_lines(before: str, after: str) -> list[str]:
    """The differences as plain text, as a patch shows it: each line after "- ", "+ " or two spaces."""
    lines = ndiff(before.splitlines(), after.splitlines())
    return [line.rstrip() for line in lines if not line.startswith("?")]


def clipped(text: str, longest: int = LONGEST) -> str:
    """Text without its middle where it is too long to read."""
    if len(text) <= longest:
        return text
    head, tail = 2 * longest // 3, longest // 3
    return f"{text[:head]} […{len(text) - head - tail:,} more characters…] {text[-tail:]}"


def _mark(text: str) -> Markup:
    return Markup("<mark>{}</mark>").format(text) if text else Markup("")


def _tree(value: Any, other: Any, depth: int = 0) -> Markup:
    """A JSON value, one key per line. What `other` lacks or has differently is marked."""
    inner, outer = "  " * (depth + 1), "  " * depth
    text = _dump(value)
    if text == _dump(other) and ((depth and len(text) <= SHORT) or not isinstance(value, dict | list)):
        return escape(clipped(text))
    open_up = depth < DEEPEST and bool(value)
    if open_up and isinstance(value, dict) and isinstance(other, dict):
        lines = [
            Markup("{}{}: {}").format(inner, _dump(key), _tree(part, other[key], depth + 1))
            if key in other
            else Markup("{}{}").format(inner, _mark(f"{_dump(key)}: {_dump(part)}"))
            for key, part in value.items()
        ]
        return Markup("{{\n{}\n{}}}").format(Markup(",\n").join(lines), outer)
    if open_up and isinstance(value, list) and isinstance(other, list) and len(value) == len(other):
        lines = [
            Markup("{}{}").format(inner, _tree(part, twin, depth + 1)) for part, twin in zip(value, other, strict=True)
        ]
        return Markup("[\n{}\n{}]").format(Markup(",\n").join(lines), outer)
    return escape(clipped(text)) if text == _dump(other) else _mark(clipped(text))


def _words(expected: str, got: str) -> tuple[Markup, Markup]:
    left, right = _TOKEN.findall(expected), _TOKEN.findall(got)
    if len(left) + len(right) > MOST_TOKENS:
        return escape(expected), escape(got)
    matcher = SequenceMatcher(None, left, right, autojunk=False)
    if matcher.ratio() < 0.35:  # two different texts: marking chance agreements would only confuse
        return _mark(expected), _mark(got)
    sides: tuple[list[Markup], list[Markup]] = ([], [])
    for kind, a, b, c, d in matcher.get_opcodes():
        wrap = escape if kind == "equal" else _mark
        sides[0].append(wrap("".join(left[a:b])))
        sides[1].append(wrap("".join(right[c:d])))
    return Markup("").join(sides[0]), Markup("").join(sides[1])


def _json(text: str) -> Any:
    try:
        return parse_json(text)
    except NotJson:
        return None


def _dump(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)
