"""{"messages": [{"role": …, "content": …}, …]}: the last assistant turn is the output, the turns before it the input."""

from __future__ import annotations

from lastresort.data.formats.shape import Labelled, Shape, conversation, message_of
from lastresort.data.rows import RawRow, kind_of
from lastresort.errors import DataError


def _parse(row: RawRow) -> Labelled:
    value = row.values["messages"]
    if not isinstance(value, list):
        raise DataError(
            f"found {kind_of(value)}",
            where=row.at("messages"),
            expected="a list of turns",
            remedy="Write the conversation as a list (JSON Lines or Parquet; a table cannot hold one).",
        )
    turns = tuple(message_of(turn, row, f"messages[{index}]") for index, turn in enumerate(value))
    return conversation(turns, row, "messages")


MESSAGES = Shape(
    "messages",
    '{"messages": [{"role": "user", "content": …}, {"role": "assistant", "content": …}]}',
    frozenset({"messages"}),
    lambda keys: "messages" in keys,
    _parse,
)
