"""Documents that the program writes, and the JSON Schemas (2020-12) in the package that say what they look like."""

from __future__ import annotations

import json
from importlib.resources import files
from pathlib import Path

from lastresort.records.atomic import write_atomically
from lastresort.records.document import JsonDocument
from lastresort.types import JsonObject


def schema_of(name: str) -> JsonObject:
    """The schema of that name: `gate` -> gate_schema.json."""
    found: JsonObject = json.loads(files("lastresort.report").joinpath(f"{name}_schema.json").read_text("utf-8"))
    return found


def write_document(path: Path, document: JsonDocument) -> Path:
    """Whole or not at all."""
    write_atomically(path, document.as_text)
    return path
