"""Answers read as JSON, strictly, and JSON values compared."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator
from typing import Any

from lastresort.errors import TaskError

DEEPEST = 100


def parse_json(text: str) -> Any:
    """The value of a text that is one JSON document and nothing else; whitespace around it is allowed.

    Refused as ValueError: a ```json fence or words around the document, duplicate keys, NaN, Infinity and numbers too
    large for a float, more than 100 levels. What calls a model for JSON does not strip a fence either.
    """
    try:
        value = json.loads(
            text, object_pairs_hook=_object_of_unique_keys, parse_constant=_refuse_constant, parse_float=_finite
        )
    except RecursionError as error:
        raise ValueError(f"more than {DEEPEST} levels") from error
    if _depth(value) > DEEPEST:
        raise ValueError(f"more than {DEEPEST} levels")
    return value


def is_json(text: str) -> bool:
    try:
        parse_json(text)
    except ValueError:
        return False
    return True


def same_json(left: Any, right: Any) -> bool:
    """Equal as JSON: 1 is 1.0, true is not 1, the order of keys does not matter, the order of a list does."""
    if isinstance(left, bool) or isinstance(right, bool):
        return left is right
    if isinstance(left, dict) and isinstance(right, dict):
        return left.keys() == right.keys() and all(same_json(value, right[key]) for key, value in left.items())
    if isinstance(left, list) and isinstance(right, list):
        return len(left) == len(right) and all(same_json(a, b) for a, b in zip(left, right, strict=True))
    return bool(left == right)


def leaves(value: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    """Each field with its path; an object's fields are opened, a list and an empty object are one field."""
    if isinstance(value, dict) and value:
        for key, inner in value.items():
            yield from leaves(inner, (*path, key))
    else:
        yield path, value


def schema_validator(schema: dict[str, Any]) -> Any:
    """A jsonschema validator in the schema's own draft (2020-12 if it names none) that never fetches a reference.

    Raises TaskError if the schema itself is malformed.
    """
    from jsonschema.exceptions import SchemaError
    from jsonschema.validators import Draft202012Validator, validator_for
    from referencing import Registry

    kind = validator_for(schema, default=Draft202012Validator)
    try:
        kind.check_schema(schema)
    except SchemaError as error:
        raise TaskError(
            f"a malformed schema: {error.message}",
            where=f'the JSON schema, at "{"/".join(map(str, error.absolute_path)) or "its root"}"',
            remedy="Correct the file named in output.schema.",
        ) from error
    # An empty registry: the default one would open a reference to another document over the network.
    return kind(schema, registry=Registry())


def is_valid(validator: Any, value: Any) -> bool:
    """Whether the value satisfies the schema. Raises TaskError if the schema refers to what it does not hold."""
    from referencing.exceptions import Unresolvable

    try:
        return bool(validator.is_valid(value))
    except (Unresolvable, re.error) as error:
        raise TaskError(
            f"a reference or pattern that cannot be used ({error})",
            where="the JSON schema",
            expected="references within the schema and patterns that compile",
            remedy="Copy what is referred to into the file named in output.schema, under $defs.",
        ) from error


def _object_of_unique_keys(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    result = dict(pairs)
    if len(result) < len(pairs):
        raise ValueError("a key stands twice in one object")
    return result


def _refuse_constant(name: str) -> Any:
    raise ValueError(f"{name} is not JSON")


def _finite(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise ValueError(f"{text} is too large")
    return value


def _depth(value: Any) -> int:
    """Levels of nesting, counted without recursion."""
    level, depth = [value], 0
    while level:
        depth += 1
        containers = [v for v in level if isinstance(v, (dict, list))]
        level = [inner for v in containers for inner in (v.values() if isinstance(v, dict) else v)]
    return depth
