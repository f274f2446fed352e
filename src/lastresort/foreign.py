"""Strict JSON: here alone a text of a user or a model becomes a JSON value."""

from __future__ import annotations

import json
import math
import re
from typing import Any

from lastresort.types import JsonObject

DEEPEST = 100
_HALF = re.compile("[\ud800-\udfff]")
_ESCAPED_OR_BARE_HALF = re.compile(r"\\u[dD][89a-fA-F]|[\ud800-\udfff]")
LONGEST_DIGITS = 310  # no float is longer; beyond 4,300 digits int() itself refuses


class NotJson(ValueError):
    """The text is not one JSON document, or would lose something when read.

    remedy: what to do where the fault is in a user's file. line, column: from 1, None where the fault is not one of syntax.
    position: of the first character that is not JSON, from 0.
    """

    def __init__(self, reason: str, remedy: str, at: json.JSONDecodeError | None = None) -> None:
        super().__init__(reason)
        self.reason, self.remedy = reason, remedy
        self.line = at.lineno if at is not None else None
        self.column = at.colno if at is not None else None
        self.position = at.pos if at is not None else 0


def parse_json(text: str) -> Any:
    """The value of a text that is one JSON document and nothing else; whitespace around it is allowed.

    Raises NotJson for a ```json fence or words around the document, for what would be lost or changed silently (a repeated key,
    NaN, numbers too large for a float, half of a surrogate pair, which no tokenizer takes), and for more than 100 levels. Programs
    that call a model for JSON do not strip a fence either.
    """
    try:
        value = json.loads(
            text, object_pairs_hook=_unique, parse_constant=_constant, parse_float=_fraction, parse_int=_whole
        )
    except json.JSONDecodeError as error:
        raise NotJson(error.msg, "Fix it.", error) from error
    except RecursionError as error:
        raise _too_deep() from error
    if _depth(value) > DEEPEST:
        raise _too_deep()
    if _ESCAPED_OR_BARE_HALF.search(text):
        _refuse_halves(value)
    return value


def lone_surrogate(text: str) -> str | None:
    """The first lone half of a surrogate pair, escaped; None where there is none."""
    found = None if text.isascii() else _HALF.search(text)
    return None if found is None else f"\\u{ord(found[0]):04x}"


def is_json(text: str) -> bool:
    try:
        parse_json(text)
    except NotJson:
        return False
    return True


def _too_deep() -> NotJson:
    return NotJson(f"JSON nested too deeply, in more than {DEEPEST} levels", "Flatten it.")


def _unique(pairs: list[tuple[str, Any]]) -> JsonObject:
    found = dict(pairs)
    if len(found) < len(pairs):
        keys = [key for key, _ in pairs]
        twice = next(key for key in keys if keys.count(key) > 1)
        raise NotJson(f'the key "{twice}" twice in one object', "Keep one of the two.")
    return found


def _constant(name: str) -> Any:
    raise NotJson(f"{name}, which is no JSON number", "Write null or leave the key out.")


def _fraction(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise _too_large(text)
    return value


def _whole(text: str) -> int:
    if len(text) > LONGEST_DIGITS:
        raise _too_large(text)
    try:
        float(value := int(text))
    except OverflowError as error:
        raise _too_large(text) from error
    return value


def _refuse_halves(value: Any) -> None:
    """value: at most DEEPEST levels."""
    if isinstance(value, str) and (half := lone_surrogate(value)) is not None:
        raise NotJson(f"half of a surrogate pair ({half}), which is no character", "Remove it or write the whole pair.")
    if isinstance(value, dict):
        for key, inner in value.items():
            _refuse_halves(key)
            _refuse_halves(inner)
    elif isinstance(value, list):
        for inner in value:
            _refuse_halves(inner)


def _too_large(text: str) -> NotJson:
    shown = text if len(text) <= 24 else f"{text[:12]}…, {len(text)} characters"
    return NotJson(f"a number too large for a float ({shown})", "Write it as text.")


def _depth(value: Any) -> int:
    """Levels of nesting, counted without recursion."""
    level, depth = [value], 0
    while level:
        depth += 1
        containers = [v for v in level if isinstance(v, dict | list)]
        level = [inner for v in containers for inner in (v.values() if isinstance(v, dict) else v)]
    return depth
