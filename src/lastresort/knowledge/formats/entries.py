"""JSON, JSON Lines, CSV and TSV: each entry is a section with its own heading and name.

The last word of a field's name gives its meaning: `chunk_heading` is a heading, `page_content` is text. A field that is not
text, heading or name goes below the text as `field: value`, so nothing of an entry is lost.
"""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from lastresort.errors import DataError
from lastresort.foreign import NotJson, parse_json
from lastresort.knowledge.document import Document, DocumentBuilder
from lastresort.knowledge.formats.text import decoded

_TEXT = ("text", "content", "body", "passage", "chunk", "document")
_HEADING = ("heading", "title", "headline", "name", "subject")
_NAME = ("id", "link", "url", "uri", "href", "anchor", "slug", "key")
_EMBEDDING_NUMBERS = 16  # a list of at least so many numbers is an embedding, not text


class _Number(str):
    """A number as it is written in the file."""

    __slots__ = ()


@dataclass(frozen=True, slots=True)
class _Entry:
    heading: str
    name: str
    text: str


def read_json(content: bytes, document_id: str, where: str) -> Document:
    """The entries are the items of a list, of the only list of objects in an object, or else the keys of an object."""
    value = _parsed(decoded(content, where), where)
    if isinstance(value, list):
        entries = [_entry(item, number) for number, item in enumerate(value, start=1)]
    elif isinstance(value, dict):
        entries = _entries_of_object(value)
    else:
        entries = [_entry(value, 1)]
    return _document(entries, document_id, "json")


def read_json_lines(content: bytes, document_id: str, where: str) -> Document:
    entries = []
    # Only "\n" ends a row: str.splitlines would also cut at U+2028, which may stand inside a JSON string.
    for number, line in enumerate(decoded(content, where).split("\n"), start=1):
        if line.strip():
            entries.append(_entry(_parsed(line, where, first_line=number), number))
    return _document(entries, document_id, "jsonl")


def read_table(content: bytes, document_id: str, where: str) -> Document:
    """CSV or TSV with a header. The separator is the first of tab, comma and semicolon that occurs in the header."""
    text = decoded(content, where)
    header = text.lstrip("\n").split("\n", 1)[0]
    separator = next((mark for mark in ("\t", ",", ";") if mark in header), ",")
    rows = _rows(text, separator, where)
    names = rows[0] if rows else []
    entries = []
    for number, row in enumerate(rows[1:], start=1):
        if len(row) != len(names):
            raise DataError(
                f"found {len(row)} cells",
                where=f"{where}, row {number}",
                expected=f"{len(names)}, as in the header",
                remedy="Quote cells that hold the separator, or add the missing cells.",
            )
        entries.append(_entry(dict(zip(names, row, strict=True)), number))
    return _document(entries, document_id, "table")


def _document(entries: Iterable[_Entry], document_id: str, kind: str) -> Document:
    text = DocumentBuilder()
    for entry in entries:
        if entry.text.strip():
            text.heading(entry.heading, 1, key=entry.name, shown=False)
            text.add_plain(entry.text)
    return Document(document_id, text.text, tuple(text.blocks), metadata={"format": kind})


def _entries_of_object(value: Mapping[str, Any]) -> list[_Entry]:
    lists = [key for key, inner in value.items() if isinstance(inner, list) and any(isinstance(x, dict) for x in inner)]
    if len(lists) == 1:
        entries = [_entry(item, number) for number, item in enumerate(value[lists[0]], start=1)]
        rest = {key: inner for key, inner in value.items() if key != lists[0]}
        return [*entries, _Entry("", "about", "\n".join(_lines(rest)))]
    return [
        _Entry(key, "", inner if isinstance(inner, str) else "\n".join(_lines(inner, "")))
        for key, inner in value.items()
    ]


def _entry(value: Any, number: int) -> _Entry:
    """number: counted from 1, names an entry that has neither name nor heading."""
    if not isinstance(value, Mapping):
        return _Entry("", f"entry-{number}", "\n".join(_lines(value)))
    texts = [key for key, inner in value.items() if isinstance(inner, str) and inner.strip()]
    prose = {key: None for key in texts if _last_word(key) in _TEXT}
    heading = next((key for key in texts if key not in prose and _last_word(key) in _HEADING), None)
    name = next((key for word in _NAME for key in texts if _last_word(key) == word), None)
    used = {*prose, heading, name}
    fields = "\n".join(_lines({key: inner for key, inner in value.items() if key not in used}))
    title = str(value[heading]).strip() if heading else ""
    text = "\n\n".join([*(value[key] for key in prose), fields]).strip() or title
    own_name = str(value[name]).strip() if name else ""
    return _Entry(title, own_name or ("" if title else f"entry-{number}"), text)


def _last_word(key: str) -> str:
    """chunk_heading, chunkHeading and "Chunk heading" all end in heading."""
    words: list[str] = re.findall(r"[A-Z]?[a-z]+|[A-Z]+", key)
    return words[-1].lower() if words else ""


def _lines(value: Any, name: str = "") -> Iterator[str]:
    """A value as lines `name: value`. Nested names are joined by dots."""
    if isinstance(value, Mapping):
        for key, inner in value.items():
            yield from _lines(inner, f"{name}.{key}" if name else str(key))
    elif isinstance(value, list):
        if len(value) >= _EMBEDDING_NUMBERS and all(isinstance(item, _Number) for item in value):
            return
        if any(isinstance(item, Mapping | list) for item in value):
            for place, item in enumerate(value, start=1):
                yield from _lines(item, f"{name}.{place}" if name else str(place))
        else:
            yield from _lines(", ".join(_written(item) for item in value), name)
    elif written := _written(value).strip():
        yield f"{name}: {written}" if name else written


def _written(value: Any) -> str:
    if value is None:
        return ""
    return str(value).lower() if isinstance(value, bool) else str(value)


def _parsed(text: str, where: str, *, first_line: int = 1) -> Any:
    try:
        return parse_json(text, lenient=True, number=_Number)
    except NotJson as error:
        if error.line is None:
            raise DataError(f"found {error.reason}", where=where, remedy=error.remedy) from error
        raise DataError(
            f"found invalid JSON ({error.reason})",
            where=f"{where}, line {error.line + first_line - 1}, column {error.column}",
            remedy="Correct it.",
        ) from error


def _rows(text: str, separator: str, where: str) -> list[list[str]]:
    before = csv.field_size_limit(2**31 - 1)  # the module refuses cells above 131,072 characters
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=separator, strict=True)
    try:
        return [row for row in reader if any(cell.strip() for cell in row)]
    except csv.Error as error:
        raise DataError(
            f"found a quoting error ({error})",
            where=f"{where}, line {reader.line_num}",
            expected='a cell with separators, quotes or line ends in "…", its inner quotes doubled',
            remedy="Correct the quotes, or write the file as JSON Lines.",
        ) from error
    finally:
        csv.field_size_limit(before)
