"""Samples of a model in a file: several answers to the same prompts, to be scored.

One answer a row, in any shape of a labelled example, or all answers to a prompt in one row:
{"prompt": …, "samples": ["…", …]}, the prompt also as `messages`, `input` or `question`, or {"id": …, "samples": […]} with the id
of the task's row. An answer that was cut at the token limit says so: "finish": "length".
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from lastresort.data.conversion.content import source_shape
from lastresort.data.conversion.streams import stream_rows
from lastresort.data.formats.rows import RawRow, kind_of
from lastresort.data.formats.shape import input_turns
from lastresort.data.read import PROMPT_KEYS
from lastresort.errors import DataError
from lastresort.types import Message


@dataclass(frozen=True, slots=True)
class FileSample:
    """One answer. prompt: the turns before it, empty where the row names an id alone. whole: it was not cut. place: for errors."""

    prompt: tuple[Message, ...]
    id: str | None
    text: str
    whole: bool
    place: str


def read_samples(path: Path) -> Iterator[FileSample]:
    """Raises DataError naming row and field."""
    for row in stream_rows(path):
        yield from _in_list(row) if "samples" in row.values else _alone(row)


def _in_list(row: RawRow) -> Iterator[FileSample]:
    texts = row.values["samples"]
    if not isinstance(texts, list) or not texts or not all(isinstance(text, str) for text in texts):
        raise DataError(
            f"found {kind_of(texts)}",
            where=row.at("samples"),
            expected="a list of texts",
            remedy="Write the answers as a list of texts.",
        )
    key = next((key for key in PROMPT_KEYS if row.values.get(key) not in (None, "", [])), None)
    if key is None and row.values.get("id") is None:
        raise DataError(
            "found samples without a prompt",
            where=row.place,
            expected=f"one of {', '.join(PROMPT_KEYS)}, or the id of a row of the task",
            remedy="Add the prompt.",
        )
    prompt = () if key is None else input_turns(row, key)
    for text in texts:
        yield FileSample(prompt, _id(row), text, True, row.place)


def _alone(row: RawRow) -> Iterator[FileSample]:
    source = source_shape(row)
    if source.kind != "examples":
        raise DataError(
            f"found {source.said}",
            where=row.place,
            expected="one sample a row, or a list of `samples`",
            remedy="Name a file of answers that were not compared yet.",
        )
    content = source.content(row)
    (answer,) = content.answers
    yield FileSample(content.prompt, _id(row), answer[-1].content, row.values.get("finish") != "length", row.place)


def _id(row: RawRow) -> str | None:
    value = row.values.get("id")
    return None if value is None else str(value)
