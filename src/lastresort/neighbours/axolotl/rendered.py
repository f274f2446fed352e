"""Rows of text that is rendered already, and cells of rows as text or turns."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from lastresort.data.rows import RawRow, kind_of, row_json
from lastresort.data.segments import CHOSEN, REJECTED, SEGMENTS
from lastresort.errors import DataError

Row = dict[str, Any]


def answered(prompt: str, answer: str, *, whole: bool = False) -> Row:
    """A row of sft. whole: whether the prompt is trained too."""
    return {SEGMENTS: [{"text": prompt, "train": whole}, {"text": answer, "train": True, "end": True}]}


def pair(prompt: str, chosen: str, rejected: str) -> Row:
    return {
        SEGMENTS: [{"text": prompt}],
        CHOSEN: [{"text": chosen, "end": True}],
        REJECTED: [{"text": rejected, "end": True}],
    }


def labelled(prompt: str, answer: str, label: Any) -> Row:
    return {**answered(prompt, answer), "label": label}


def text_of(row: RawRow, key: str) -> str:
    """A cell that must be there, as text. Raises DataError."""
    if row.values.get(key) is None:
        found = ", ".join(sorted(row.values)) or "none"
        raise DataError(
            f"found the keys {found}",
            where=row.at(key),
            expected=f"the column {key}",
            remedy="Name the column so, or take another type.",
        )
    value = row.values[key]
    return value if isinstance(value, str) else str(value)


def optional_text(row: RawRow, key: str) -> str:
    return text_of(row, key) if row.values.get(key) is not None else ""


def first_of(row: RawRow, *keys: str) -> str:
    """The cell of the first of these columns that the row has; the last one is taken where it has none."""
    return text_of(row, next((key for key in keys[:-1] if key in row.values), keys[-1]))


def list_of(row: RawRow, key: str) -> list[Mapping[str, Any]]:
    """A cell that holds a list of objects; in a table as JSON. Raises DataError."""
    value = row.values.get(key)
    if isinstance(value, str) and value.lstrip().startswith("["):
        value = row_json(value, row.at(key))
    if not isinstance(value, list) or not value or not all(isinstance(one, Mapping) for one in value):
        raise DataError(
            f"found {kind_of(value) if key in row.values else 'nothing'}",
            where=row.at(key),
            expected="a list of turns",
            remedy='Write turns such as {"role": "user", "content": "…"}, or take another type.',
        )
    return value


def content_at(row: RawRow, key: str, place: int) -> str:
    """The content of one turn of a list. Raises DataError where there is none."""
    turns = list_of(row, key)
    try:
        content = turns[place]["content"]
    except (IndexError, KeyError):
        content = None
    if not isinstance(content, str):
        at = f"{key}[{place}].content"
        raise DataError("found nothing", where=row.at(at), expected="text", remedy="Add it, or remove the row.")
    return content
