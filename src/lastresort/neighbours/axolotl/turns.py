"""Turns of conversations as an entry of `datasets` names them: its columns, properties and roles."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, cast

from lastresort.data.formats.shape import ROLES
from lastresort.data.rows import RawRow, kind_of
from lastresort.errors import DataError
from lastresort.neighbours.given import Given
from lastresort.types import Message, Role

SFT_ROLES = {"human": "user", "user": "user", "assistant": "assistant", "gpt": "assistant", "system": "system"}
SFT_ROLES |= {"tool": "tool"}
PAIR_ROLES = {"user": "user", "assistant": "assistant", "system": "system", "tool": "tool"}
_KEPT = ("tool_calls", "tool_call_id", "name", "reasoning_content")


@dataclass(frozen=True, slots=True)
class Naming:
    """properties: of the template's turn -> keys of the data's turn. roles: of the data -> of the template."""

    properties: Mapping[str, str]
    roles: Mapping[str, str]
    strict: bool

    def turn(self, value: Any, row: RawRow, key: str) -> Message:
        """Raises DataError for what is no turn, and for a role that nobody knows."""
        if not isinstance(value, Mapping):
            raise DataError(
                f"found {kind_of(value)}", where=row.at(key), expected="a turn", remedy="Write each turn as an object."
            )
        role_key, content_key = self.properties["role"], self.properties["content"]
        said = str(value.get(role_key))
        role = self.roles.get(said, None if self.strict else said)
        if role not in ROLES:
            raise DataError(
                f'found the role "{said}"',
                where=row.at(f"{key}.{role_key}"),
                expected=f"one of {', '.join(self.roles)}",
                remedy="Name it below roles, such as roles: {user: [human], assistant: [gpt]}.",
            )
        others = {
            ours: value.get(theirs) for ours, theirs in self.properties.items() if ours not in ("role", "content")
        }
        kept = {name: value.get(name) for name in _KEPT if name not in self.properties.values()}
        extra = {name: inner for name, inner in {**kept, **others}.items() if inner not in (None, "", [])}
        return Message(cast(Role, role), _content(value.get(content_key), extra, row, f"{key}.{content_key}"), extra)

    def turns(self, row: RawRow, key: str) -> list[Message]:
        value = row.values.get(key)
        if not isinstance(value, list) or not value:
            raise DataError(
                f"found {kind_of(value) if key in row.values else 'nothing'}",
                where=row.at(key),
                expected="a list of turns",
                remedy="Name the column of turns in field_messages, or take another type.",
            )
        return [self.turn(one, row, f"{key}[{number}]") for number, one in enumerate(value)]


def naming(entry: Given, default_roles: Mapping[str, str], *, strict: bool) -> Naming:
    """What an entry says of its turns. strict: whether a role that it does not name is an error, as for pairs."""
    properties = dict(_mapping(entry, "message_property_mappings"))
    for name in ("role", "content"):
        older = entry.text(f"message_field_{name}")
        if older is not None and properties.get(name, older) != older:
            entry.refuse(
                f"message_field_{name}",
                f"{older} beside {properties[name]} in message_property_mappings",
                expected="one of them",
                remedy="Remove it.",
            )
        properties[name] = older or properties.get(name, name)
    thinking, key = entry.text("field_thinking"), entry.text("template_thinking_key")
    if thinking or key:
        properties.setdefault(key or "reasoning_content", thinking or "reasoning_content")
    given = _mapping(entry, "roles")
    roles = {str(source): str(target) for target, sources in given.items() for source in _sources(entry, sources)}
    return Naming({name: str(key) for name, key in properties.items()}, roles or dict(default_roles), strict)


def _mapping(entry: Given, key: str) -> Mapping[str, Any]:
    value = entry.any(key, {})
    if not isinstance(value, Mapping):
        entry.refuse(key, kind_of(value), expected="a mapping", remedy="Write it as NAME: VALUE lines.")
    return cast(Mapping[str, Any], value)


def _sources(entry: Given, value: Any) -> list[Any]:
    if not isinstance(value, list):
        entry.refuse("roles", kind_of(value), expected="a list of names for each role", remedy="Write [human, user].")
    return value


def _content(value: Any, extra: Mapping[str, Any], row: RawRow, key: str) -> str:
    if isinstance(value, str):
        return value
    if value is None and extra.get("tool_calls"):
        return ""
    if isinstance(value, list) and all(isinstance(part, Mapping) for part in value):
        if any("train" in part or "weight" in part for part in value):
            raise DataError(
                "found parts of a turn of which some are trained and some are not",
                where=row.at(key),
                expected="turns that are trained whole or not at all",
                remedy="Write the row in segments, with type: input_output.",
            )
        texts = [part.get("text") or part.get("content") or part.get("value") for part in value]
        if all(isinstance(text, str) for text in texts):
            return "".join(str(text) for text in texts)
    raise DataError(f"found {kind_of(value)}", where=row.at(key), expected="text", remedy="Only text can be used.")
