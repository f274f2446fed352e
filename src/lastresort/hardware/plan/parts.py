"""A forecast's parts: each with the formula that gave it, in words."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

Kind = Literal[
    "weights", "adapters", "gradients", "optimizer", "activations", "buffers", "logits", "cache", "context", "server"
]


@dataclass(frozen=True, slots=True)
class Part:
    """per_card_bytes: on each card. formula: how it comes about. assumption: what it rests on beside the shape, "" if nothing."""

    kind: Kind
    name: str
    per_card_bytes: int
    formula: str
    assumption: str = ""


@dataclass(frozen=True, slots=True)
class Memory:
    """The peak of one kind of work on `cards` equal cards."""

    parts: tuple[Part, ...]
    cards: int = 1

    @property
    def per_card_bytes(self) -> int:
        return sum(part.per_card_bytes for part in self.parts)

    @property
    def total_bytes(self) -> int:
        """Summed over the cards."""
        return self.cards * self.per_card_bytes

    def of(self, *kinds: Kind) -> int:
        """Bytes of these kinds on each card."""
        return sum(part.per_card_bytes for part in self.parts if part.kind in kinds)


def memory_of(parts: Iterable[Part], cards: int) -> Memory:
    """Parts of no bytes left out."""
    return Memory(tuple(part for part in parts if part.per_card_bytes > 0), cards)
