"""The parts of a document under one heading, each with a name that lasts while the rest of the document changes."""

from __future__ import annotations

import re
import unicodedata
from dataclasses import dataclass

from lastresort.knowledge.document import Block, Document


@dataclass(frozen=True, slots=True)
class Section:
    """What stands between one heading and the next.

    name: the key of its heading, else the headings above it and its own as slugs, joined by /; "" for what stands before the
    first heading. headings: their titles, the outermost first. blocks: with its own heading, and with headings before it
    that have no text of their own.
    """

    name: str
    headings: tuple[str, ...]
    blocks: tuple[Block, ...]


def sections(document: Document) -> tuple[Section, ...]:
    """All blocks of the document, in their order, each in one section. A name that comes again gets -2, -3, …

    The document's own title stands in headings but not in names, so that `handbook.md#returns` is what one expects.
    """
    found: list[Section] = []
    taken: set[str] = set()
    path: list[Block] = []
    blocks: list[Block] = []

    def close() -> None:
        if any(block.start < block.end for block in blocks):
            name = _unique(_name(path, document.title), taken)
            found.append(Section(name, tuple(block.title for block in path if block.title), tuple(blocks)))
            blocks.clear()

    for block in document.blocks:
        if block.kind == "heading":
            if any(b.kind != "heading" for b in blocks):
                close()
            path = [above for above in path if above.level < block.level] + [block]
        blocks.append(block)
    close()
    return tuple(found)


def slug(title: str) -> str:
    """As in the address of a heading: small letters, words joined by -, nothing but letters, digits, - and _.

    A title of digits alone becomes section-3: `document#3` is the third chunk of a document without headings.
    """
    words = re.sub(r"[^\w\s-]", "", unicodedata.normalize("NFKC", title).casefold())
    joined = re.sub(r"[\s-]+", "-", words).strip("-")
    return f"section-{joined}" if not joined or joined.isdecimal() else joined


def _name(path: list[Block], title: str) -> str:
    if not path:
        return ""
    if path[-1].key:
        return path[-1].key
    inner = path[1:] if len(path) > 1 and path[0].title == title else path
    return "/".join(slug(block.title) for block in inner if block.title) or "section"


def _unique(name: str, taken: set[str]) -> str:
    candidate, number = name, 1
    while candidate in taken:
        number += 1
        candidate = f"{name}-{number}"
    taken.add(candidate)
    return candidate
