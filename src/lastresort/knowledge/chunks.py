"""Chunks: the pieces of documents that are embedded, searched and put into a prompt."""

from __future__ import annotations

from bisect import bisect_left
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from lastresort.errors import ContractError
from lastresort.knowledge.document import Block, Document
from lastresort.knowledge.pieces import Piece, cut, starts
from lastresort.knowledge.sections import sections

CHUNKER = 1  # raised whenever the same document would be cut otherwise
SMALLEST_TOKENS = 16
CountTokens = Callable[[str], int]


@dataclass(frozen=True, slots=True)
class ChunkSettings:
    """size_tokens: the most that is embedded at once, headings included. overlap_tokens: how much of a chunk the next repeats."""

    size_tokens: int = 250
    overlap_tokens: int = 30

    def __post_init__(self) -> None:
        if self.size_tokens < SMALLEST_TOKENS or not 0 <= self.overlap_tokens <= self.size_tokens // 2:
            raise ContractError(
                f"chunks of {self.size_tokens} tokens with {self.overlap_tokens} of overlap",
                expected=f"at least {SMALLEST_TOKENS} tokens, at most half of them overlap",
            )


@dataclass(frozen=True, slots=True)
class Chunk:
    """A stretch of a document, and where it stands.

    id: `document#section:2` for the second chunk of a section, `document#2` before the first heading. section: the same
    without the number. context: the headings above, as they are embedded before the text, cut where they are very long.
    start, end: characters of the document's text; text is text[start:end].
    """

    id: str
    document: str
    section: str
    headings: tuple[str, ...]
    context: str
    start: int
    end: int
    text: str

    @property
    def embedded(self) -> str:
        """What the embedder and the full-text index see."""
        return f"{self.context}\n{self.text}" if self.context else self.text


def chunk_document(document: Document, settings: ChunkSettings, count_tokens: CountTokens) -> tuple[Chunk, ...]:
    """The chunks of a document in their order; every character that is not white space is in at least one of them.

    No chunk reaches over a heading, so that a change in one section leaves those of the others as they are, and overlap
    is within a section. A block (paragraph, list, code, table) is kept whole where it fits beside the overlap, else cut at
    blank lines, lines, sentences, at last in the middle. The overlap is the longest run of whole sentences or lines of at
    most overlap_tokens; of words, where the last sentence is longer.
    count_tokens: of the embedder, without its special tokens. No chunk's `embedded` has more than size_tokens, unless a single
    character has.
    """
    chunks: list[Chunk] = []
    for section in sections(document):
        context = _context(section.headings, settings.size_tokens // 4, count_tokens)
        name = f"{document.id}#{section.name}" if section.name else document.id
        spans = _pack(document.text, section.blocks, settings, count_tokens, f"{context}\n" if context else "")
        for number, (start, end) in enumerate(spans, start=1):
            chunk_id = f"{name}:{number}" if section.name else f"{name}#{number}"
            text = document.text[start:end]
            chunks.append(Chunk(chunk_id, document.id, name, section.headings, context, start, end, text))
    return tuple(chunks)


def _context(headings: Sequence[str], most_tokens: int, count_tokens: CountTokens) -> str:
    """The headings joined by >, without the outer ones and then without words where they are too many."""
    titles = list(headings)
    while titles and count_tokens(" > ".join(titles)) > most_tokens:
        words = titles[0].split()
        titles = titles[1:] or ([" ".join(words[:-1])] if len(words) > 1 else [])
    return " > ".join(titles)


def _pack(
    text: str, blocks: Sequence[Block], settings: ChunkSettings, count_tokens: CountTokens, lead: str
) -> list[tuple[int, int]]:
    """Spans filled with whole pieces, each with as many as fit after `lead`; each but the first begins with its overlap."""
    limit, overlap = settings.size_tokens, settings.overlap_tokens
    waiting = deque(Piece(block.start, block.end, block.kind) for block in blocks if block.start < block.end)
    spans: list[tuple[int, int]] = []
    start = end = -1
    only_headings = False
    while waiting:
        piece = waiting.popleft()
        if start >= 0 and count_tokens(lead + text[start : piece.end]) <= limit:
            end, only_headings = piece.end, only_headings and piece.kind == "heading"
            continue
        too_long = count_tokens(lead + text[piece.start : piece.end]) > limit - overlap
        # What follows a heading is cut rather than the heading left alone.
        may_join = only_headings and any(map(str.isspace, text[piece.start : piece.end]))
        if (too_long and piece.end - piece.start > 1) or may_join:
            waiting.extendleft(reversed(cut(text, piece)))
            continue
        begin = piece.start
        if start >= 0:
            spans.append((start, end))
            shared = _overlap(text, start, end, overlap, count_tokens)
            if shared is not None and count_tokens(lead + text[shared : piece.end]) <= limit:
                begin = shared
        start, end, only_headings = begin, piece.end, piece.kind == "heading"
    if start >= 0:
        spans.append((start, end))
    return spans


def _overlap(text: str, start: int, end: int, most: int, count_tokens: CountTokens) -> int | None:
    """Where in the chunk text[start:end] the next one begins; None where not even its last word may be repeated."""
    for places in starts(text, start, end):
        first = bisect_left(places, True, key=lambda place: count_tokens(text[place:end]) <= most)
        if first < len(places):
            return places[first]
    return None
