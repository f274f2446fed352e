"""Whatever the text: nothing of it is lost, no chunk is too long, chunks overlap as asked, and reading never fails."""

from __future__ import annotations

import re
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lastresort.knowledge.chunks import Chunk, ChunkSettings, chunk_document, sections
from lastresort.knowledge.document import Document, normalize
from lastresort.knowledge.formats import READERS

WORDS = st.sampled_from(
    ["a", "word", "Dr.", "end.", "Really?", "“Yes!”", "我们。", "x" * 30, "#", "- item", "1. one", "|a|b|"]
)
LINES = st.lists(WORDS, max_size=12).map(" ".join)
MARKS = st.sampled_from(
    ["", "# Title", "## Part", "### Part", "```", "| a | b |\n|---|---|", "---", "> quoted", "    code"]
)
TEXTS = st.lists(st.one_of(LINES, MARKS), max_size=25).map("\n".join)
SIZES = st.integers(16, 60).flatmap(lambda size: st.tuples(st.just(size), st.integers(0, size // 2)))


def words(text: str) -> int:
    return len(text.split())


def letters(text: str) -> int:
    """A tokenizer that is not additive: pieces of four letters, counted over the joined text."""
    return -(-len(text) // 4)


def covered(document: Document, chunks: tuple[Chunk, ...]) -> set[int]:
    return {place for chunk in chunks for place in range(chunk.start, chunk.end)}


@settings(max_examples=150, deadline=None)
@given(TEXTS, SIZES, st.sampled_from([".md", ".txt"]), st.sampled_from([words, letters]))
def test_chunks_hold_all_text_within_the_limit(text: str, sizes: tuple[int, int], kind: str, count: object) -> None:
    document = READERS[kind](text.encode(), f"a{kind}", "a")
    chunks = chunk_document(document, ChunkSettings(*sizes), count)  # type: ignore[arg-type]
    written = {place for place, mark in enumerate(document.text) if not mark.isspace()}
    assert written <= covered(document, chunks)
    assert all(count(chunk.embedded) <= sizes[0] for chunk in chunks)  # type: ignore[operator]
    assert all(chunk.text == document.text[chunk.start : chunk.end] and chunk.text.strip() for chunk in chunks)
    assert len({chunk.id for chunk in chunks}) == len(chunks)
    assert [c.start for c in chunks] == sorted(c.start for c in chunks)
    assert chunk_document(document, ChunkSettings(*sizes), count) == chunks  # type: ignore[arg-type]


@settings(max_examples=150, deadline=None)
@given(TEXTS, SIZES)
def test_neighbours_in_a_section_share_what_was_asked_for(text: str, sizes: tuple[int, int]) -> None:
    overlap = sizes[1]
    document = READERS[".txt"](text.encode(), "a.txt", "a")
    chunks = chunk_document(document, ChunkSettings(*sizes), words)
    for before, after in pairwise(chunks):
        shared = document.text[after.start : before.end] if after.start < before.end else ""
        assert words(shared) <= overlap
        if overlap:
            earlier = document.text[before.start : after.start].split()
            whole = re.search(r"[.!?。！？][\"'”’)\]]*\s*$|\n\s*$", document.text[before.start : after.start])
            assert words(shared) == overlap or whole or len(earlier) <= 1
        else:
            assert not shared.strip()


BODIES = st.lists(st.sampled_from(["word", "end.", "Really?", "A", "\n\n", "\n- item"]), min_size=1, max_size=60).map(
    lambda parts: f"Text {' '.join(parts)}"
)


@settings(max_examples=60, deadline=None)
@given(st.lists(BODIES, min_size=2, max_size=4), BODIES, st.integers(0, 3))
def test_other_sections_keep_their_chunks_when_one_changes(bodies: list[str], new_body: str, which: int) -> None:
    which %= len(bodies)

    def chunks_with(body: str) -> dict[str, str]:
        written = [body if number == which else old for number, old in enumerate(bodies)]
        text = "\n\n".join(f"## Part {number}\n\n{part}" for number, part in enumerate(written))
        document = READERS[".md"](text.encode(), "a.md", "a")
        found = chunk_document(document, ChunkSettings(20, 5), words)
        return {chunk.id: chunk.embedded for chunk in found if chunk.section != f"a.md#part-{which}"}

    assert chunks_with(bodies[which]) == chunks_with(new_body) != {}


@settings(max_examples=100, deadline=None)
@given(TEXTS)
def test_sections_partition_the_blocks(text: str) -> None:
    document = READERS[".md"](text.encode(), "a.md", "a")
    found = sections(document)
    assert [block for section in found for block in section.blocks] == [b for b in document.blocks if b.start < b.end]
    names = [section.name for section in found]
    assert len(set(names)) == len(names)
    outside = set(range(len(document.text))) - {p for b in document.blocks for p in range(b.start, b.end)}
    assert all(document.text[place].isspace() for place in outside)


TAGS = st.sampled_from(
    """<p> </p> <ul> <li> </ul> <table> <tr> <td> </table> <h1> </h1> <pre> </pre> <script> </script> <nav> <br> <!-- &amp;
    &#x""".split()
)


@settings(max_examples=150, deadline=None)
@given(st.lists(st.one_of(TAGS, WORDS), max_size=30).map(" ".join))
def test_any_page_is_read(page: str) -> None:
    document = READERS[".html"](page.encode(), "a.html", "a")
    inside = {place for block in document.blocks for place in range(block.start, block.end)}
    assert {place for place, mark in enumerate(document.text) if not mark.isspace()} <= inside


@pytest.mark.parametrize("kind", [".md", ".txt", ".html"])
@settings(max_examples=60, deadline=None)
@given(text=st.text(max_size=200))
def test_any_text_is_read(kind: str, text: str) -> None:
    content = text.encode("utf-8", "replace")
    document = READERS[kind](content, f"a{kind}", "a")
    assert document.text == normalize(document.text)
    assert all(0 <= block.start <= block.end <= len(document.text) for block in document.blocks)
