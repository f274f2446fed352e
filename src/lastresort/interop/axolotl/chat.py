"""`chat_template` and its variants: conversations that the model's template renders, or ChatML or Llama 3 where these are named."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

from lastresort.data.formats.rows import RawRow, kind_of
from lastresort.data.formats.shape import ROLES
from lastresort.data.segments import SEGMENTS
from lastresort.errors import DataError
from lastresort.interop.axolotl.markup import Markup, Row, content_at, list_of, optional_text, pair, text_of
from lastresort.interop.foreign_keys import ForeignKeys
from lastresort.types import Message, Role

PAIR_ROLES = {"user": "user", "assistant": "assistant", "system": "system", "tool": "tool"}
SFT_ROLES = {"human": "user", "gpt": "assistant", **PAIR_ROLES}
_KEPT = ("tool_calls", "tool_call_id", "name", "reasoning_content")


@dataclass(frozen=True, slots=True)
class KeyMapping:
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
        name = str(value.get(role_key))
        role = self.roles.get(name, None if self.strict else name)
        if role not in ROLES:
            raise DataError(
                f'found the role "{name}"',
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


def turn_keys(entry: ForeignKeys, default_roles: Mapping[str, str], *, strict: bool) -> KeyMapping:
    """How an entry names its turns. strict: whether another role is an error, as for pairs."""
    properties = dict(entry.mapping("message_property_mappings"))
    for name in ("role", "content"):
        older = entry.text(f"message_field_{name}")
        if older is not None and properties.get(name, older) != older:
            beside = f"{older} beside {properties[name]} in message_property_mappings"
            entry.refuse(f"message_field_{name}", beside, expected="one of them", remedy="Remove it.")
        properties[name] = older or properties.get(name, name)
    thinking, key = entry.text("field_thinking"), entry.text("template_thinking_key")
    if thinking or key:
        properties.setdefault(key or "reasoning_content", thinking or "reasoning_content")
    roles: dict[str, str] = {}
    for target, sources in entry.mapping("roles").items():
        if not isinstance(sources, list):
            expected = "a list of names for each role"
            entry.refuse("roles", kind_of(sources), expected=expected, remedy="Write [human, user].")
        roles |= {str(source): str(target) for source in sources}
    return KeyMapping({name: str(key) for name, key in properties.items()}, roles or dict(default_roles), strict)


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


Read = Callable[[RawRow], Row]


def conversation(entry: ForeignKeys, markup: Markup | None, *, whole: bool) -> Read:
    """`chat_template` of supervised training. markup: None for the model's own template. whole: whether all turns are trained."""
    names = turn_keys(entry, SFT_ROLES, strict=False)
    column = entry.text("field_messages") or "messages"
    flag = entry.text("message_field_training")
    to_train = entry.names("roles_to_train") if "roles_to_train" in entry else ["assistant"]
    trained_roles = [names.roles.get(role, role) for role in to_train]
    without_system = entry.flag("drop_system_message")

    def read(row: RawRow) -> Row:
        turns = names.turns(row, column)
        raw = row.values[column]
        trained = [_flag(one, flag, row) for one in raw] if flag else [None] * len(turns)
        train = [
            (whole or turn.role in trained_roles) if marked is None else marked
            for turn, marked in zip(turns, trained, strict=True)
        ]
        system = optional_text(row, "system")
        if system and turns[0].role != "system":
            turns, train = [Message("system", system), *turns], [False, *train]
        if without_system and turns[0].role == "system":
            turns, train = turns[1:], train[1:]
        return _row(row, turns, train, markup)

    return read


