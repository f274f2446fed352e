"""The JSON schema of the task file, for editors."""

from __future__ import annotations

from typing import Any

from lastresort.spec.explain import INTERNAL
from lastresort.spec.task import Task


def json_schema() -> dict[str, Any]:
    """Draft 2020-12. It knows keys, kinds and ranges; whether files exist and keys agree only `load_task` can tell."""
    schema = Task.model_json_schema()
    properties = {name: inner for name, inner in schema["properties"].items() if name not in INTERNAL}
    required = [name for name in schema["required"] if name not in INTERNAL]
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        **schema,
        "title": "lastresort task",
        "description": "What is asked, how an answer is judged, what may be spent.",
        "properties": properties,
        "required": required,
    }
