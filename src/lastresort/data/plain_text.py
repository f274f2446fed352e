"""Plain text: documents from text files and from rows, cut into rows of one length with the end token between documents.

The documents are one stream of tokens, each followed by the end token. A row begins with the last token of the row before
it, as something to be predicted from; so every token of the stream but the first is trained exactly once.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lastresort.data.files import read_rows
from lastresort.data.formats.rows import kind_of
from lastresort.data.rendering import Rendered
from lastresort.errors import DataError
from lastresort.foreign import ROWS, everything_below, read_text

SUFFIXES = (".txt", ".md")


@dataclass(frozen=True, slots=True)
class TextDocument:
    """place: file, or file and row, for errors."""

    text: str
    place: str


def read_documents(path: Path) -> list[TextDocument]:
    """The documents of a file: a .txt or .md is one, other files one a row under `text`; a folder holds such text files.

    Raises DataError for an empty document, and for a file that holds none.
    """
    if path.is_dir():
        files = sorted(
            file for file in everything_below(path, hidden=True) if file.suffix.lower() in SUFFIXES and file.is_file()
        )
        if not files:
            raise DataError(
                "no .txt or .md in this folder", where=str(path), expected="text files", remedy="Name another."
            )
        return [document for file in files for document in read_documents(file)]
    if path.suffix.lower() in SUFFIXES:
        return [TextDocument(_text_of(path), str(path))]
    found = []
    for row in read_rows(path):
        value = row.values.get("text")
        if not isinstance(value, str) or not value.strip():
            what = kind_of(value) if "text" in row.values else f"the keys {', '.join(sorted(row.values)) or 'none'}"
            raise DataError(
                f"found {what}", where=row.at("text"), expected='{"text": …}', remedy="Fill it in or remove the row."
            )
        found.append(TextDocument(value, row.place))
    return found


def packed_rows(tokenizer: Any, documents: Sequence[TextDocument], row_tokens: int) -> list[Rendered]:
    """Rows of `row_tokens` tokens (the last one is shorter). The first token of a row is no target.

    Raises DataError where the model has no end token.
    """
    end = tokenizer.eos_token_id
    if end is None:
        raise DataError(
            "the model has no end-of-text token",
            expected="one, to separate documents",
            remedy="Set eos_token in the model's tokenizer_config.json.",
        )
    stream: list[int] = []
    for document in documents:
        ids = [int(token) for token in tokenizer(document.text)["input_ids"]]
        stream += ids if ids and ids[-1] == end else [*ids, int(end)]
    step = row_tokens - 1
    pieces = [stream[start : start + row_tokens] for start in range(0, len(stream) - 1, step)]
    return [Rendered(tuple(piece), (False, *[True] * (len(piece) - 1))) for piece in pieces]


def _text_of(path: Path) -> str:
    try:
        text = read_text(path, ROWS, raised=DataError)
    except FileNotFoundError as error:
        raise DataError("no such file", where=str(path), remedy="Check the path.") from error
    if not text.strip():
        raise DataError("found an empty document", where=str(path), expected="text", remedy="Remove it.")
    return text
