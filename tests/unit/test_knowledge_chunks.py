"""Chunks follow the structure of a document, and keep their names while the rest of it changes."""

from __future__ import annotations

from itertools import pairwise

import pytest

from knowledge_support import markdown
from lastresort.errors import ContractError
from lastresort.knowledge.chunks import Chunk, ChunkSettings, TextPiece, chunk_document, split_piece
from lastresort.knowledge.document import Document, text_blocks


def words(text: str) -> int:
    return len(text.split())


def chunked(document: Document, size: int = 20, overlap: int = 5) -> tuple[Chunk, ...]:
    return chunk_document(document, ChunkSettings(size, overlap), words)


def plain(text: str) -> Document:
    return Document("a.txt", text, text_blocks(text))


HANDBOOK = """# Handbook

Who we are.

## Returns

You may return a lamp within thirty days. We pay the parcel. Ask the desk for a label before you send it.

### Damaged goods

Send a picture first.

## Empty

## Repairs

Two weeks.
"""


def test_ids_say_document_section_and_number() -> None:
    chunks = chunked(markdown("handbook.md", HANDBOOK))
    assert [(c.id, c.context) for c in chunks] == [
        ("handbook.md#handbook:1", "Handbook"),
        ("handbook.md#returns:1", "Handbook > Returns"),
        ("handbook.md#returns:2", "Handbook > Returns"),
        ("handbook.md#returns/damaged-goods:1", "Returns > Damaged goods"),
        ("handbook.md#repairs:1", "Handbook > Repairs"),
    ]
    assert chunks[1].section == "handbook.md#returns"
    assert chunks[3].headings == ("Handbook", "Returns", "Damaged goods")
    assert chunks[4].text == "## Empty\n\n## Repairs\n\nTwo weeks."
    assert chunks[4].embedded == "Handbook > Repairs\n## Empty\n\n## Repairs\n\nTwo weeks."


def test_a_change_in_one_section_leaves_the_others_as_they_are() -> None:
    before = {c.id: c.embedded for c in chunked(markdown("handbook.md", HANDBOOK))}
    changed = HANDBOOK.replace("Who we are.", "## News\n\nWe moved. " * 3).replace("Two weeks.", "Three weeks.")
    after = {c.id: c.embedded for c in chunked(markdown("handbook.md", changed))}
    same = {name for name in before if after.get(name) == before[name]}
    assert same == {"handbook.md#returns:1", "handbook.md#returns:2", "handbook.md#returns/damaged-goods:1"}


def test_text_without_headings_is_numbered() -> None:
    text = "\n\n".join(f"Paragraph {number} has a few words." for number in range(6))
    assert [c.id for c in chunked(plain(text), 16, 0)] == ["a.txt#1", "a.txt#2", "a.txt#3"]


def test_blocks_that_fit_are_kept_whole() -> None:
    text = "Some words to begin with here.\n\n- one two\n- three four\n- five six\n\n```\na b c d\n\ne f g h\n```\n\nThe end."
    found = [c.text for c in chunked(plain(text), 16, 0)]
    assert found == [
        "Some words to begin with here.\n\n- one two\n- three four\n- five six",
        "```\na b c d\n\ne f g h\n```\n\nThe end.",
    ]


def test_long_blocks_are_cut_at_lines_and_sentences() -> None:
    rows = "\n".join(f"| row {number} | cell |" for number in range(8))
    assert all(line.startswith("| row") for c in chunked(plain(rows), 16, 0) for line in c.text.split("\n"))
    text = "Dr. Smith came home at 5 p.m. today. He saw e.g. Mr. Jones! Then “all was well.” They 2 ate."
    pieces = split_piece(text, TextPiece(0, len(text), "paragraph"))
    assert [text[p.start : p.end] for p in pieces] == [
        "Dr. Smith came home at 5 p.m. today.",
        "He saw e.g. Mr. Jones!",
        "Then “all was well.”",
        "They 2 ate.",
    ]
    assert [p.end - p.start for p in split_piece("我们走。好的！", TextPiece(0, 7, "paragraph"))] == [4, 3]


def test_overlap_is_whole_sentences_where_they_are_short_enough() -> None:
    text = "A1 a a a a. B1 b b. C1 c. D1 d d d d d d d d. E1 e e e."
    first, second = chunked(plain(text), 16, 5)[:2]
    assert first.text == "A1 a a a a. B1 b b. C1 c."
    assert second.text.startswith("B1 b b. C1 c. D1")
    long = " ".join(f"w{number}" for number in range(40))
    chunks = chunked(plain(long), 16, 5)
    for before, after in pairwise(chunks):
        assert before.text.split()[-5:] == after.text.split()[:5]


def test_a_heading_is_not_left_alone() -> None:
    text = "## Title of it\n\n" + " ".join(f"w{number}" for number in range(14))
    first = chunked(markdown("a.md", text), 20, 5)[0]
    assert "w0" in first.text


def test_very_long_headings_are_cut_in_what_is_embedded() -> None:
    document = markdown("a.md", "# Outer\n\n## " + "long " * 30 + "\n\ntext")
    chunks = chunked(document, 20, 5)
    assert all(words(c.embedded) <= 20 for c in chunks)
    assert chunks[-1].context == "long " * 4 + "long"
    assert chunks[-1].headings == ("Outer", ("long " * 30).strip())


def test_settings_that_cannot_be_are_refused() -> None:
    with pytest.raises(ContractError, match="chunks of 100 tokens with 51 of overlap"):
        ChunkSettings(100, 51)
    with pytest.raises(ContractError):
        ChunkSettings(8, 0)
