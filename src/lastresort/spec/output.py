"""`output`: what an answer must look like. In the file: `{schema: FILE}` (or the schema itself), or `{choices: […]}`."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Self

from pydantic import model_validator
from pydantic.json_schema import JsonSchemaValue

from lastresort.data.answer_schema import schema_fault
from lastresort.errors import InputError
from lastresort.foreign import NotJson, parse_json, read_text
from lastresort.spec.paths import existing_path, relative_name
from lastresort.spec.values import ReadContext, Section, below, describe, refuse, refuse_unknown_keys
from lastresort.types import JsonObject

FILE_KEYS = ("schema", "choices")


class Output(Section):
    """At most one of json_schema (draft 2020-12) and choices is set; none: free text.

    schema_path: the file that json_schema was read from, None where the task file itself holds it.
    """

    json_schema: dict[str, Any] | None = None
    schema_path: Path | None = None
    choices: tuple[str, ...] | None = None

    @classmethod
    def fields_of(cls, value: Any, reading: ReadContext) -> Any:
        if not isinstance(value, dict):
            return value
        refuse_unknown_keys(value, FILE_KEYS)
        return {**_schema(value.get("schema"), reading), "choices": _choices(value.get("choices"))}

    @model_validator(mode="after")
    def _not_both(self) -> Self:
        if self.json_schema is not None and self.choices is not None:
            refuse("found both schema and choices", expected="one of them", remedy="Remove one.")
        return self

    def written(self, reading: ReadContext) -> JsonObject:
        """As the task file writes it."""
        if self.choices is not None:
            return {"choices": list(self.choices)}
        if self.schema_path is not None:
            return {"schema": relative_name(self.schema_path, reading.folder)}
        return {"schema": self.json_schema} if self.json_schema is not None else {}

    @classmethod
    def __get_pydantic_json_schema__(cls, schema: Any, handler: Any) -> JsonSchemaValue:
        choices = {"type": "array", "items": {"type": ["string", "integer"]}, "minItems": 2, "uniqueItems": True}
        properties = {
            "schema": {"type": ["string", "object", "null"]},
            "choices": {"anyOf": [choices, {"type": "null"}]},
        }
        return {"type": "object", "properties": properties, "additionalProperties": False}


def _choices(value: Any) -> tuple[str, ...] | None:
    if value is None:
        return None
    with below("choices"):
        if not isinstance(value, list):
            refuse(f"found {describe(value)}", expected="a list of labels", remedy="Write [label, label].")
        labels: dict[str, None] = {}  # in their order, and found at once
        for index, label in enumerate(value):
            if isinstance(label, int) and not isinstance(label, bool):
                label = str(label)
            if not isinstance(label, str) or not label.strip():
                refuse(f"found {describe(label)}", expected="text", remedy="Put the label in quotes.", key=(index,))
            if label.strip() in labels:
                refuse(f"found {describe(label)} twice", expected="each label once", remedy="Remove one.", key=(index,))
            labels[label.strip()] = None
        if len(labels) < 2:
            refuse(f"found {describe(value)}", expected="at least two labels", remedy="Write [label, label].")
        return tuple(labels)


def _schema(value: Any, reading: ReadContext) -> dict[str, object]:
    """{"json_schema", "schema_path"} from a file's name or the schema itself."""
    if value is None:
        return {}
    with below("schema"):
        path = None if isinstance(value, dict) else existing_path(value, reading)
        place = f" in {relative_name(path, reading.folder)}" if path else ""
        schema = _json(path, place) if path else value
        if not isinstance(schema, dict):
            refuse(f"found {describe(schema)}{place}", expected="a JSON schema", remedy='Write {"type": "object", …}.')
        _check_schema(schema, place)
        return {"json_schema": schema, "schema_path": path}


def _json(path: Path, place: str) -> Any:
    try:
        return parse_json(read_text(path))
    except NotJson as error:
        found = f"found {error.reason}{place}"
        if error.line is not None:
            found = f"found text that is not JSON{place}, line {error.line}, column {error.column} ({error.reason})"
    except InputError as error:
        found = f"{error.found}{place}"
    except FileNotFoundError:  # it was there a moment ago
        found = f"found no file{place}"
    return refuse(found, expected="a JSON schema", remedy="Correct the file.")


def _check_schema(schema: dict[str, Any], place: str) -> None:
    fault = schema_fault(schema)
    if fault is not None:
        refuse(f"found {fault.found}{place}", expected=fault.expected, remedy=fault.remedy)
