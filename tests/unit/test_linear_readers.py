"""What became linear gives what the plain way gives, and a long input takes no more steps than its length asks for."""

from __future__ import annotations

import random
import re
from collections.abc import Iterator
from html.parser import HTMLParser

import pytest
from markdown_it import MarkdownIt

from lastresort.knowledge import chunks
from lastresort.knowledge.chunks import ChunkSettings, chunk_document, sections
from lastresort.knowledge.document import Block, Document
from lastresort.knowledge.formats import READERS
from lastresort.knowledge.formats.html import _parts

PIECES = """text| a &amp; b |&lt;|&#65;|\n|<p>|</p>|<a href="x>y" id='k'>|</a>|<br>|<br/>|<br />|<img src=a.png alt=x>|<ul>
<li>|</li>|</ul>|<!-- c > d -->|<!DOCTYPE html>|<H2 ID=Foo class='a b'>|</H2>|<input disabled>|<style>a>b{}</style>
<script>if (a<b && c>d) {'<p>'}</script>|<?php x ?>|a < b|3 > 2|& co|&copy;2020|<td nowrap>|<![CDATA[x]]>|é|</b >|<!---->
<a href=x/>|'|"|=""".replace("\n", "|").split("|")


class Library(HTMLParser):
    """What Python's own parser finds, without the content of scripts and styles."""

    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.found: list[tuple[object, ...]] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append(("begins", tag, {name: value or "" for name, value in attrs}))

    def handle_endtag(self, tag: str) -> None:
        self.found.append(("ends", tag))

    def handle_data(self, data: str) -> None:
        if not self.cdata_elem:
            add_text(self.found, data)


def add_text(found: list[tuple[object, ...]], text: str) -> None:
    if found and found[-1][0] == "text":
        text = f"{found.pop()[1]}{text}"
    found.append(("text", text))


def ours(page: str) -> list[tuple[object, ...]]:
    found: list[tuple[object, ...]] = []
    for part in _parts(page):
        if isinstance(part, str):
            add_text(found, part)
            continue
        if part.begins:
            found.append(("begins", part.name, dict(part.attributes)))
        if part.ends:
            found.append(("ends", part.name))
    return found


def test_tags_are_those_of_the_library_on_pages_that_close_what_they_open() -> None:
    drawn = random.Random(1)
    for _ in range(2_000):
        page = "".join(drawn.choice(PIECES) for _ in range(drawn.randint(1, 12)))
        library = Library()
        library.feed(page)
        library.close()
        assert ours(page) == library.found, page


@pytest.mark.parametrize(
    ("page", "parts"),
    [
        ("a<b c", [("text", "a<b c")]),
        ("<!-- a > b", [("text", " b")]),
        ("<![CDATA[ a > b", [("text", " b")]),
        ('<a b="c>d', [("begins", "a", {"b": '"c'}), ("text", "d")]),
        ("<![a[ b ]>c", [("text", "c")]),
        ("<!-->a", [("text", "a")]),
        ("</ a>b</>c", [("text", "bc")]),
        ("<script>a", [("begins", "script", {})]),
        (f"&#{'9' * 5_000};a", [("text", "\ufffd;a")]),
    ],
)
def test_tags_of_broken_pages(page: str, parts: list[tuple[object, ...]]) -> None:
    assert ours(page) == parts


def all_gaps(text: str, start: int, end: int) -> list[tuple[int, int]]:
    """The split nearest the middle, found by looking at every gap."""
    if end - start < 2:
        return [(start, end)]
    middle = (start + end) // 2
    gaps = [match for match in re.finditer(r"\s+", text[start:end]) if match.start() > 0 and start + match.end() < end]
    if not gaps:
        return [(start, middle), (middle, end)]
    gap = min(gaps, key=lambda match: abs(start + match.start() - middle))
    return [(start, start + gap.start()), (start + gap.end(), end)]


def test_a_split_in_the_middle_is_that_of_all_gaps(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(chunks, "_FIRST_REACH", 2)
    drawn = random.Random(3)
    for _ in range(5_000):
        text = "".join(drawn.choice("ab  \n") for _ in range(drawn.randint(0, 40)))
        start = drawn.randint(0, len(text))
        end = drawn.randint(start, len(text))
        assert chunks._in_the_middle(text, start, end) == all_gaps(text, start, end)


def names_one_by_one(titles: list[str]) -> Iterator[str]:
    taken: set[str] = set()
    for title in titles:
        candidate, number = title, 1
        while candidate in taken:
            number += 1
            candidate = f"{title}-{number}"
        taken.add(candidate)
        yield candidate


def test_repeated_names_are_numbered_as_if_each_were_tried() -> None:
    drawn = random.Random(4)
    for _ in range(1_000):
        titles = [drawn.choice(("a", "a-2", "a-3", "a-2-2", "b")) for _ in range(drawn.randint(1, 12))]
        taken: dict[str, int] = {}
        assert [chunks._unique(title, taken) for title in titles] == list(names_one_by_one(titles))


class Counting(dict[str, int]):
    looked_up = 0

    def __contains__(self, key: object) -> bool:
        self.looked_up += 1
        return super().__contains__(key)


def test_20_000_entries_with_one_title_take_a_few_look_ups_each() -> None:
    taken = Counting()
    names = {chunks._unique("returns", taken) for _ in range(20_000)}
    assert len(names) == 20_000
    assert taken.looked_up < 3 * 20_000


def test_headings_without_a_text_are_one_section() -> None:
    blocks = [Block("heading", n, n + 1, 1, f"t{n}") for n in range(9)]
    found = sections(
        Document("a", "abcdefghijk", (*blocks, Block("paragraph", 9, 10), Block("heading", 10, 11, 1, "z")))
    )
    assert [(section.name, len(section.blocks)) for section in found] == [("t8", 10), ("z", 1)]


def test_titles_of_markdown_are_those_of_the_whole_parser() -> None:
    pieces = "# |## |a| *b* |[x](y)|[r]|[r]: http://z\n|`c`|\n|\n\n|\\*|&amp;|![i](j)|<b>|- |===\n|**".split("|")
    drawn = random.Random(2)
    for _ in range(1_000):
        text = "".join(drawn.choice(pieces) for _ in range(drawn.randint(1, 14)))
        tokens = MarkdownIt("commonmark").enable("table").parse(text)
        inlines = [tokens[n + 1] for n, token in enumerate(tokens) if token.type == "heading_open" and not token.level]
        expected = []
        for inline in inlines:
            words = [part.content if part.type in ("text", "code_inline") else " " for part in inline.children]
            plain = any(word.strip() for word in words)
            expected.append(" ".join("".join(words).split()) if plain else inline.content.strip())
        blocks = READERS[".md"](text.encode(), "a", "a").blocks
        assert [block.title for block in blocks if block.kind == "heading"] == expected


def test_a_title_of_100_000_words_is_counted_a_few_hundred_times() -> None:
    counted = 0

    def count(text: str) -> int:
        nonlocal counted
        counted += 1
        return len(text.split())

    text = f"# {'word ' * 100_000}\n\nbody"
    found = chunk_document(READERS[".md"](text.encode(), "a", "a"), ChunkSettings(), count)
    assert found[-1].context == " ".join(["word"] * 62)
    assert counted < 50_000


def test_an_abbreviation_does_not_end_a_sentence_however_many_there_are() -> None:
    text = "Dr. A met Prof. B. Then approx. Ten came. " * 3
    spans = [text[start:end].strip() for start, end in chunks._at_sentences(text, 0, len(text))]
    assert spans == ["Dr. A met Prof. B. Then approx. Ten came."] * 3
