"""A row of a file before its shape is known."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from lastresort.errors import DataError
from lastresort.foreign import NotJson, parse_json

SHOWN_ROWS = 5


@dataclass(frozen=True, slots=True)
class RawRow:
    """number: 1-based row of the file (JSON Lines: its line; tables: the header is not counted). place: for errors. in_table: its
    values are cells, all of them text. names: our key -> the file's own column, where the task file renames it. header: known
    column -> as the header spells it, where that is "Label" or "LABEL". line: on which the row of a table begins, 0 elsewhere.
    """

    values: Mapping[str, Any]
    number: int
    place: str
    in_table: bool = False
    names: Mapping[str, str] = field(default_factory=dict)
    header: Mapping[str, str] = field(default_factory=dict)
    line: int = 0

    def at(self, key: str) -> str:
        return f"{self.place}, {self.called(key)}"

    def called(self, key: str) -> str:
        return f'key "{self.names.get(key, key)}"'


def kind_of(value: object) -> str:
    """The kind of value, as an error calls it."""
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


def in_rows(rows: Sequence[int]) -> str:
    """Where the same fault occurs: "in rows 18, 32, 40, 41, 57 …"."""
    named = ", ".join(map(str, rows[:SHOWN_ROWS])) + (" …" if len(rows) > SHOWN_ROWS else "")
    return f"in row{'s' if len(rows) > 1 else ''} {named}"


def more_in(rows: Sequence[int]) -> str:
    """The rows with the same fault as one that is named already."""
    return f"{len(rows)} more like it, {in_rows(rows)}"


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


def row_json(text: str, where: str) -> Any:
    """The value of a JSON text in a file. Raises DataError for what `parse_json` refuses. where: names a text of one line."""
    text = text.rstrip(" \t\r\n")  # a text that is cut short ends at its last character, not on the next line
    try:
        return parse_json(text)
    except NotJson as error:
        found = error.reason
        if error.line is not None:
            line = f"line {error.line}, " if "\n" in text else ""
            found = f"invalid JSON at {line}column {error.column} ({error.reason})"
        raise DataError(f"found {found}", where=where, expected="valid JSON", remedy=error.remedy) from error
