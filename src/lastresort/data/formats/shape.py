"""What a shape is, and how a cell becomes text or turns."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypeGuard, cast, get_args

from lastresort.data.formats.rows import RawRow, compact_json, kind_of
from lastresort.errors import DataError
from lastresort.types import Message, Role

Labelled = tuple[tuple[Message, ...], str]
ROLES = frozenset(get_args(Role))


@dataclass(frozen=True, slots=True)
class RowShape:
    """One way to write a labelled row.

    keys: every column this shape may read. fits(keys): are these the keys of such a row? parse(row): the turns of the
    input and the output. looks: an example of a row, for errors. cells(keys): the keys of the input and the output where each is
    one value that must not be empty. reads(values): the columns that count in such a row, None where these are the cells or, where
    there are none, all of `keys`.
    """

    name: str
    looks: str
    keys: frozenset[str]
    fits: Callable[[frozenset[str]], bool]
    parse: Callable[[RawRow], Labelled]
    cells: Callable[[frozenset[str]], tuple[str, str] | None] = lambda keys: None
    reads: Callable[[Mapping[str, Any]], frozenset[str]] | None = None

    def columns(self, values: Mapping[str, Any]) -> frozenset[str]:
        """The columns of a row that this shape reads; others are of no meaning to it."""
        if self.reads is not None:
            return self.reads(values)
        return frozenset(self.cells(frozenset(values)) or self.keys)


def no_answer(value: object) -> bool:
    """An empty list or object is an answer; empty text is none."""
    return value is None or (isinstance(value, str) and not value.strip())


def no_question(value: object) -> bool:
    return no_answer(value) or value in ([], {})


def output_text(row: RawRow, key: str) -> str:
    """The answer as text: text stays, all else becomes compact JSON. Spaces around a cell of a table, or each of several, are
    nobody's answer.

    Raises DataError where it is missing or empty.
    """
    value = row.values.get(key)
    if no_answer(value):
        found = kind_of(value) if key in row.values else "nothing"
        raise DataError(
            f"found {found}", where=row.at(key), expected="an answer", remedy="Fill it in or remove the row."
        )
    if row.in_table:
        value = without_spaces(value)
    return value if isinstance(value, str) else compact_json(value, row.at(key))


def without_spaces(cell: Any) -> Any:
    """A cell of a table, or an object of several, without the spaces around each."""
    if isinstance(cell, Mapping):
        return {column: without_spaces(one) for column, one in cell.items()}
    return cell.strip() if isinstance(cell, str) else cell


def input_text(row: RawRow, key: str) -> str:
    """The question as text: text stays, all else becomes compact JSON. Raises DataError where it is missing or empty."""
    value = row.values.get(key)
    if no_question(value):
        found = kind_of(value) if key in row.values else "nothing"
        raise DataError(
            f"found {found}", where=row.at(key), expected="text or an object", remedy="Fill it in or remove the row."
        )
    return value if isinstance(value, str) else compact_json(value, row.at(key))


def is_turns(value: Any) -> TypeGuard[list[Mapping[str, Any]]]:
    """Whether a value is a list of messages."""
    return (
        isinstance(value, list) and bool(value) and all(isinstance(turn, Mapping) and "role" in turn for turn in value)
    )


def input_turns(row: RawRow, key: str) -> tuple[Message, ...]:
    """A question: one user turn, or the turns where the value is a list of messages."""
    value = row.values.get(key)
    if is_turns(value):
        return tuple(message_of(item, row, f"{key}[{index}]") for index, item in enumerate(value))
    return (Message("user", input_text(row, key)),)


def message_of(value: Any, row: RawRow, key: str) -> Message:
    """One turn from {"role", "content", …}; further keys that are not null are kept for the template."""
    if not isinstance(value, Mapping):
        raise DataError(
            f"found {kind_of(value)}",
            where=row.at(key),
            expected='a turn {"role": …, "content": …}',
            remedy="Write each turn as an object.",
        )
    given = value.get("role")
    role = {"developer": "system", "function": "tool"}.get(given, given) if isinstance(given, str) else ""
    if role not in ROLES:
        raise DataError(
            f'found the role "{given}"',
            where=row.at(f"{key}.role"),
            expected="system, user, assistant or tool",
            remedy="Rename the role.",
        )
    extra = {name: item for name, item in value.items() if name not in ("role", "content") and item is not None}
    return Message(cast(Role, role), _content_text(value.get("content"), extra, row, f"{key}.content"), extra)


def _content_text(content: Any, extra: Mapping[str, Any], row: RawRow, key: str) -> str:
    """Text, or a list of text parts as some endpoints write it, joined."""
    if isinstance(content, str):
        return content
    if content is None and extra.get("tool_calls"):
        return ""
    if isinstance(content, list) and all(isinstance(part, Mapping) and part.get("type") == "text" for part in content):
        texts = [part.get("text", part.get("value")) for part in content]
        if all(isinstance(text, str) for text in texts):
            return "".join(str(text) for text in texts)
    raise DataError(
        f"found {kind_of(content)}",
        where=row.at(key),
        expected="text, or a list of text parts",
        remedy="Only text can be used: leave out images, sound and other parts.",
    )


def conversation(turns: tuple[Message, ...], row: RawRow, key: str) -> Labelled:
    """Split a conversation at its last assistant turn. What follows that turn has no answer, so it is an error."""
    if not turns or turns[-1].role != "assistant":
        found = f"a last turn of the {turns[-1].role}" if turns else "no turn"
        raise DataError(
            f"found {found}", where=row.at(key), expected="the assistant's answer at the end", remedy="Add the answer."
        )
    *before, answer = turns
    if answer.extra.get("tool_calls"):
        raise DataError(
            "found a last turn that calls a tool",
            where=row.at(key),
            expected="an answer in text",
            remedy="End the row with the answer that follows the tool's result, or write the call as text.",
        )
    if not answer.content.strip():
        raise DataError("found an empty answer", where=row.at(key), expected="text", remedy="Fill it in.")
    if not any(turn.role in ("user", "tool") for turn in before):
        raise DataError("found no user turn before the answer", where=row.at(key), remedy="Add the question.")
    return tuple(before), answer.content
