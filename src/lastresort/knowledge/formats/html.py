"""HTML: text with headings, lists, tables and code, without scripts, styles, menus and controls.

The tags are found here and not by `html.parser`, which takes time that grows with the square of a broken page, raises
AssertionError for some, and reads others differently from version to version.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from html import unescape

from lastresort.foreign import DEEPEST
from lastresort.knowledge.document import BlockKind, Document, DocumentBuilder
from lastresort.knowledge.formats.text import decoded

_DECLARED = re.compile(rb"""<meta[^>]{0,200}charset\s*=\s*["']?\s*([\w.:-]{1,40})""", re.IGNORECASE)
_LEFT_OUT = frozenset(
    {"script", "style", "template", "noscript", "svg", "nav", "iframe", "object", "canvas", "select", "button"}
)
_INLINE = frozenset(
    """a abbr b bdi bdo cite code data del dfn em font i img ins kbd label mark q rp rt ruby s samp small span strike strong
    sub sup time tt u var wbr""".split()
)
_HEADINGS = {f"h{level}": level for level in range(1, 7)}


def read_html(content: bytes, document_id: str, where: str) -> Document:
    """Reads any page. Unclosed tags end with the page. The title is that of its head."""
    declared = _DECLARED.search(content[:4096])
    text = decoded(content, where, declared=declared[1].decode("ascii") if declared else "utf-8")
    page = _Page()
    for part in _parts(text):
        match part:
            case str():
                page.data(part)
            case _Tag(name=name, attributes=attributes, begins=begins, ends=ends):
                if begins:
                    page.start(name, attributes)
                if ends:
                    page.end(name)
    page.end_block()
    title = " ".join("".join(page.titles).split())
    return Document(document_id, page.text.text, tuple(page.text.blocks), title, {"format": "html"})


@dataclass(frozen=True, slots=True)
class _Tag:
    """begins, ends: <br/> does both."""

    name: str
    attributes: Mapping[str, str]
    begins: bool
    ends: bool


_VERBATIM_END = {name: re.compile(rf"</{name}(?=[\s/>])", re.IGNORECASE) for name in ("script", "style")}
_COMMENT_END = re.compile("--!?>")
_NAME = re.compile(r"[a-zA-Z][^\s/>]*")
_ATTRIBUTE = re.compile(r"""[\s/]*([^\s/>][^\s/>=]*)(?:\s*=\s*("[^"]*"|'[^']*'|[^\s>]*))?""")
_TAG_END = re.compile(r"[\s/]*>")
_HUGE_REFERENCE = re.compile(r"&#\d{1000,}")  # more digits than int() may read


def _parts(page: str) -> Iterator[str | _Tag]:
    """The texts and tags of a page in order, without comments. Whatever is written, each character is looked at a few times only.

    What begins a tag and has no > is text. A comment or marked section without its own end, and a tag whose quotes have none, end
    at the next >.
    """
    position, last_end, quotes_end = 0, page.rfind(">"), True
    comments_end, sections_end = max(page.rfind("-->"), page.rfind("--!>")), page.rfind("]]>")
    while (start := page.find("<", position, last_end + 1)) >= 0:
        yield from _text(page[position:start])
        name = _NAME.match(page, start + (2 if page.startswith("</", start) else 1))
        if name is None:
            if page.startswith("<!--", start) and start + 2 <= comments_end:  # <!--> is a whole comment
                closing = _COMMENT_END.search(page, start + 2)
                position = closing.end() if closing is not None else len(page)
            elif page.startswith("<![CDATA[", start) and start < sections_end:
                position = page.index("]]>", start) + 3
            elif page.startswith(("<!", "<?", "</"), start):
                position = page.index(">", start) + 1
            else:
                yield "<"
                position = start + 1
        elif page.startswith("</", start):
            yield _Tag(name[0].lower(), {}, begins=False, ends=True)
            position = page.index(">", name.end()) + 1
        else:
            tag = name[0].lower()
            attributes, after = _attributes(page, name.end()) if quotes_end else ({}, name.end())
            end = _TAG_END.match(page, after)
            quotes_end = (
                quotes_end and end is not None
            )  # where one swallows all that follows, they have no meaning any more
            yield _Tag(tag, attributes, begins=True, ends=end is not None and end[0].endswith("/>"))
            position = end.end() if end is not None else page.index(">", name.end()) + 1
            if tag in _VERBATIM_END:
                closing = _VERBATIM_END[tag].search(page, position)
                if closing is None:
                    return
                position = closing.start()
    yield from _text(page[position:])


def _text(stretch: str) -> Iterator[str]:
    if stretch:
        yield unescape(_HUGE_REFERENCE.sub("\N{REPLACEMENT CHARACTER}", stretch)) if "&" in stretch else stretch


