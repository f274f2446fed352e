"""What pydantic reports -> one TaskError in the words of the task file."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import get_args

from pydantic import BaseModel
from pydantic.fields import FieldInfo
from pydantic_core import ErrorDetails

from lastresort.errors import TaskError
from lastresort.spec.document import YamlDocument
from lastresort.spec.values import REFUSED, Key, describe, dotted, listed, nearest, unknown_name

INTERNAL = ("path", "folder")
"""Fields of a Task that are not keys of the file."""


@dataclass(frozen=True, slots=True)
class KeyProblem:
    """One wrong key."""

    key: Key
    found: str
    expected: str
    remedy: str


def task_error(errors: Sequence[ErrorDetails], document: YamlDocument, model: type[BaseModel]) -> TaskError:
    """The error to correct first: an unknown key, since it explains a missing one, else the first in the file.

    errors: as pydantic lists them. The remedy names the other keys that are wrong.
    """

    def place(error: ErrorDetails) -> tuple[bool, float]:
        return error["type"] != "extra_forbidden", document.lines.get(_key(error), float("inf"))

    foremost, *others = sorted(errors, key=place)
    first = _problem(foremost, model)
    names = dict.fromkeys(f'"{dotted(_key(other))}"' for other in others if _key(other) != first.key)
    also = f" Also wrong or missing: {listed(names, most=5)}." if names else ""
    where, remedy = document.where(first.key), first.remedy + also
    return TaskError(first.found, where=where, expected=first.expected, remedy=remedy, key=first.key)


def _key(error: ErrorDetails) -> Key:
    below = error["ctx"]["key"] if error["type"] == REFUSED else ()
    return (*error["loc"], *below)


def _problem(error: ErrorDetails, model: type[BaseModel]) -> KeyProblem:
    key = _key(error)
    if error["type"] == REFUSED:
        detail = error["ctx"]
        return KeyProblem(key, detail["found"], detail["expected"], detail["remedy"])
    found, expected, remedy = _WORDS.get(error["type"], _other)(error, model)
    return KeyProblem(key, found, expected, remedy)


Words = tuple[str, str, str]


def _missing(error: ErrorDetails, model: type[BaseModel]) -> Words:
    field = _field(model, error["loc"])
    example = field.examples[0] if field is not None and field.examples else "…"
    return "found nothing", _meaning(field), f"Add a line such as `{error['loc'][-1]}: {str(example).rstrip('.')}`."


def _unknown(error: ErrorDetails, model: type[BaseModel]) -> Words:
    *above, name = error["loc"]
    known = _keys(_section(model, above))
    detail = unknown_name("key", str(name), known)
    elsewhere = [key for key in _all_keys(model) if key.rpartition(".")[2] == name]
    if elsewhere:
        parts = elsewhere[0].split(".")
        remedy = f"Write {parts[0]}: {{{name}: …}}." if len(parts) > 1 else "Move it to the left margin."
        return detail["found"], f"{elsewhere[0]}", remedy
    return detail["found"], detail["expected"], detail["remedy"]


def _literal(error: ErrorDetails, model: type[BaseModel]) -> Words:
    options = re.findall(r"'([^']*)'", error["ctx"]["expected"])
    given = error["input"]
    close = nearest(given, options) if isinstance(given, str) else None
    return f"found {describe(given)}", listed(options, "or"), f'Write "{close or options[0]}".'


def _text(error: ErrorDetails, model: type[BaseModel]) -> Words:
    given = error["input"]
    remedy = "Put it in quotes." if isinstance(given, bool | int | float) else "Write text."
    return f"found {describe(given)}", f"text ({_meaning(_field(model, error['loc']))})", remedy


def _list(error: ErrorDetails, model: type[BaseModel]) -> Words:
    given = error["input"]
    field = _field(model, error["loc"])
    expected = f"a list ({field.description})" if field is not None and field.description else "a list"
    plain = isinstance(given, str | int | float) and not isinstance(given, bool)
    return f"found {describe(given)}", expected, f"Write [{given}]." if plain else "Write [one, another]."


def _mapping(error: ErrorDetails, model: type[BaseModel]) -> Words:
    field = _field(model, error["loc"])
    name = error["loc"][-1]
    keys = _keys(_section(model, error["loc"])) if _inner(field) is not None else ()
    expected = f"a mapping with {listed(keys, 'or')}" if keys else "a mapping"
    return (
        f"found {describe(error['input'])}",
        expected,
        f"Write {name}: {{{keys[0] if keys else 'key'}: …}}, or remove it.",
    )


def _other(error: ErrorDetails, model: type[BaseModel]) -> Words:
    return f"found {describe(error['input'])}", _meaning(_field(model, error["loc"])), "Change it, or remove the key."


_WORDS: dict[str, Callable[[ErrorDetails, type[BaseModel]], Words]] = {
    "missing": _missing,
    "extra_forbidden": _unknown,
    "literal_error": _literal,
    "string_type": _text,
    "string_too_short": _text,
    "tuple_type": _list,
    "dict_type": _mapping,
    "model_type": _mapping,
}


def _meaning(field: FieldInfo | None) -> str:
    return field.description if field is not None and field.description else "another value"


def _field(model: type[BaseModel], loc: Sequence[str | int]) -> FieldInfo | None:
    """The field at `loc`, or the nearest one above it."""
    field: FieldInfo | None = None
    at: type[BaseModel] | None = model
    for part in loc:
        if isinstance(part, int) or at is None or part not in at.model_fields:
            continue
        field = at.model_fields[part]
        at = _inner(field)
    return field


def _inner(field: FieldInfo | None) -> type[BaseModel] | None:
    """The section that a field holds, None where it holds a plain value."""
    annotation = field.annotation if field is not None else None
    candidates = [annotation, *get_args(annotation)]
    return next((c for c in candidates if isinstance(c, type) and issubclass(c, BaseModel)), None)


def _section(model: type[BaseModel], loc: Sequence[str | int]) -> type[BaseModel]:
    return (_inner(_field(model, loc)) or model) if loc else model


def _keys(model: type[BaseModel]) -> tuple[str, ...]:
    return tuple(name for name in model.model_fields if name not in INTERNAL)


def _all_keys(model: type[BaseModel]) -> Iterator[str]:
    """Dotted keys of the file, two deep."""
    for name in _keys(model):
        yield name
        inner = _inner(model.model_fields[name])
        if inner is not None and name not in ("examples", "output", "score", "reward"):
            yield from (f"{name}.{below}" for below in _keys(inner))
