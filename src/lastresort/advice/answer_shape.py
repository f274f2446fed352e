"""The JSON schema that a file's answers have in common. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from lastresort.data.formats.rows import NotJson, parse_json
from lastresort.types import JsonObject

MOST_VALUES, LEAST_ROWS_A_VALUE = 20, 5


def documents_in(outputs: Sequence[str]) -> list[Any] | None:
    """The answers as JSON objects or lists; None where one of them is something else."""
    found = []
    for text in outputs:
        if not text.lstrip().startswith(("{", "[")):
            return None
        try:
            found.append(parse_json(text))
        except NotJson:
            return None
    return found


def schema_of(values: Sequence[Any]) -> JsonObject:
    """The draft 2020-12 schema that all values meet.

    Of objects every key that occurs is named, those of all are required, and no others are allowed. A text becomes an enum where
    few different ones occur, each in several rows.
    """
    kinds = sorted({_kind(value) for value in values})
    if kinds == ["integer", "number"]:
        kinds = ["number"]
    if kinds == ["object"]:
        return _object(values)
    schema: JsonObject = {"type": kinds[0] if len(kinds) == 1 else kinds}
    if kinds == ["array"] and (items := [item for value in values for item in value]):
        schema["items"] = schema_of(items)
    if kinds == ["string"] and (choices := _few(values)) is not None:
        schema["enum"] = choices
    return schema


def _object(objects: Sequence[Mapping[str, Any]]) -> JsonObject:
    keys = dict.fromkeys(key for one in objects for key in one)
    return {
        "type": "object",
        "properties": {key: schema_of([one[key] for one in objects if key in one]) for key in keys},
        "required": [key for key in keys if all(key in one for one in objects)],
        "additionalProperties": False,
    }


def _kind(value: Any) -> str:
    match value:
        case None:
            return "null"
        case bool():
            return "boolean"
        case int():
            return "integer"
        case float():
            return "number"
        case str():
            return "string"
        case list():
            return "array"
    return "object"


def _few(values: Sequence[str]) -> list[str] | None:
    counted = Counter(values)
    if len(counted) > MOST_VALUES or len(values) < LEAST_ROWS_A_VALUE * len(counted):
        return None
    return sorted(counted)
