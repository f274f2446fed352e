"""Cut documents into chunks, the pieces that are embedded, searched and put into a prompt.

Each section has a name that stays the same while the rest of the document changes. A text that is too long is split at the
strongest boundary inside.
"""

from __future__ import annotations

import re
import unicodedata
from bisect import bisect_left
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial

from lastresort.errors import ContractError
from lastresort.knowledge.document import Block, BlockKind, Document

LANGUAGES = (
    "Arabic Danish Dutch English Finnish French German Greek Hungarian Italian Norwegian Portuguese Romanian Russian Spanish "
    "Swedish Tamil Turkish none"
).split()

CHUNKER = 1  # raised whenever the same document would be cut differently
SMALLEST_TOKENS = 16
CountTokens = Callable[[str], int]
_BLANK_LINE = re.compile(r"\n[^\S\n]*\n\s*")
_GAP = re.compile(r"\s+")
_FIRST_REACH = 256
_LINE_END = re.compile(r"\n+")
# A mark that ends a sentence, what may close it, and the gap; full-width marks need none.
_SENTENCE_END = re.compile(r"[.!?…][\"'”’)\]]*(?P<gap>\s+)(?=[^\sa-z,;:])|[。！？][」』”’）]*(?P<none>\s*)(?=\S)")
_ABBREVIATED = re.compile(r"\b(?:[A-Z]|Dr|Mr|Mrs|Ms|Prof|St|No|Nr|Fig|Eq|Art|vs|etc|e\.g|i\.e|cf|approx|z\.B|d\.h)\.$")
_WORDS_A_TOKEN = (
    8  # no tokenizer puts so many into one: a title's first words, so that not each of its 100,000 is tried
)
_LONGEST_ABBREVIATION = 7  # "approx." with its point


@dataclass(frozen=True, slots=True)
class TextPiece:
    """text[start:end] of a document. level: the kind of boundary to split at next. Stronger boundaries are not left inside."""

    start: int
    end: int
    kind: BlockKind
    level: int = 0


def split_piece(text: str, piece: TextPiece) -> tuple[TextPiece, ...]:
    """Split at the strongest boundaries inside: blank lines, lines (not in a paragraph), sentences, or else the middle.

    Returns at least two pieces, unless it is a single character. White space between pieces belongs to none of them.
    """
    lines = partial(_spans, gap=_LINE_END)
    boundaries = (partial(_spans, gap=_BLANK_LINE), lines, _at_sentences)
    for level in range(piece.level, len(boundaries)):
        if boundaries[level] is lines and piece.kind == "paragraph":
            continue
        spans = list(boundaries[level](text, piece.start, piece.end))
        if len(spans) > 1:
            return tuple(TextPiece(start, end, piece.kind, level + 1) for start, end in spans)
    spans = _in_the_middle(text, piece.start, piece.end)
    return tuple(TextPiece(start, end, piece.kind, len(boundaries)) for start, end in spans)


def overlap_starts(text: str, start: int, end: int) -> tuple[list[int], list[int]]:
    """The positions inside (start, end) where an overlap may begin: sentences and lines, and words."""
    sentences = {first for first, _ in _at_sentences(text, start, end)}
    lines = {first for first, _ in _spans(text, start, end, _LINE_END)}
    words = [start + match.start() for match in re.finditer(r"\S+", text[start:end])]
    return sorted((sentences | lines) - {start}), [word for word in words if word > start]


def _at_sentences(text: str, start: int, end: int) -> Iterator[tuple[int, int]]:
    begin = start
    for match in _SENTENCE_END.finditer(text, start, end):
        name = "gap" if match["gap"] is not None else "none"
        dot = match.start() + 1
        if not _ABBREVIATED.search(text, max(begin, dot - _LONGEST_ABBREVIATION), dot):
            yield begin, match.start(name)
            begin = match.end(name)
    if text[begin:end].strip():
        yield begin, end


def _in_the_middle(text: str, start: int, end: int) -> list[tuple[int, int]]:
    """Split at the white space nearest the middle, or inside the word if there is none."""
    if end - start < 2:
        return [(start, end)]
    middle, reach = (start + end) // 2, _FIRST_REACH
    while (
        True
    ):  # around the middle, farther each time: to look at all gaps of a long text for each of its splits takes minutes
        first, last = max(start, middle - reach), min(end, middle + reach)
        begun = (gap.start() for gap in _GAP.finditer(text, first, last) if gap.start() > first)
        found = (_GAP.match(text, begin, end) for begin in begun)
        gaps = [gap for gap in found if gap is not None and gap.end() < end and abs(gap.start() - middle) < reach]
        if gaps:
            gap = min(gaps, key=lambda gap: abs(gap.start() - middle))
            return [(start, gap.start()), (gap.end(), end)]
        if (first, last) == (start, end):
            return [(start, middle), (middle, end)]
        reach *= 8


def _spans(text: str, start: int, end: int, gap: re.Pattern[str]) -> Iterator[tuple[int, int]]:
    begin = start
    for match in gap.finditer(text, start, end):
        if text[begin : match.start()].strip():
            yield begin, match.start()
        begin = match.end()
    if text[begin:end].strip():
        yield begin, end


