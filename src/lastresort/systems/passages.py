"""How passages stand in a prompt."""

from __future__ import annotations

from collections.abc import Sequence

from lastresort.knowledge.chunks import Chunk


def rendered(passages: Sequence[Chunk]) -> str:
    """Numbered from 1, each under its source and the headings above it, parted by blank lines."""
    return "\n\n".join(f"[{number}] {_title(chunk)}\n{chunk.text.strip()}" for number, chunk in enumerate(passages, 1))


def _title(chunk: Chunk) -> str:
    return ": ".join(part for part in (chunk.document, " > ".join(chunk.headings)) if part)
