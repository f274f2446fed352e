"""Prompts to sample answers for, with all that their rows hold: what GRPO reads. An expected answer is welcome, not needed."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lastresort.data.files import read_rows
from lastresort.data.formats import SHAPES
from lastresort.data.formats.shape import input_turns
from lastresort.data.read import content_hash, read_examples
from lastresort.data.rows import RawRow
from lastresort.errors import DataError
from lastresort.types import Example

_ASKED = ("prompt", "messages", "input", "question", "query", "instruction")


def read_prompts(path: Path) -> tuple[list[Example], dict[str, Mapping[str, Any]]]:
    """The examples of a file and, by example id, the columns of their rows.

    A file in one of the labelled shapes is read as such. Another needs a prompt (text or turns), and its examples have an
    empty output. Raises DataError naming file, row and key.
    """
    rows = read_rows(path)
    if any(shape.fits(frozenset(rows[0].values)) for shape in SHAPES.values()) and not _only_asks(rows[0]):
        examples = read_examples(path)
    else:
        examples = _prompts(rows, str(path))
    by_number = {row.number: row.values for row in rows}
    return examples, {example.id: by_number[example.row] for example in examples}


def _only_asks(row: RawRow) -> bool:
    """Turns that end with the user's."""
    turns = row.values.get("messages")
    return isinstance(turns, list) and bool(turns) and isinstance(turns[-1], dict) and turns[-1].get("role") == "user"


def _prompts(rows: list[RawRow], source: str) -> list[Example]:
    key = next((key for key in _ASKED if key in rows[0].values), None)
    if key is None:
        found = ", ".join(sorted(rows[0].values)) or "none"
        raise DataError(
            f"found the keys {found}",
            where=rows[0].place,
            expected=f"one of {', '.join(_ASKED)}",
            remedy="Rename the column of prompts to prompt.",
        )
    examples, occurrences = [], Counter[str]()
    for row in rows:
        turns = input_turns(row, key)
        if turns[-1].role == "assistant":
            raise DataError(
                "found a prompt that ends with an answer",
                where=row.at(key),
                expected="a last turn of the user",
                remedy="Remove the answer, or write it in all rows as labelled examples.",
            )
        content = content_hash(turns, "")
        occurrences[content] += 1
        examples.append(Example(f"{content}-{occurrences[content]}", turns, "", row=row.number, source=source))
    return examples
