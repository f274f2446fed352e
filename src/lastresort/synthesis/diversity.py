"""How different synthetic rows are from each other, by meaning, next to rows of train."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from random import Random
from typing import TYPE_CHECKING

from lastresort.knowledge.embedder import Embedder

if TYPE_CHECKING:
    from lastresort.knowledge.embedder import Vectors

MOST = 500  # rows of each side
LEAST = 10


@dataclass(frozen=True, slots=True)
class Diversity:
    """Mean cosine distances to the nearest other row. rows: among n synthetic rows. train: among as many of train. apart: from the
    one to the other.
    """

    n: int
    rows: float
    train: float
    apart: float
    embedder: str


def diversity(embedder: Embedder, rows: Sequence[str], train: Sequence[str], random: Random) -> Diversity | None:
    """None for too few rows. Both sides are as large, since in a larger set the nearest row is nearer."""
    n = min(len(rows), len(train), MOST)
    if n < LEAST:
        return None
    made, known = (embedder.embed_passages(random.sample(list(side), n)) for side in (rows, train))
    return Diversity(n, _nearest(made, made), _nearest(known, known), _nearest(made, known, same=False), embedder.name)


def _nearest(vectors: Vectors, others: Vectors, *, same: bool = True) -> float:
    """Vectors: of length 1. same: both are the same rows, none of which is its own nearest."""
    import numpy as np

    similar = vectors @ others.T
    if same:
        np.fill_diagonal(similar, -1.0)
    return float(1.0 - similar.max(axis=1).mean())
