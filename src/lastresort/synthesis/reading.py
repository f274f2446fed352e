"""What a teacher's reply holds. Nothing in it is trusted: a reply or row that cannot be read is counted and left out."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

from lastresort.data.formats.rows import compact_json
from lastresort.errors import DataError
from lastresort.foreign import NotJson, parse_json
from lastresort.types import Answer

LONGEST_REPLY = 2**18  # characters; a hundred times what a request takes
SAID = 200  # characters of a reply that cannot be read
_FENCE = "```"
_ROWS, _COMMA = re.compile(r'\{\s*"rows"\s*:\s*\[\s*'), re.compile(r"\s*,\s*")
_CONTROL = re.compile(
    r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\xad\u061c\u180e\u200b\u200e\u200f\u2028-\u202e\u2060-\u206f\ufeff\U000e0000-\U000e007f]"
    r"|(?<=[A-Za-z])[\u200c\u200d]"  # elsewhere they join letters and emoji
)


@dataclass(frozen=True, slots=True)
class Proposal:
    """A row as the teacher wrote it. output: None where it was not asked for one."""

    input: str
    output: str | None


@dataclass(frozen=True, slots=True)
class ReadReply:
    """proposals: the rows that could be read. unreadable: how many rows of the reply could not, 1 where the whole reply could not.
    said: how the reply begins, where all of it is unreadable, "" else.
    """

    proposals: tuple[Proposal, ...]
    unreadable: int = 0
    said: str = ""


def read_reply_rows(answer: Answer, n: int, *, with_output: bool) -> ReadReply:
    """At most n rows of a reply."""
    text = answer.text
    said = text[:SAID].encode(errors="replace").decode()
    if len(text) > LONGEST_REPLY:
        return ReadReply((), 1, said)
    try:
        value = parse_json(json_part(text))
    except NotJson:
        value = _cut_off(text, n)
    rows = value.get("rows") if isinstance(value, dict) else None
    if not isinstance(rows, list) or not rows:
        return ReadReply((), 1, said)
    found = [_proposal(row, with_output=with_output) for row in rows[:n]]
    readable = tuple(one for one in found if one is not None)
    return ReadReply(readable, len(found) - len(readable))


def _cut_off(text: str, n: int) -> Any:
    """The first n rows of a reply that ends within them, None in place of the one that is cut."""
    begun = _ROWS.search(text)
    rows: list[Any] = []
    try:
        while begun is not None and len(rows) < n:
            row, length = _first_value(text[begun.end() :])
            rows.append(row)
            begun = _COMMA.match(text, begun.end() + length)
    except NotJson:
        rows += [None] if rows else []
    return {"rows": rows}


def _first_value(text: str) -> tuple[Any, int]:
    """The JSON value that a text begins with, and where it ends. Raises NotJson."""
    try:
        return parse_json(text), len(text)
    except NotJson as error:
        return parse_json(text[: error.position]), error.position


def json_part(text: str) -> str:
    """The text without a code fence around it, or without the words before and after its outermost object."""
    stripped = text.strip()
    if stripped.startswith(_FENCE) and stripped.endswith(_FENCE) and "\n" in stripped:
        return stripped.removesuffix(_FENCE).partition("\n")[2]
    start, end = text.find("{"), text.rfind("}")
    return text[start : end + 1] if 0 <= start < end else text


def _proposal(row: Any, *, with_output: bool) -> Proposal | None:
    if not isinstance(row, dict):
        return None
    given = _text(row.get("input"))
    output = _text(row.get("output")) if with_output else None
    if given is None or (with_output and output is None):
        return None
    return Proposal(given, output)


def _text(value: Any) -> str | None:
    """None for what is no text of a row: nothing, a truth value, control characters, marks that are not seen."""
    if value is None or isinstance(value, bool) or value == "":
        return None
    if not isinstance(value, str):
        try:
            value = compact_json(value, "reply")
        except DataError:
            return None
    text = str(value).replace("\r\n", "\n").strip()
    return None if not text or _CONTROL.search(text) else text
