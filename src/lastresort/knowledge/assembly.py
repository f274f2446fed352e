"""Putting a document's text together piece by piece, for formats whose text does not stand in the file as it is read."""

from __future__ import annotations

from dataclasses import replace

from lastresort.knowledge.document import Block, BlockKind, tidy
from lastresort.knowledge.plain import plain_blocks

_GAP = "\n\n"


class Assembly:
    """Collects blocks in their order. text and blocks are what has come together so far."""

    def __init__(self) -> None:
        self._parts: list[str] = []
        self._length = 0
        self.blocks: list[Block] = []

    @property
    def text(self) -> str:
        return "".join(self._parts)

    def heading(self, title: str, level: int, *, key: str = "", shown: bool = True) -> None:
        """Begin a part. shown: whether the title stands in the text too."""
        title = " ".join(tidy(title).split())
        start, end = self._write(title if shown else "")
        self.blocks.append(Block("heading", start, end, level, title, tidy(key)))

    def add(self, kind: BlockKind, text: str) -> None:
        """One block; white space around it goes."""
        text = tidy(text).strip("\n") if kind == "code" else tidy(text).strip()
        if text.strip():
            start, end = self._write(text)
            self.blocks.append(Block(kind, start, end))

    def add_plain(self, text: str) -> None:
        """The blocks of a text without marks."""
        text = tidy(text).strip()
        if text:
            start, _ = self._write(text)
            self.blocks += [
                replace(block, start=block.start + start, end=block.end + start) for block in plain_blocks(text)
            ]

    def _write(self, text: str) -> tuple[int, int]:
        if self._length and text:
            self._parts.append(_GAP)
            self._length += len(_GAP)
        start = self._length
        self._parts.append(text)
        self._length += len(text)
        return start, self._length
