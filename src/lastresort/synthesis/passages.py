"""The passages of a task's documents that a teacher may be shown."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from random import Random

from lastresort.knowledge.chunks import Chunk, ChunkSettings, chunk_document, is_named, named_sections
from lastresort.knowledge.document import Document
from lastresort.models.protocol import estimated_tokens

LEAST_CHARACTERS = 80  # of a passage that says more than a heading


def seed_passages(
    documents: Iterable[Document], settings: ChunkSettings, held: Iterable[str], seed: int
) -> tuple[Chunk, ...]:
    """In random order. held: names of passages, as rows have them, none of which is shown: a question about one of them could be
    a held-out item in other words. A whole section or document is left out where a part of it is named.
    """
    names = named_sections(held)
    found = [
        chunk
        for document in documents
        for chunk in chunk_document(document, settings, estimated_tokens)
        if len(chunk.text) >= LEAST_CHARACTERS and not is_named(chunk.section, names)
    ]
    return tuple(Random(f"synthetic passages:{seed}").sample(found, len(found)))


def passages_hash(passages: Sequence[Chunk]) -> str:
    """Changes with what a teacher may be shown; "" without passages."""
    known = "".join(sorted(f"{chunk.id}\0{chunk.embedded}\0" for chunk in passages))
    return hashlib.sha256(known.encode()).hexdigest()[:16] if passages else ""
