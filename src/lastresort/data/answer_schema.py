"""The JSON schema of answers: drafted from them, or checked once and wholly before anything is spent, never fetched from anywhere.

A schema can be right by its meta-schema and still fail on the first answer: a reference that leads out of it or nowhere, a
definition that is itself without end, a pattern that does not compile. All of this is found by walking it once.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from lastresort.apart import last_match
from lastresort.errors import TaskError
from lastresort.foreign import NotJson, parse_json
from lastresort.types import JsonObject

_REFERENCES = ("$ref", "$dynamicRef", "$recursiveRef")
_SEARCHING = ("pattern", "patternProperties", "additionalProperties", "unevaluatedProperties")
_ON_THE_SAME_VALUE = ("allOf", "anyOf", "oneOf", "not", "if", "then", "else", "dependentSchemas")
MOST_VALUES, MOST_UNSEEN = 20, 0.02


@dataclass(frozen=True, slots=True)
class SchemaFault:
    """Why a schema cannot be used, in the words of an error."""

    found: str
    expected: str = "a JSON schema (draft 2020-12)"
    remedy: str = "Correct the schema there."


def schema_fault(schema: Mapping[str, Any]) -> SchemaFault | None:
    """The first fault of a schema, None for one that can be used."""
    try:
        return next(_faults(dict(schema)), None)
    except RecursionError:
        return SchemaFault("a schema nested too deeply", remedy="Write it flat.")


def schema_validator(schema: JsonObject) -> Any:
    """A jsonschema validator in the schema's own draft (2020-12 if it names none). Raises TaskError for an unusable one."""
    return _validator(json.dumps(schema))


def violation(validator: Any, value: Any) -> str | None:
    """Where and why a value is not valid, None if it is. A value too deep for the schema to be followed is not."""
    from jsonschema.exceptions import best_match

    try:
        fault = best_match(validator.iter_errors(value))
    except RecursionError:
        return "$: it is nested too deeply for this schema"
    return None if fault is None else f"{fault.json_path}: {fault.message}"


@lru_cache(maxsize=16)
def _validator(text: str) -> Any:
    from referencing import Registry

    schema = json.loads(text)
    fault = schema_fault(schema)
    if fault is not None:
        raise TaskError(
            f"found {fault.found}", where='task file, key "output.schema"', expected=fault.expected, remedy=fault.remedy
        )
    # An empty registry: the default one would open a reference to another document over the network.
    return _bounded(schema)(schema, registry=Registry())


def _bounded(schema: JsonObject) -> Any:
    """The validator's class for a schema, with the words whose time has no bound, or grows with the square, replaced."""
    from jsonschema.exceptions import ValidationError
    from jsonschema.validators import extend

    kind, names = _kind(schema), tuple(_names_patterns(schema))
    listed: dict[int, frozenset[str]] = {}

    def one_of(validator: Any, values: Any, value: Any, part: Any) -> Iterator[Any]:
        if id(values) not in listed:
            listed[id(values)] = frozenset(map(_canonical, values))
        if _canonical(value) not in listed[id(values)]:
            yield ValidationError(f"{value!r} is not one of {values!r}")

    def unique(validator: Any, wanted: Any, value: Any, part: Any) -> Iterator[Any]:
        if wanted and isinstance(value, list) and len(set(map(_canonical, value))) < len(value):
            yield ValidationError(f"{value!r} has non-unique elements")

    def within_time(word: str) -> Any:
        own = kind.VALIDATORS[word]

        def check(validator: Any, given: Any, value: Any, part: Any) -> Iterator[Any]:
            patterns = (given,) if word == "pattern" else names
            for text in value if isinstance(value, dict) else (value,):
                for pattern in patterns if isinstance(text, str) else ():
                    last_match(pattern, text)  # raises where the search below would not end
            yield from own(validator, given, value, part)

        return check

    ours = {"enum": one_of, "uniqueItems": unique}
    searching = {word: within_time(word) for word in _SEARCHING if word in kind.VALIDATORS}
    known = {word: own for word, own in ours.items() if word in kind.VALIDATORS}
    return extend(kind, {**known, **searching})  # type: ignore[no-untyped-call]


