"""A document: its text and where the parts of it begin and end."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from lastresort.errors import ContractError

BlockKind = Literal["heading", "paragraph", "list", "code", "table"]
_HALF_OF_A_PAIR = re.compile("[\ud800-\udfff]")


@dataclass(frozen=True, slots=True)
class Block:
    """The characters text[start:end] of a document, which belong together.

    Of headings only: level, 1 for the outermost; title, without marks; key, the name that the document itself gives to the
    part that begins here (an entry's id, an anchor). A heading may be empty (start == end): its title then is not in the text.
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

    id: the path below the folder that was read, with / between its parts and # written as %23. blocks: in the order of the
    text, none inside another; between them there is only white space. title: "" where the document names none.
    """

    id: str
    text: str
    blocks: tuple[Block, ...]
    title: str = ""
    metadata: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if "#" in self.id or not self.id:
            raise ContractError(f'a document with the id "{self.id}"', expected="text without #")


def tidy(text: str) -> str:
    """Line ends as "\\n"; what no tokenizer or index takes (NUL, half of a surrogate pair) as the replacement character."""
    text = text.replace("\r\n", "\n").replace("\r", "\n").replace("\0", "\ufffd")
    return text if text.isascii() else _HALF_OF_A_PAIR.sub("\ufffd", text)
