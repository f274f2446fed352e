"""Which passages of a task's documents belong to dev and test: a training row made from one could be one of their items in other
words.
"""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import Literal

from lastresort.data.duplicates import near_pairs, normalised, words_of
from lastresort.knowledge.chunks import Chunk, ChunkSettings, CountTokens, chunk_document
from lastresort.knowledge.document import Document
from lastresort.knowledge.labels import Labels
from lastresort.types import Example, SeedPassage

PassageState = Literal["held", "changed", "unchanged"]


@dataclass(frozen=True, slots=True)
class CutDocuments:
    """The documents of a task, cut into chunks. texts: by document. skipped: files that were not read."""

    texts: Mapping[str, str] = field(default_factory=dict)
    chunks: tuple[Chunk, ...] = ()
    skipped: tuple[str, ...] = ()


def cut_documents(documents: Iterable[Document], settings: ChunkSettings, count_tokens: CountTokens) -> CutDocuments:
    documents = tuple(documents)
    chunks = tuple(chunk for document in documents for chunk in chunk_document(document, settings, count_tokens))
    return CutDocuments({document.id: document.text for document in documents}, chunks)


def passage_hash(passage: Chunk) -> str:
    """Sixteen hex digits of its text without headings: the same for texts that are equal when normalised, whatever their name."""
    return hashlib.sha256(normalised(_body(passage)).encode("utf-8", "surrogatepass")).hexdigest()[:16]


class HeldPassages:
    """Those that rows of dev and test name, with the sections below them, and those with the same or nearly the same text.

    unknown: labels of these rows that name nothing. unnamed: rows without a label.
    """

    def __init__(self, cut: CutDocuments, rows: Sequence[Example], made: Sequence[SeedPassage] = ()) -> None:
        """rows: of dev and test, as they were read. made: passages of training rows, whose sections may be gone by now."""
        self._cut = cut
        names = [(chunk.id, chunk.section, chunk.document) for chunk in cut.chunks]
        labels = Labels([*names, *((seed.section, seed.section, seed.document) for seed in made)], "")
        found = {label: labels.sections(label) for row in rows for label in row.passages}
        self.unknown = tuple(sorted(label for label, sections in found.items() if not sections))
        self.unnamed = sum(not row.passages for row in rows)
        named = frozenset(section for sections in found.values() for section in sections)
        self._sections = named | frozenset(_sections_below(cut.chunks, named))

    def hold(self, passages: Sequence[Chunk]) -> list[bool]:
        """Of each, whether dev or test has it, by its name or its text."""
        texts = [_body(chunk) for chunk in self._cut.chunks if chunk.section in self._sections]
        own = [_body(passage) for passage in passages]
        others = [_body(chunk) for chunk in self._cut.chunks] if texts else []  # decide which words are common
        known = [*texts, *own, *others]
        alike = {normalised(known[second]) for _, second in near_pairs(known, border=len(texts))} if texts else set()
        alike |= set(map(normalised, texts))
        return [
            passage.section in self._sections or normalised(text) in alike
            for passage, text in zip(passages, own, strict=True)
        ]

    def states(self, made: Sequence[SeedPassage]) -> list[PassageState]:
        """What became of passages that training rows were made from. held: now of dev or test. changed: not in the documents as it
        was, so that nobody can say where it is now.
        """
        by_hash = {passage_hash(chunk): chunk for chunk in self._cut.chunks}
        by_section: dict[str, list[Chunk]] = defaultdict(list)
        for chunk in self._cut.chunks:
            by_section[chunk.section].append(chunk)
        same = [by_hash.get(seed.text_hash) or self._cut_as_before(seed, by_section[seed.section]) for seed in made]
        now = [by_section[seed.section] if one is None else [one] for seed, one in zip(made, same, strict=True)]
        held = iter(self.hold([chunk for chunks in now for chunk in chunks]))
        found: list[PassageState] = []
        for seed, one, chunks in zip(made, same, now, strict=True):
            is_held = any(list(islice(held, len(chunks)))) or seed.section in self._sections
            found.append("held" if is_held else "changed" if one is None else "unchanged")
        return found

    def _cut_as_before(self, seed: SeedPassage, chunks: Sequence[Chunk]) -> Chunk | None:
        """The same text in its section, where the task cuts its documents otherwise now; None where it is not there."""
        for chunk in chunks[:1]:
            text = self._cut.texts.get(seed.document, "")[seed.start : seed.end]
            whole = Chunk("", seed.document, seed.section, chunk.headings, chunk.context, seed.start, seed.end, text)
            if passage_hash(whole) == seed.text_hash:
                return whole
        return None


def chunks_that_hold(inputs: Iterable[str], chunks: Sequence[Chunk]) -> frozenset[str]:
    """The ids of chunks whose text has one of the inputs in it, word for word but for case and closing marks."""
    texts = [words_of(chunk.text) for chunk in chunks]
    places: dict[str, set[int]] = defaultdict(set)
    for place, words in enumerate(texts):
        for word in words:
            places[word].add(place)
    joined = [f" {' '.join(words)} " for words in texts]
    found: set[int] = set()
    for words in map(words_of, inputs):
        rarest = min((places.get(word, set()) for word in words), key=len, default=set())
        found |= {place for place in rarest - found if f" {' '.join(words)} " in joined[place]}
    return frozenset(chunks[place].id for place in found)


def _body(chunk: Chunk) -> str:
    """The text of a chunk without its headings, which may name an edition."""
    lines = [line for line in chunk.text.splitlines() if line.strip("#=* \t") not in chunk.headings]
    return "\n".join(lines).strip() or chunk.text


def _sections_below(chunks: Sequence[Chunk], sections: frozenset[str]) -> Iterator[str]:
    """All below these by their headings, but not below the title of a document, which is above all of it."""
    headings = {chunk.section: (chunk.document, *chunk.headings) for chunk in chunks}
    outermost: dict[str, set[str]] = defaultdict(set)
    for document, *titles in headings.values():
        outermost[document].update(titles[:1])
    above = {headings[section] for section in sections & headings.keys()}
    above = {path for path in above if len(path) > 2 or (len(path) == 2 and len(outermost[path[0]]) > 1)}
    for section, path in headings.items():
        if any(path[:length] in above for length in range(2, len(path))):
            yield section
