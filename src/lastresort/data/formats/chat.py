"""Shapes of whole conversations: the last assistant turn is the output, the turns before it the input.

{"messages": [{"role": …, "content": …}, …]}.

{"conversations": [{"from": "human", "value": …}, {"from": "gpt", "value": …}]}, also with role/content inside.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from lastresort.data.formats.rows import RawRow, kind_of
from lastresort.data.formats.shape import Labelled, RowShape, conversation, input_text, message_of
from lastresort.errors import DataError
from lastresort.types import Message


def _messages(row: RawRow) -> Labelled:
    turns = tuple(message_of(turn, row, place) for place, turn in _turns(row, "messages"))
    return conversation(turns, row, "messages")


MESSAGES = RowShape(
    "messages",
    '{"messages": [{"role": "user", "content": …}, {"role": "assistant", "content": …}]}',
    frozenset({"messages"}),
    lambda keys: "messages" in keys,
    _messages,
)


_ROLES = {
    "human": "user",
    "user": "user",
    "gpt": "assistant",
    "chatgpt": "assistant",
    "bing": "assistant",
    "bard": "assistant",
    "model": "assistant",
    "assistant": "assistant",
    "function_call": "assistant",
    "system": "system",
    "tool": "tool",
    "observation": "tool",
}


def turn_of(value: Any, row: RawRow, key: str) -> Message:
    """One turn, written either way."""
    if isinstance(value, Mapping) and "from" in value:
        speaker = str(value["from"])
        if speaker not in _ROLES:
            raise DataError(
                f'found the speaker "{speaker}"',
                where=row.at(f"{key}.from"),
                expected="human, gpt, system or tool",
                remedy="Rename the speaker.",
            )
        rest = {name: item for name, item in value.items() if name not in ("from", "value")}
        value = {"role": _ROLES[speaker], "content": value.get("value"), **rest}
    return message_of(value, row, key)


def _sharegpt(row: RawRow) -> Labelled:
    turns = tuple(turn_of(turn, row, place) for place, turn in _turns(row, "conversations"))
    if row.values.get("system"):
        turns = (Message("system", input_text(row, "system")), *turns)
    return conversation(turns, row, "conversations")


SHAREGPT = RowShape(
    "sharegpt",
    '{"conversations": [{"from": "human", "value": …}, {"from": "gpt", "value": …}]}',
    frozenset({"conversations", "system"}),
    lambda keys: "conversations" in keys,
    _sharegpt,
)


def _turns(row: RawRow, key: str) -> list[tuple[str, Any]]:
    """The turns of a conversation, each with its place in the row."""
    value = row.values[key]
    if not isinstance(value, list):
        raise DataError(
            f"found {kind_of(value)}",
            where=row.at(key),
            expected="a list of turns",
            remedy="Write the conversation as a list (JSON Lines or Parquet; a table cannot hold one).",
        )
    return [(f"{key}[{index}]", turn) for index, turn in enumerate(value)]