@dataclass(frozen=True, slots=True)
class HeadingSection:
    """The text between one heading and the next.

    name: the key of its heading, else the slugs of the headings above it and of its own, joined by /. "" before the first
    heading. headings: their titles, the outermost first. blocks: include its own heading, and headings before it without text.
    """

    name: str
    headings: tuple[str, ...]
    blocks: tuple[Block, ...]


def sections(document: Document) -> tuple[HeadingSection, ...]:
    """All blocks of the document in order, each in one section. A repeated name gets -2, -3, …

    The document's own title is in headings, but not in names, so the name is `handbook.md#returns`, as one would expect.
    """
    found: list[HeadingSection] = []
    taken: dict[str, int] = {}
    path: list[Block] = []
    blocks: list[Block] = []
    only_headings = True  # of blocks, counted on the way: a page may be 100,000 headings

    def close() -> None:
        if any(block.start < block.end for block in blocks):
            name = _unique(_name(path, document.title), taken)
            found.append(HeadingSection(name, tuple(block.title for block in path if block.title), tuple(blocks)))
            blocks.clear()

    for block in document.blocks:
        if block.kind == "heading":
            if not only_headings:
                close()
                only_headings = not blocks
            path = [above for above in path if above.level < block.level] + [block]
        only_headings = only_headings and block.kind == "heading"
        blocks.append(block)
    close()
    return tuple(found)


def slug(title: str) -> str:
    """The title as in a link to a heading: lower case, words joined by -, only letters, digits, - and _.

    A title of digits becomes section-3, because `document#3` is the third chunk of a document without headings.
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


def _unique(name: str, taken: dict[str, int]) -> str:
    """taken: of each name the number up to which it is taken, so that the next free one is found at once."""
    candidate, number = name, taken.get(name, 0)
    while number and candidate in taken:
        number += 1
        candidate = f"{name}-{number}"
    taken[name] = max(number, 1)
    taken.setdefault(candidate, 1)
    return candidate


@dataclass(frozen=True, slots=True)
class ChunkSettings:
    """size_tokens: longest text to embed, with its headings. overlap_tokens: how much of a chunk the next one repeats."""

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
    """A piece of a document, and where it is.

    id: `document#section:2` for the second chunk of a section, `document#2` before the first heading. section: the same
    without the number. context: the headings above, embedded before the text, shortened if they are very long.
    start, end: characters of the document's text. text is text[start:end].
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
    """The chunks of a document in order. Every character that is not white space is in at least one of them.

    No chunk crosses a heading, so a change in one section leaves the chunks of the others alone. Overlap stays within a
    section. A block (paragraph, list, code, table) stays whole if it fits next to the overlap, else it is split at blank
    lines, lines, sentences, or in the middle. The overlap is the longest run of whole sentences or lines of at most
    overlap_tokens, or of words if the last sentence is longer.
    count_tokens: the embedder's, without special tokens. No chunk's `embedded` exceeds size_tokens, unless a single character
    does.
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


def _context(headings: Sequence[str], max_tokens: int, count_tokens: CountTokens) -> str:
    """The headings joined by >. If they are too long, outer headings are dropped first, then words at the end."""
    titles = [_begin(title, _WORDS_A_TOKEN * max_tokens) for title in headings]
    while titles and count_tokens(" > ".join(titles)) > max_tokens:
        words = titles[0].split()
        titles = titles[1:] or ([" ".join(words[:-1])] if len(words) > 1 else [])
    return " > ".join(titles)


def _begin(title: str, words: int) -> str:
    return title if len(title) <= words else " ".join(title.split(maxsplit=words)[:words])


def _pack(
    text: str, blocks: Sequence[Block], settings: ChunkSettings, count_tokens: CountTokens, lead: str
) -> list[tuple[int, int]]:
    """Spans of whole pieces, each as long as fits after `lead`. Each but the first begins with its overlap."""
    limit, overlap = settings.size_tokens, settings.overlap_tokens
    waiting = deque(TextPiece(block.start, block.end, block.kind) for block in blocks if block.start < block.end)
    spans: list[tuple[int, int]] = []
    start = end = -1
    only_headings = False
    while waiting:
        piece = waiting.popleft()
        if start >= 0 and count_tokens(lead + text[start : piece.end]) <= limit:
            end, only_headings = piece.end, only_headings and piece.kind == "heading"
            continue
        too_long = count_tokens(lead + text[piece.start : piece.end]) > limit - overlap
        # Split what follows a heading rather than leave the heading alone.
        may_join = only_headings and any(map(str.isspace, text[piece.start : piece.end]))
        if (too_long and piece.end - piece.start > 1) or may_join:
            waiting.extendleft(reversed(split_piece(text, piece)))
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
    """Where in the chunk text[start:end] the next one begins. None if not even the last word fits into the overlap."""
    for places in overlap_starts(text, start, end):
        first = bisect_left(places, True, key=lambda place: count_tokens(text[place:end]) <= most)
        if first < len(places):
            return places[first]
    return None
