"""The JSON Schemas (2020-12) in the package, by which others check the documents that the program writes."""

from __future__ import annotations

import json
from importlib.resources import files

from lastresort.types import JsonObject


def schema_of(name: str) -> JsonObject:
    """The schema of that name: `gate` -> gate_schema.json."""
    found: JsonObject = json.loads(files("lastresort.report").joinpath(f"{name}_schema.json").read_text("utf-8"))
    return found
