"""HTML: text with headings, lists, tables and code, without scripts, styles, menus and controls."""

from __future__ import annotations

import re
from collections.abc import Iterator
from html.parser import HTMLParser

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
    page.feed(text)
    page.close()
    page.end_block()
    title = " ".join(page.title.split())
    return Document(document_id, page.text.text, tuple(page.text.blocks), title, {"format": "html"})


class _Page(HTMLParser):
    """Follows the tags. A list or table is one block with all its content, except that a heading always starts a new block."""

    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.text, self.title = DocumentBuilder(), ""
        self._words: list[str] = []
        self._line_start = 0  # how many of them stand before the line, item or cell that is being read
        self._left_out: list[str] = []  # the open tags whose content is not read
        self._lists: list[int] = []  # of each open list the number of its next item, 0 for one without numbers
        self._cells: list[int] = []  # of each open table how many cells its last row has
        self._verbatim = 0
        self._heading: tuple[int, str] | None = None
        self._in_title = False

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        if tag in _LEFT_OUT:
            self._left_out.append(tag)
        elif self._left_out or tag in _INLINE:
            return
        elif tag == "title":
            self._in_title = True
        elif tag in _HEADINGS:
            self.end_block()
            self._heading = (_HEADINGS[tag], dict(attributes).get("id") or "")
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

    def handle_endtag(self, tag: str) -> None:
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

    def handle_data(self, data: str) -> None:
        if self._in_title and not self._left_out:
            self.title += data
        elif not self._left_out:
            self._words.append(data if self._verbatim else re.sub(r"\s+", " ", data))

    def end_block(self) -> None:
        """Turn the collected words into a heading or a block of the open kind."""
        raw, self._words, self._line_start = "".join(self._words), [], 0
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
        number, indent = self._lists[-1], "  " * (len(self._lists) - 1)
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
        self._line_start = len(self._words)

    def _break(self, *, alone: bool) -> None:
        """End an open line, or the block if what follows is a block of its own and nothing else is open."""
        if alone and not (self._lists or self._cells or self._verbatim or self._heading):
            self.end_block()
        elif "".join(self._words[self._line_start :]).strip():
            self._mark("\n")


def _tidy_lines(text: str) -> Iterator[str]:
    """The lines without empty ones and double spaces. Items keep their indentation."""
    for line in text.split("\n"):
        if words := line.split():
            is_item = re.fullmatch(r"-|\d+\.", words[0])
            indent = line[: len(line) - len(line.lstrip())] if is_item else ""
            yield indent + " ".join(words)
