"""The schemas in the package are those of the types."""

from __future__ import annotations

import json

import pytest
from jsonschema import Draft202012Validator
from scripts.schemas import DOCUMENTS, path_of, text_of


@pytest.mark.parametrize("name", DOCUMENTS)
def test_a_schema_is_generated_from_its_type(name: str) -> None:
    """Otherwise: `make schemas`."""
    assert path_of(name).read_text(encoding="utf-8") == text_of(name)
    Draft202012Validator.check_schema(json.loads(text_of(name)))


@pytest.mark.parametrize("name", DOCUMENTS)
def test_nothing_beside_the_named_fields_is_allowed(name: str) -> None:
    schema = json.loads(text_of(name))
    objects = [schema, *(part for part in schema["$defs"].values() if part.get("type") == "object")]
    assert all(part["additionalProperties"] is False for part in objects)
