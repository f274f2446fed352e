"""Cutting a stretch of text that is too long into smaller ones, at the strongest boundary it has."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from lastresort.knowledge.document import BlockKind

_BLANK_LINE = re.compile(r"\n[^\S\n]*\n\s*")
_LINE_END = re.compile(r"\n+")
# A mark that ends a sentence, what may close it, and the gap; full-width marks need none.
_SENTENCE_END = re.compile(r"[.!?…][\"'”’)\]]*(?P<gap>\s+)(?=[^\sa-z,;:])|[。！？][」』”’）]*(?P<none>\s*)(?=\S)")
_ABBREVIATED = re.compile(r"\b(?:[A-Z]|Dr|Mr|Mrs|Ms|Prof|St|No|Nr|Fig|Eq|Art|vs|etc|e\.g|i\.e|cf|approx|z\.B|d\.h)\.$")


@dataclass(frozen=True, slots=True)
class Piece:
    """text[start:end] of a document. level: how far it has been cut; the boundaries above that level it no longer has."""

    start: int
    end: int
    kind: BlockKind
    level: int = 0


def cut(text: str, piece: Piece) -> tuple[Piece, ...]:
    """The pieces between the strongest boundaries inside: blank lines, lines (but in a paragraph), sentences, else the middle.

    Two pieces at least, unless the piece is a single character. White space between pieces belongs to none of them.
    """
    boundaries = (_at_blank_lines, _at_lines, _at_sentences)
    for level in range(piece.level, len(boundaries)):
        if boundaries[level] is _at_lines and piece.kind == "paragraph":
            continue
        spans = list(boundaries[level](text, piece.start, piece.end))
        if len(spans) > 1:
            return tuple(Piece(start, end, piece.kind, level + 1) for start, end in spans)
    spans = _in_the_middle(text, piece.start, piece.end)
    return tuple(Piece(start, end, piece.kind, len(boundaries)) for start, end in spans)


def starts(text: str, start: int, end: int) -> tuple[list[int], list[int]]:
    """Where sentences and lines, and where words begin inside (start, end): the places at which an overlap may begin."""
    sentences = {first for first, _ in _at_sentences(text, start, end)}
    lines = {first for first, _ in _spans(text, start, end, _LINE_END)}
    words = [start + match.start() for match in re.finditer(r"\S+", text[start:end])]
    return sorted((sentences | lines) - {start}), [word for word in words if word > start]


def _at_blank_lines(text: str, start: int, end: int) -> Iterator[tuple[int, int]]:
    return _spans(text, start, end, _BLANK_LINE)


def _at_lines(text: str, start: int, end: int) -> Iterator[tuple[int, int]]:
    return _spans(text, start, end, _LINE_END)


def _at_sentences(text: str, start: int, end: int) -> Iterator[tuple[int, int]]:
    begin = start
    for match in _SENTENCE_END.finditer(text, start, end):
        name = "gap" if match["gap"] is not None else "none"
        if not _ABBREVIATED.search(text, begin, match.start() + 1):
            yield begin, match.start(name)
            begin = match.end(name)
    if text[begin:end].strip():
        yield begin, end


def _in_the_middle(text: str, start: int, end: int) -> list[tuple[int, int]]:
    """At the white space nearest the middle; inside a word that has none."""
    if end - start < 2:
        return [(start, end)]
    middle = (start + end) // 2
    gaps = [match for match in re.finditer(r"\s+", text[start:end]) if match.start() > 0 and start + match.end() < end]
    if not gaps:
        return [(start, middle), (middle, end)]
    gap = min(gaps, key=lambda match: abs(start + match.start() - middle))
    return [(start, start + gap.start()), (start + gap.end(), end)]


def _spans(text: str, start: int, end: int, gap: re.Pattern[str]) -> Iterator[tuple[int, int]]:
    begin = start
    for match in gap.finditer(text, start, end):
        if text[begin : match.start()].strip():
            yield begin, match.start()
        begin = match.end()
    if text[begin:end].strip():
        yield begin, end
