"""A document: its text and the blocks in it.

`text_blocks` finds the structure of text without markup. `DocumentBuilder` is for formats whose file does not contain the text
as it is read.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Literal

from lastresort.errors import ContractError

BlockKind = Literal["heading", "paragraph", "list", "code", "table"]
_HALF_OF_A_PAIR = re.compile("[\ud800-\udfff]")


@dataclass(frozen=True, slots=True)
class Block:
    """The characters text[start:end] of a document, which belong together.

    Only for headings: level, 1 for the outermost; title, without markup; key, the document's own name for the section (an entry's
    id, an anchor). An empty heading (start == end) has a title that is not in the text.
    """

    kind: BlockKind
    start: int
    end: int
    level: int = 0
    title: str = ""
    key: str = ""


@dataclass(frozen=True, slots=True)
class Document:
    """A text with its structure.

    id: the path below the folder that was read, with / as separator and # written as %23. blocks: in the order of the text, not
    nested, with only white space between them. title: "" if the document has none.
    """

    id: str
    text: str
    blocks: tuple[Block, ...]
    title: str = ""
    metadata: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if "#" in self.id or not self.id:
            raise ContractError(f'a document with the id "{self.id}"', expected="text without #")


def normalize(text: str) -> str:
    """Line ends become "\\n". NUL and lone surrogates, which tokenizers and indexes refuse, become the replacement character."""
    text = text.replace("\r\n", "\n").replace("\r", "\n").replace("\0", "\ufffd")
    return text if text.isascii() else _HALF_OF_A_PAIR.sub("\ufffd", text)


_FENCE = re.compile(r"\s{0,3}(`{3,}|~{3,})")
_ITEM = re.compile(r"\s*(?:[-*+•‣◦]|\(?\d{1,4}[.)]|[a-zA-Z][.)])\s+\S")
_ROW = re.compile(r"\s*\|.*\|\s*$")


def text_blocks(text: str) -> tuple[Block, ...]:
    """Paragraphs, lists, fenced code and tables with bars. Blank lines separate blocks, except inside a fence. A list ends where
    neither an item nor an indented line follows."""
    blocks: list[Block] = []
    kind: BlockKind | None = None
    fence, start, end = "", 0, 0

    def close() -> None:
        if kind is not None and text[start:end].strip():
            blocks.append(_trimmed(text, kind, start, end))

    for line_start, line_end in _lines(text):
        line = text[line_start:line_end]
        if fence:
            end = line_end
            if line.strip().startswith(fence) and not line.strip().strip(fence[0]):
                close()
                kind, fence = None, ""
            continue
        found = _kind_of(line)
        if found is None:
            close()
            kind = None
        elif kind is None or found == "code" or (found != kind and not (kind == "list" and line[0].isspace())):
            close()
            kind, start, end = found, line_start, line_end
            if found == "code":
                match = _FENCE.match(line)
                fence = match[1] if match else ""
        else:
            end = line_end
    close()
    return tuple(blocks)


def _kind_of(line: str) -> BlockKind | None:
    """None for a blank line."""
    if not line.strip():
        return None
    if _FENCE.match(line):
        return "code"
    if _ITEM.match(line):
        return "list"
    return "table" if _ROW.match(line) else "paragraph"


def _lines(text: str) -> Iterator[tuple[int, int]]:
    """Start and end of each line, without its line end."""
    start = 0
    while start <= len(text):
        found = text.find("\n", start)
        end = found if found >= 0 else len(text)
        yield start, end
        start = end + 1


def _trimmed(text: str, kind: BlockKind, start: int, end: int) -> Block:
    """The block without white space at its ends. Code keeps the indentation of its first line."""
    stretch = text[start:end]
    end -= len(stretch) - len(stretch.rstrip())
    if kind != "code":
        start += len(stretch) - len(stretch.lstrip())
    return Block(kind, start, end)


_GAP = "\n\n"


class DocumentBuilder:
    """Collects blocks in order. text and blocks: the result so far."""

    def __init__(self) -> None:
        self._parts: list[str] = []
        self._length = 0
        self.blocks: list[Block] = []

    @property
    def text(self) -> str:
        return "".join(self._parts)

    def heading(self, title: str, level: int, *, key: str = "", shown: bool = True) -> None:
        """Begin a section. shown: whether the title is also in the text."""
        title = " ".join(normalize(title).split())
        start, end = self._write(title if shown else "")
        self.blocks.append(Block("heading", start, end, level, title, normalize(key)))

    def add(self, kind: BlockKind, text: str) -> None:
        """Add one block, without white space around it."""
        text = normalize(text).strip("\n") if kind == "code" else normalize(text).strip()
        if text.strip():
            start, end = self._write(text)
            self.blocks.append(Block(kind, start, end))

    def add_plain(self, text: str) -> None:
        """Add the blocks of a text without markup."""
        text = normalize(text).strip()
        if text:
            start, _ = self._write(text)
            self.blocks += [
                replace(block, start=block.start + start, end=block.end + start) for block in text_blocks(text)
            ]

    def _write(self, text: str) -> tuple[int, int]:
        if self._length and text:
            self._parts.append(_GAP)
            self._length += len(_GAP)
        start = self._length
        self._parts.append(text)
        self._length += len(text)
        return start, self._length
