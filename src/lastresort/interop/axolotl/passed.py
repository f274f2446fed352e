"""Rows that are in their shape already: no type, or `passthrough`. Turns are rendered by the model's template, texts by nothing."""

from __future__ import annotations

from lastresort.data.formats.rows import RawRow
from lastresort.interop.axolotl import markup as rendered
from lastresort.interop.axolotl.markup import Row, text_of


def pair(row: RawRow) -> Row:
    """Turns as they are; a prompt and answers that are texts are what the model reads, with the end token behind."""
    if any(isinstance(row.values.get(key), list) for key in ("prompt", "chosen", "rejected")):
        return {key: row.values[key] for key in ("prompt", "chosen", "rejected") if row.values.get(key) is not None}
    return rendered.pair(*(text_of(row, key) for key in ("prompt", "chosen", "rejected")))


def labelled(row: RawRow) -> Row:
    prompt, answer, label = row.values.get("prompt"), row.values.get("completion"), row.values.get("label")
    if isinstance(prompt, list) or isinstance(answer, list):
        return {"prompt": prompt, "completion": answer, "label": label}
    return rendered.labelled(text_of(row, "prompt"), text_of(row, "completion"), label)


def prompt(row: RawRow) -> Row:
    """Of groups: a row that holds a prompt, with all its columns."""
    text_of(row, "prompt")
    return dict(row.values)
