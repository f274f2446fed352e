"""JSON values compared."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any


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
