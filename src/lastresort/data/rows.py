"""A row of a file before its shape is known, and JSON read strictly."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from lastresort.errors import DataError


@dataclass(frozen=True, slots=True)
class RawRow:
    """number: 1-based row of the file (JSON Lines: its line; tables: the header is not counted). place: for errors."""

    values: Mapping[str, Any]
    number: int
    place: str

    def at(self, key: str) -> str:
        return f'{self.place}, key "{key}"'


def kind_of(value: object) -> str:
    """What was found, in a user's words."""
    match value:
        case None:
            return "null"
        case bool():
            return f"a truth value ({json.dumps(value)})"
        case int() | float():
            return f"a number ({value})"
        case str():
            return "text" if value.strip() else "empty text"
        case list() | tuple():
            return f"a list of {len(value)}"
        case Mapping():
            return "an object"
    return f"a {type(value).__name__}"


def compact_json(value: object, where: str) -> str:
    """JSON without spaces, keys in their order, letters as they are."""
    try:
        return json.dumps(value, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    except (TypeError, ValueError) as error:
        raise DataError(
            f"found a value that JSON cannot hold ({error})",
            where=where,
            expected="text, a number, a list or an object",
            remedy="Convert this column to text.",
        ) from error


def parse_json(text: str, where: str, *, first_line: int = 1) -> Any:
    """The value of a JSON text; a repeated key or NaN is an error, since either would lose data in silence.

    first_line: the line of the file on which `text` starts, so that the error names the file's line.
    """

    def pairs(items: list[tuple[str, Any]]) -> dict[str, Any]:
        found = dict(items)
        if len(found) < len(items):
            keys = [key for key, _ in items]
            twice = next(key for key in keys if keys.count(key) > 1)
            raise DataError(f'found the key "{twice}" twice in one object', where=where, remedy="Keep one of the two.")
        return found

    def constant(name: str) -> Any:
        raise DataError(
            f"found {name}", where=where, expected="JSON numbers", remedy="Write null or leave the key out."
        )

    try:
        return json.loads(text, object_pairs_hook=pairs, parse_constant=constant)
    except json.JSONDecodeError as error:
        raise DataError(
            f"found invalid JSON at row {first_line + error.lineno - 1} column {error.colno} ({error.msg})",
            where=where,
            expected="valid JSON",
            remedy="Mend this row.",
        ) from error
    except RecursionError as error:
        raise DataError("found JSON nested too deeply", where=where, remedy="Flatten this row.") from error
