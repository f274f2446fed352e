"""{"conversations": [{"from": "human", "value": …}, {"from": "gpt", "value": …}]}, also with role/content inside."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from lastresort.data.formats.shape import Labelled, Shape, conversation, input_text, message_of
from lastresort.data.rows import RawRow, kind_of
from lastresort.errors import DataError
from lastresort.types import Message

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


def _parse(row: RawRow) -> Labelled:
    value = row.values["conversations"]
    if not isinstance(value, list):
        raise DataError(
            f"found {kind_of(value)}",
            where=row.at("conversations"),
            expected="a list of turns",
            remedy="Write the conversation as a list (JSON Lines or Parquet; a table cannot hold one).",
        )
    turns = tuple(turn_of(turn, row, f"conversations[{index}]") for index, turn in enumerate(value))
    if row.values.get("system"):
        turns = (Message("system", input_text(row, "system")), *turns)
    return conversation(turns, row, "conversations")


SHAREGPT = Shape(
    "sharegpt",
    '{"conversations": [{"from": "human", "value": …}, {"from": "gpt", "value": …}]}',
    frozenset({"conversations", "system"}),
    lambda keys: "conversations" in keys,
    _parse,
)
