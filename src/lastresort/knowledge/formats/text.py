"""Plain text, and Markdown (CommonMark) with tables and a YAML front matter. Bytes are UTF-8, or what a page declares."""

from __future__ import annotations

import codecs
import re
from collections.abc import Callable, Sequence
from typing import Any

from lastresort.errors import DataError, InputError
from lastresort.foreign import parse_yaml
from lastresort.knowledge.document import Block, BlockKind, Document, normalize, text_blocks

_MARKS = ((codecs.BOM_UTF8, "utf-8"), (codecs.BOM_UTF16_LE, "utf-16-le"), (codecs.BOM_UTF16_BE, "utf-16-be"))
# Codecs of Python's own: they are no encodings of text, or take time that grows with the square of its length.
_NOT_OF_PAGES = frozenset({"idna", "punycode", "unicode-escape", "raw-unicode-escape", "unicodeescape", "mbcs", "oem"})


def decoded(content: bytes, where: str, *, declared: str = "utf-8") -> str:
    """The normalized text. The encoding is that of a byte order mark, else `declared`. Raises DataError for any other bytes."""
    encoding = declared if declared.lower().replace("_", "-") not in _NOT_OF_PAGES else "undefined"
    for mark, name in _MARKS:
        if content.startswith(mark):
            content, encoding = content[len(mark) :], name
    try:
        return normalize(content.decode(encoding))
    except UnicodeDecodeError as error:
        line = content[: error.start].count(b"\n") + 1
        raise DataError(
            f"found byte 0x{content[error.start]:02x} at offset {error.start}, which is not {encoding.upper()}",
            where=f"{where}, line {line}",
            expected="text in UTF-8",
            remedy="Save the file as UTF-8.",
        ) from error
    except (LookupError, UnicodeError) as error:
        raise DataError(
            f'found the encoding "{declared}", which is not one of pages',
            where=where,
            expected="text in UTF-8",
            remedy="Save the file as UTF-8.",
        ) from error


def read_text(content: bytes, document_id: str, where: str) -> Document:
    text = decoded(content, where)
    return Document(document_id, text, text_blocks(text), metadata={"format": "text"})


_FRONT_MATTER = re.compile(r"\A---[ \t]*\n(.*?)^(?:---|\.\.\.)[ \t]*(?:\n|\Z)", re.DOTALL | re.MULTILINE)
_LONGEST_TITLE = 1000  # characters of a heading whose markup is removed; that takes time that grows with their square
_LONGEST_FRONT_MATTER = 100_000  # characters, which YAML reads in less than a second
_KINDS: dict[str, BlockKind] = {
    "bullet_list_open": "list",
    "ordered_list_open": "list",
    "fence": "code",
    "code_block": "code",
    "table_open": "table",
}


def read_markdown(content: bytes, document_id: str, where: str) -> Document:
    """The text stays as written, without the front matter. The title is that of the front matter, else the first heading, if
    no other has its level or a higher one."""
    from markdown_it import MarkdownIt

    text, front = _without_front_matter(decoded(content, where))
    parser = MarkdownIt("commonmark").enable("table").disable("inline")  # of the rest only the blocks count
    references: dict[str, Any] = {}
    tokens = parser.parse(text, references)

    def title_of(heading: str) -> str:
        words: list[Any] = []
        if len(heading) <= _LONGEST_TITLE:
            parser.inline.parse(heading, parser, references, words)
        return _plain(heading, words)

    blocks = tuple(_blocks(tokens, text, title_of))
    title = front.get("title") or _only_title(blocks)
    return Document(document_id, text, blocks, title, {"format": "markdown", **front})


def _blocks(tokens: list[Any], text: str, title_of: Callable[[str], str]) -> list[Block]:
    lines = [0, *(match.end() for match in re.finditer("\n", text))]
    lines.append(len(text))
    found = []
    for place, token in enumerate(tokens):
        if token.level or token.map is None:
            continue
        start, end = lines[token.map[0]], lines[min(token.map[1], len(lines) - 1)]
        kind: BlockKind = "heading" if token.type == "heading_open" else _KINDS.get(token.type, "paragraph")
        stretch = text[start:end]
        end = start + len(stretch.rstrip())
        if kind != "code":
            start += len(stretch) - len(stretch.lstrip())
        if kind == "heading":
            found.append(Block(kind, start, end, int(token.tag[1:]), title_of(tokens[place + 1].content)))
        elif start < end:
            found.append(Block(kind, start, end))
    return _with_the_rest(found, text)


def _with_the_rest(blocks: list[Block], text: str) -> list[Block]:
    """Text without a token (link definitions) becomes paragraphs, so that nothing is lost."""
    whole, position = [], 0
    for block in [*blocks, Block("paragraph", len(text), len(text))]:
        between = text[position : block.start]
        if between.strip():
            start = position + len(between) - len(between.lstrip())
            whole.append(Block("paragraph", start, start + len(between.strip())))
        whole.append(block)
        position = block.end
    return whole[:-1]


def _plain(heading: str, parts: Sequence[Any]) -> str:
    """The words of a heading without markup. parts: what it is made of, nothing where that is not known."""
    words = [part.content if part.type in ("text", "text_special", "code_inline") else " " for part in parts]
    return " ".join("".join(words).split()) if any(word.strip() for word in words) else heading.strip()


def _only_title(blocks: tuple[Block, ...]) -> str:
    headings = [block for block in blocks if block.kind == "heading"]
    if headings and all(other.level > headings[0].level for other in headings[1:]):
        return headings[0].title
    return ""


def _without_front_matter(text: str) -> tuple[str, dict[str, str]]:
    """The text after the front matter, and its keys with plain values. If it is not a YAML mapping, it stays text."""
    match = _FRONT_MATTER.match(text)
    if match is None or match.end() > _LONGEST_FRONT_MATTER:
        return text, {}
    try:
        values = parse_yaml(match[1], where="front matter")
    except InputError:
        return text, {}
    if not isinstance(values, dict):
        return text, {}
    plain = {str(key): str(value) for key, value in values.items() if isinstance(value, str | int | float)}
    return text[match.end() :], plain
