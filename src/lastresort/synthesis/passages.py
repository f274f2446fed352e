"""The passages of a task's documents that a teacher may be shown."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from random import Random

from lastresort.data.held_passages import CutDocuments, HeldPassages, chunks_that_hold
from lastresort.knowledge.chunks import Chunk
from lastresort.types import Example

LEAST_CHARACTERS = 80  # of a passage that says more than a heading


@dataclass(frozen=True, slots=True)
class PassageProtection:
    """What keeps passages of dev and test from a teacher. hidden: passages that are not shown for it. rows: of dev and test, of
    which `unnamed` name no passage. unknown: labels of theirs that name nothing. skipped: files that were not read.
    """

    hidden: int
    rows: int
    unnamed: int
    unknown: tuple[str, ...]
    skipped: tuple[str, ...]


def seed_passages(cut: CutDocuments, held: Sequence[Example], seed: int) -> tuple[tuple[Chunk, ...], PassageProtection]:
    """In random order. held: rows of dev and test as they were read. No passage is shown that one of them names, nor one with
    (nearly) the same text, since a question about it could be an item of theirs in other words, and none that has the input of one
    in it.
    """
    long_enough = [chunk for chunk in cut.chunks if len(chunk.text) >= LEAST_CHARACTERS]
    passages = HeldPassages(cut, held)
    asked = chunks_that_hold((row.input[-1].content for row in held), long_enough)
    hidden = {
        chunk.id
        for chunk, is_held in zip(long_enough, passages.hold(long_enough), strict=True)
        if is_held or chunk.id in asked
    }
    found = [chunk for chunk in long_enough if chunk.id not in hidden]
    protection = PassageProtection(len(hidden), len(held), passages.unnamed, passages.unknown, cut.skipped)
    return tuple(Random(f"synthetic passages:{seed}").sample(found, len(found))), protection


def passages_hash(passages: Sequence[Chunk]) -> str:
    """Changes with what a teacher may be shown; "" without passages."""
    known = "".join(sorted(f"{chunk.id}\0{chunk.embedded}\0" for chunk in passages))
    return hashlib.sha256(known.encode()).hexdigest()[:16] if passages else ""
