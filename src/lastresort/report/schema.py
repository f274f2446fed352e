"""Documents that the program writes, and the JSON Schemas (2020-12) in the package that say what they look like."""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any

from lastresort.errors import ContractError
from lastresort.records.atomic import write_atomically
from lastresort.types import JsonObject


def schema_of(name: str) -> JsonObject:
    """The schema of that name: `gate` -> gate_schema.json."""
    found: JsonObject = json.loads(files("lastresort.report").joinpath(f"{name}_schema.json").read_text("utf-8"))
    return found


def misfit(document: Any, name: str) -> str | None:
    """The first thing that is not as the schema says, in words; None where all is. document: as `json.loads` gives it."""
    from jsonschema.exceptions import best_match

    found = best_match(_validator(name).iter_errors(document))
    return None if found is None else f'found at key "{found.json_path}" {found.message}'


def validate(document: Mapping[str, Any], name: str, *, where: str) -> None:
    """Raises ContractError, naming the first fault, unless the document is as its schema says."""
    fault = misfit(json.loads(json.dumps(document, allow_nan=False)), name)  # tuples are arrays; NaN is no JSON
    if fault is not None:
        raise ContractError(fault, where=where, expected=f"a {name} as in {name}_schema.json")


def write_document(path: Path, document: Mapping[str, Any]) -> Path:
    """Whole or not at all."""
    write_atomically(path, json.dumps(document, indent=2, ensure_ascii=False, allow_nan=False) + "\n")
    return path


@cache
def _validator(name: str) -> Any:
    from jsonschema import Draft202012Validator

    return Draft202012Validator(schema_of(name))
