"""The schema of answers is checked once, wholly, and offline; no answer makes the check fail otherwise."""

from __future__ import annotations

import json
import socket
from pathlib import Path
from typing import Any

import pytest
import yaml

from lastresort.data.answer_schema import schema_validator, violation
from lastresort.data.check import refuse_invalid_outputs
from lastresort.errors import DataError, TaskError
from lastresort.evals.scorers import build_scorer
from lastresort.spec.task import load_task
from lastresort.types import Example, Message

TREE = {"type": "object", "properties": {"next": {"$ref": "#"}}}
REMOTE = "http://schemas.example.org/team.json"
UNUSABLE: dict[str, tuple[dict[str, Any], str]] = {
    "ref elsewhere": ({"$ref": REMOTE}, "team.json"),
    "dynamicRef elsewhere": ({"properties": {"a": {"$dynamicRef": REMOTE}}}, "team.json"),
    "ref against an id": ({"$id": "http://schemas.example.org/", "$ref": "team.json"}, "team.json"),
    "inner id": ({"properties": {"a": {"$id": REMOTE, "properties": {"b": {"$ref": "other.json"}}}}}, "other.json"),
    "dangling": ({"$ref": "#/$defs/team"}, "leads nowhere"),
    "dangling anchor": ({"items": {"$ref": "#team"}}, "leads nowhere"),
    "behind a ref": ({"$ref": "#/x", "x": {"$ref": "#/y"}}, "#/y"),
    "to no schema": ({"title": "t", "$ref": "#/title"}, "#/title"),
    "into text": ({"title": "t", "$ref": "#/title/x"}, "#/title/x"),
    "to a wrong schema": ({"$ref": "#/x", "x": {"type": "txt"}}, "txt"),
    "itself": ({"$ref": "#"}, "itself"),
    "itself in parts": ({"allOf": [{"anyOf": [{"$ref": "#"}]}]}, "itself"),
    "each other": ({"$ref": "#/$defs/a", "$defs": {"a": {"$ref": "#/$defs/b"}, "b": {"$ref": "#/$defs/a"}}}, "itself"),
    "pattern": ({"properties": {"a": {"pattern": "("}}}, "pattern"),
    "key pattern": ({"patternProperties": {"(": {}}}, "pattern"),
    "wrong": ({"properties": {"a": {"type": "txt"}}}, "txt"),
    "draft": ({"$schema": ["x"]}, "$schema"),
}


@pytest.fixture
def _offline(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any, **__: Any) -> Any:
        raise AssertionError("a schema was looked for on the network")

    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    monkeypatch.setattr(socket.socket, "connect", refuse)


@pytest.mark.usefixtures("_offline")
@pytest.mark.parametrize("case", UNUSABLE)
def test_an_unusable_schema_is_refused_by_each_of_its_users(case: str, tmp_path: Path) -> None:
    schema, named = UNUSABLE[case]
    with pytest.raises(TaskError) as caught:
        build_scorer("json_valid", {}, json_schema=schema)
    assert named in str(caught.value)
    items = [Example("1", (Message("user", "q"),), "{}", row=1, source="rows.jsonl")]
    with pytest.raises((TaskError, DataError), match=r"output\.schema"):
        refuse_invalid_outputs(items, choices=None, json_schema=schema)
    (tmp_path / "rows.jsonl").write_text('{"input": "a", "output": "b"}\n')
    (tmp_path / "s.json").write_text(json.dumps(schema))
    task = {"task": "t", "about": "x", "examples": "rows.jsonl", "score": "json_exact", "bar": 0.5}
    (tmp_path / "task.yaml").write_text(yaml.safe_dump({**task, "output": {"schema": "s.json"}}))
    with pytest.raises(TaskError, match=r"output\.schema") as refused:
        load_task(tmp_path / "task.yaml")
    assert named in str(refused.value)


@pytest.mark.usefixtures("_offline")
@pytest.mark.parametrize(
    "schema",
    [
        {"$id": REMOTE, "$defs": {"a": {"type": "object"}}, "$ref": "#/$defs/a"},
        {"$schema": "http://json-schema.org/draft-07/schema#", "definitions": {"a": TREE}, "$ref": "#/definitions/a"},
        {"$schema": "https://example.org/own", "type": "object"},
        {"$defs": {"a": {"$anchor": "team", "type": "object"}}, "$ref": "#team"},
        {"$defs": {"a": {"$id": "team.json", "type": "object"}}, "$ref": "team.json"},
        {"$dynamicAnchor": "node", "type": "object", "properties": {"next": {"$dynamicRef": "#node"}}},
        {"properties": {"$ref": {"type": "string"}}, "enum": [{}, {"$ref": "x"}], "type": "object"},
        TREE,
    ],
)
def test_what_resolves_within_the_schema_is_taken(schema: dict[str, Any]) -> None:
    validator = schema_validator(schema)
    assert violation(validator, {}) is None
    assert violation(validator, 3) is not None


def test_a_deep_answer_to_a_recursive_schema_is_wrong_at_worst() -> None:
    deep: Any = {}
    for _ in range(98):
        deep = {"next": deep}
    answer = json.dumps(deep)
    scorer = build_scorer("json_valid", {}, json_schema=TREE)
    assert scorer(answer, Example("1", (Message("user", "q"),), "{}")) in (0.0, 1.0)
    wide = {"allOf": [{"allOf": [{"allOf": [{"allOf": [{"properties": {"next": {"$ref": "#"}}}]}]}]}]}
    assert "too deep" in str(violation(schema_validator(wide), deep))