def _row(row: RawRow, turns: list[Message], train: list[bool], markup: Markup | None) -> Row:
    if markup is not None:
        return {SEGMENTS: markup.conversation(turns, train)}
    if any(trained and turn.role != "assistant" for turn, trained in zip(turns, train, strict=True)):
        raise DataError(
            "found a turn to be trained that is not the assistant's",
            where=row.place,
            expected="the assistant's turns, where the model's own template renders them",
            remedy="Leave roles_to_train and train_on_inputs out, or name chat_template: chatml or llama3.",
        )
    last = max((number for number, turn in enumerate(turns) if turn.role == "assistant"), default=-1)
    if last < 0:
        raise DataError("found no turn of the assistant", where=row.place, expected="an answer", remedy="Add it.")
    # What follows the last answer is never trained, and nothing that is trained sees it.
    kept = zip(turns[: last + 1], train, strict=False)
    context = {"weight": 0}  # of an answer that is not trained
    return {
        "messages": [
            turn.as_dict() | (context if turn.role == "assistant" and not trained else {}) for turn, trained in kept
        ]
    }


def _flag(turn: Any, key: str, row: RawRow) -> bool | None:
    value = turn.get(key) if isinstance(turn, Mapping) else None
    if value is not None and not isinstance(value, bool | int):
        raise DataError(f"found {kind_of(value)}", where=row.at(key), expected="true or false", remedy="Correct it.")
    return None if value is None else bool(value)


def answers(entry: ForeignKeys, markup: Markup | None) -> Read:
    """`chat_template.default` of pairs: turns before, one answer of each side."""
    names = turn_keys(entry, PAIR_ROLES, strict=True)
    column = entry.text("field_messages") or "messages"
    sides = [entry.text(f"field_{side}") or side for side in ("chosen", "rejected")]

    def read(row: RawRow) -> Row:
        value = row.values.get(column)
        before = [Message("user", value)] if isinstance(value, str) else names.turns(row, column)
        chosen, rejected = (_last(names, row, side) for side in sides)
        return _pair(before, chosen, rejected, markup)

    return read


def whole_conversations(entry: ForeignKeys, markup: Markup | None) -> Read:
    """`chat_template.argilla_chat` of pairs: both sides are conversations, and what is before chosen's last turn is the prompt."""
    names = turn_keys(entry, PAIR_ROLES, strict=True)
    good, bad = (entry.text(f"field_{side}") or side for side in ("chosen", "rejected"))

    def read(row: RawRow) -> Row:
        return _pair(names.turns(row, good)[:-1], _last(names, row, good), _last(names, row, bad), markup)

    return read


def alternating(entry: ForeignKeys, markup: Markup | None) -> Read:
    """`chat_template.argilla` of orpo: both sides are conversations of user and assistant in turn, the system's text beside."""

    def read(row: RawRow) -> Row:
        turns = list_of(row, "chosen")
        if len(turns) % 2:
            raise DataError(
                f"found {len(turns)} turns",
                where=row.at("chosen"),
                expected="as many of the user as of the assistant",
                remedy="Remove the row, or add its answer.",
            )
        before = [Message("system", system)] if (system := optional_text(row, "system")) else []
        for number in range(0, len(turns), 2):
            question = text_of(row, "prompt") if "prompt" in row.values else content_at(row, "chosen", number)
            before.append(Message("user", question))
            if number + 2 < len(turns):
                before.append(Message("assistant", content_at(row, "chosen", number + 1)))
        chosen, rejected = content_at(row, "chosen", -1), content_at(row, "rejected", -1)
        return _pair(before, Message("assistant", chosen), Message("assistant", rejected), markup)

    return read


def _last(names: KeyMapping, row: RawRow, key: str) -> Message:
    value = row.values.get(key)
    if isinstance(value, str):
        return Message("assistant", value)
    if isinstance(value, list) and value:
        value = value[-1]
    return names.turn(value, row, key)


def _pair(before: Sequence[Message], chosen: Message, rejected: Message, markup: Markup | None) -> Row:
    if markup is None:
        sides = {"chosen": [chosen.as_dict()], "rejected": [rejected.as_dict()]}
        return {"prompt": [turn.as_dict() for turn in before], **sides}
    text = "".join(str(one["text"]) for one in markup.conversation(before, [False] * len(before)))
    first, second = (turn.content.strip() if markup.strips else turn.content for turn in (chosen, rejected))
    return pair(text + markup.opening(), markup.answer(first), markup.answer(second))