def _names_patterns(value: Any) -> Iterator[str]:
    """The patterns of the names of properties, wherever they are in a schema."""
    if isinstance(value, dict):
        named = value.get("patternProperties")
        yield from named if isinstance(named, dict) else ()
    for inner in value.values() if isinstance(value, dict) else value if isinstance(value, list) else ():
        yield from _names_patterns(inner)


def _canonical(value: Any) -> str:
    """A text that is the same for JSON values that are equal: 1 and 1.0 are, 1 and true are not."""
    return json.dumps(_whole(value), sort_keys=True)


def _whole(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _whole(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [_whole(inner) for inner in value]
    return int(value) if isinstance(value, float) and value.is_integer() else value


def _kind(schema: Mapping[str, Any]) -> Any:
    from jsonschema.validators import Draft202012Validator, validator_for

    return validator_for(schema, default=Draft202012Validator)


def _faults(schema: JsonObject) -> Iterator[SchemaFault]:
    from referencing import Registry
    from referencing.jsonschema import DRAFT202012, specification_with

    dialect = schema.get("$schema", "")
    if not isinstance(dialect, str):
        yield SchemaFault('a "$schema" that is not text', "the address of a draft", "Correct or remove it.")
        return
    malformed = _malformed(schema, schema)
    if malformed is not None:
        yield malformed
        return
    draft = specification_with(dialect, default=DRAFT202012)
    root = draft.create_resource(schema)
    same_value: dict[int, list[int]] = {}
    yield from _walk(root, Registry().resolver_with_root(root), draft, same_value)
    if any(_leads_back(part, same_value, set(), set()) for part in same_value):
        yield SchemaFault(
            "a definition that refers to itself for one and the same value, without end",
            "references that lead into a part of the value, such as a property",
            "Correct the reference.",
        )


def _malformed(part: Any, whole: Mapping[str, Any]) -> SchemaFault | None:
    from jsonschema.exceptions import SchemaError

    try:
        _kind(whole).check_schema(part)
    except SchemaError as error:
        message = error.message if len(error.message) <= 120 else f"{error.message[:119]}…"
        return SchemaFault(f"{json.dumps(message, ensure_ascii=False)} at {error.json_path}")
    except (OverflowError, re.error) as error:  # of a pattern, which the library compiles
        return SchemaFault(f"a pattern that does not compile ({error})", "a regular expression", "Correct it.")
    return None


def _walk(root: Any, resolver: Any, draft: Any, same_value: dict[int, list[int]]) -> Iterator[SchemaFault]:
    """The faults of every part that a validator can come to, each visited once.

    same_value: filled on the way: of each part, by id(), the parts that are applied to the same value as it is.
    """
    waiting = [(root, resolver)]
    while waiting:
        part, resolver = waiting.pop()
        contents = part.contents
        if not isinstance(contents, dict) or id(contents) in same_value:
            continue
        same_value[id(contents)] = [id(inner) for inner in _on_the_same_value(contents)]
        yield from _patterns(contents)
        for reference in (contents[word] for word in _REFERENCES if isinstance(contents.get(word), str)):
            target = _target(reference, resolver, root.contents)
            if isinstance(target, SchemaFault):
                yield target
                continue
            same_value[id(contents)].append(id(target.contents))
            waiting.append((draft.create_resource(target.contents), target.resolver))
        waiting += [(inner, resolver.in_subresource(inner)) for inner in part.subresources()]


def _on_the_same_value(contents: Mapping[str, Any]) -> Iterator[Any]:
    for word in _ON_THE_SAME_VALUE:
        inner = contents.get(word)
        if isinstance(inner, list):
            yield from inner
        elif isinstance(inner, dict):
            yield from inner.values() if word == "dependentSchemas" else (inner,)


def _target(reference: str, resolver: Any, whole: Mapping[str, Any]) -> Any:
    """What a reference leads to, with `contents` and `resolver`, or the SchemaFault of one that leads to no schema."""
    from referencing.exceptions import Unresolvable

    named, within = json.dumps(reference, ensure_ascii=False), "one within the schema"
    try:
        found = resolver.lookup(reference)
    except (Unresolvable, ValueError, TypeError):  # the latter where a pointer leads through text or a number
        if reference.startswith("#"):
            return SchemaFault(
                f"the reference {named}, which leads nowhere", within, "Define it below $defs, or correct its path."
            )
        remedy = "Copy what it points to below $defs, and point there."
        return SchemaFault(f"the reference {named}", within, remedy)
    if not isinstance(found.contents, dict | bool):
        return SchemaFault(f"the reference {named}, which leads to no schema", within, "Point to an object.")
    return _malformed(found.contents, whole) or found


def _patterns(contents: Mapping[str, Any]) -> Iterator[SchemaFault]:
    keys = contents.get("patternProperties")
    for pattern in (contents.get("pattern"), *(keys if isinstance(keys, dict) else ())):
        if isinstance(pattern, str):
            try:
                re.compile(pattern)
            except (re.error, OverflowError, RecursionError) as error:
                found = f"the pattern {json.dumps(pattern, ensure_ascii=False)}, which does not compile ({error})"
                yield SchemaFault(found, "a regular expression", "Correct it.")


def _leads_back(part: int, same_value: Mapping[int, list[int]], open_ones: set[int], done: set[int]) -> bool:
    """Whether following what is applied to one value comes round to a part that is still open."""
    if part in open_ones or part in done:
        return part in open_ones
    open_ones.add(part)
    found = any(_leads_back(inner, same_value, open_ones, done) for inner in same_value.get(part, ()))
    open_ones.discard(part)
    done.add(part)
    return found


def documents_in(outputs: Sequence[str]) -> list[Any] | None:
    """The answers as JSON objects or lists; None where one of them is something else."""
    found = []
    for text in outputs:
        if not text.lstrip().startswith(("{", "[")):
            return None
        try:
            found.append(parse_json(text))
        except NotJson:
            return None
    return found


def schema_of(values: Sequence[Any]) -> JsonObject:
    """The draft 2020-12 schema that all values meet.

    Of objects every key that occurs is named, those of all are required, and no others are allowed; where they share no key and
    most keys occur in one of them alone, only the values have a schema. A text becomes an enum of the
    values seen only where another value is improbable: at most MOST_VALUES different ones, and (values seen once + 1) / rows at
    most MOST_UNSEEN. Otherwise it stays any text, since a schema refuses a right answer with a value that it does not list.
    Values seen once / rows estimates the share of rows to come whose value is new (Good 1953, with Turing); one is added because
    a few rows without a value seen once show little.
    """
    kinds = sorted({_type_of(value) for value in values})
    if kinds == ["integer", "number"]:
        kinds = ["number"]
    if kinds == ["object"]:
        return _object_of(values)
    schema: JsonObject = {"type": kinds[0] if len(kinds) == 1 else kinds}
    if kinds == ["array"] and (items := [item for value in values for item in value]):
        schema["items"] = schema_of(items)
    if kinds == ["string"] and (choices := _few(values)) is not None:
        schema["enum"] = choices
    return schema


def _object_of(objects: Sequence[Mapping[str, Any]]) -> JsonObject:
    keys = Counter(key for one in objects for key in one)
    required = [key for key, n in keys.items() if n == len(objects)]
    if not required and 2 * sum(n == 1 for n in keys.values()) > len(keys):
        return {
            "type": "object",
            "additionalProperties": schema_of([value for one in objects for value in one.values()]),
        }
    return {
        "type": "object",
        "properties": {key: schema_of([one[key] for one in objects if key in one]) for key in keys},
        "required": required,
        "additionalProperties": False,
    }


def _type_of(value: Any) -> str:
    match value:
        case None:
            return "null"
        case bool():
            return "boolean"
        case int():
            return "integer"
        case float():
            return "number"
        case str():
            return "string"
        case list():
            return "array"
    return "object"


def _few(values: Sequence[str]) -> list[str] | None:
    counted = Counter(values)
    once = sum(rows == 1 for rows in counted.values())
    if len(counted) > MOST_VALUES or once + 1 > MOST_UNSEEN * len(values):
        return None
    return sorted(counted)
