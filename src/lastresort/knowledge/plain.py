"""The structure that text has without any marks: paragraphs, lists, fenced code, tables drawn with bars."""

from __future__ import annotations

import re
from collections.abc import Iterator

from lastresort.knowledge.document import Block, BlockKind

_FENCE = re.compile(r"\s{0,3}(`{3,}|~{3,})")
_ITEM = re.compile(r"\s*(?:[-*+•‣◦]|\(?\d{1,4}[.)]|[a-zA-Z][.)])\s+\S")
_ROW = re.compile(r"\s*\|.*\|\s*$")


def plain_blocks(text: str) -> tuple[Block, ...]:
    """Blank lines part blocks, except inside a fence; a list ends where neither an item nor an indented line follows."""
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
    """White space at the ends does not belong to a block, the indentation of its first line of code does."""
    stretch = text[start:end]
    end -= len(stretch) - len(stretch.rstrip())
    if kind != "code":
        start += len(stretch) - len(stretch.lstrip())
    return Block(kind, start, end)