def _attributes(page: str, position: int) -> tuple[dict[str, str], int]:
    """The attributes from here on, and where they end."""
    found: dict[str, str] = {}
    while (attribute := _ATTRIBUTE.match(page, position)) is not None:
        value = attribute[2] or ""
        quoted = len(value) > 1 and value[0] in "\"'" and value[0] == value[-1]
        found[attribute[1].lower()] = "".join(_text(value[1:-1] if quoted else value))
        position = attribute.end()
    return found, position


class _Page:
    """Follows the tags. A list or table is one block with all its content, except that a heading always starts a new block."""

    def __init__(self) -> None:
        self.text = DocumentBuilder()
        self.titles: list[str] = []
        self._words: list[str] = []
        self._in_line = False  # whether the line, item or cell that is being read has words
        self._left_out: list[str] = []  # the open tags whose content is not read
        self._lists: list[int] = []  # of each open list the number of its next item, 0 for one without numbers
        self._cells: list[int] = []  # of each open table how many cells its last row has
        self._verbatim = 0
        self._heading: tuple[int, str] | None = None
        self._in_title = False

    def start(self, tag: str, attributes: Mapping[str, str]) -> None:
        if tag in _LEFT_OUT:
            self._left_out.append(tag)
        elif self._left_out or tag in _INLINE:
            return
        elif tag == "title":
            self._in_title = True
        elif tag in _HEADINGS:
            self.end_block()
            self._heading = (_HEADINGS[tag], attributes.get("id", ""))
        elif tag == "li":
            self._begin_item()
        elif tag in ("td", "th"):
            self._begin_cell()
        else:
            self._break(alone=tag not in ("br", "tr"))
            if tag in ("ul", "ol"):
                self._lists.append(1 if tag == "ol" else 0)
            elif tag == "table":
                self._cells.append(0)
            elif tag == "tr" and self._cells:
                self._cells[-1] = 0
            elif tag == "pre":
                self._verbatim += 1

    def end(self, tag: str) -> None:
        if self._left_out:
            if tag == self._left_out[-1]:
                self._left_out.pop()
        elif tag in _INLINE or tag in ("td", "th", "li", "br"):
            return
        elif tag == "title":
            self._in_title = False
        elif tag in _HEADINGS:
            self.end_block()
        else:
            open_blocks = len(self._lists) + len(self._cells) + self._verbatim
            opened = {"ul": self._lists, "ol": self._lists, "table": self._cells, "pre": self._verbatim}
            closes = bool(opened.get(tag))
            if closes and open_blocks == 1:
                self.end_block()
            else:
                self._break(alone=True)
            if closes and tag == "pre":
                self._verbatim -= 1
            elif closes:
                (self._cells if tag == "table" else self._lists).pop()

    def data(self, data: str) -> None:
        if self._in_title and not self._left_out:
            self.titles.append(data)
        elif not self._left_out:
            self._words.append(data if self._verbatim else re.sub(r"\s+", " ", data))
            self._in_line = self._in_line or not data.isspace()

    def end_block(self) -> None:
        """Turn the collected words into a heading or a block of the open kind."""
        raw, self._words, self._in_line = "".join(self._words), [], False
        if self._heading is not None:
            (level, key), self._heading = self._heading, None
            if raw.strip():
                self.text.heading(raw, level, key=key)
            return
        kind: BlockKind = (
            "list" if self._lists else "table" if self._cells else "code" if self._verbatim else "paragraph"
        )
        self.text.add(kind, raw if kind == "code" else "\n".join(_tidy_lines(raw)))

    def _begin_item(self) -> None:
        if not self._lists:
            self._lists.append(0)
        self._break(alone=False)
        number, indent = self._lists[-1], "  " * min(len(self._lists) - 1, DEEPEST)
        self._mark(f"{indent}{number}. " if number else f"{indent}- ")
        if number:
            self._lists[-1] += 1

    def _begin_cell(self) -> None:
        if not self._cells:
            self._cells.append(0)
        if self._cells[-1]:
            while self._words and not self._words[-1].strip():
                self._words.pop()
            self._mark(" | ")
        self._cells[-1] += 1

    def _mark(self, mark: str) -> None:
        self._words.append(mark)
        self._in_line = False

    def _break(self, *, alone: bool) -> None:
        """End an open line, or the block if what follows is a block of its own and nothing else is open."""
        if alone and not (self._lists or self._cells or self._verbatim or self._heading):
            self.end_block()
        elif self._in_line:
            self._mark("\n")


def _tidy_lines(text: str) -> Iterator[str]:
    """The lines without empty ones and double spaces. Items keep their indentation."""
    for line in text.split("\n"):
        if words := line.split():
            is_item = re.fullmatch(r"-|\d+\.", words[0])
            indent = line[: len(line) - len(line.lstrip())] if is_item else ""
            yield indent + " ".join(words)
