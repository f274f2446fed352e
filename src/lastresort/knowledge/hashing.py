"""An embedder without a model: words hashed into a few dimensions. For tests and dry runs; it knows no meaning."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from lastresort.knowledge.embedder import OnDone, Vectors

_WORD = re.compile(r"\w+|[^\w\s]")


class HashingEmbedder:
    """Each word adds or takes 1 at a place that its hash decides: texts that share words are near each other.

    Source: Weinberger et al. 2009, Feature Hashing for Large Scale Multitask Learning, eq. 2.
    """

    name = "hashing"

    def __init__(self, dimensions: int = 64, most_tokens: int = 256) -> None:
        self.dimensions, self.most_tokens = dimensions, most_tokens
        self.fingerprint = f"hashing-{dimensions}-{most_tokens}"

    def count_tokens(self, text: str) -> int:
        return len(_WORD.findall(text))

    def embed_passages(self, texts: Sequence[str], on_done: OnDone | None = None) -> Vectors:
        import numpy as np

        vectors = np.zeros((len(texts), self.dimensions), np.float32)
        for row, text in enumerate(texts):
            for word in _WORD.findall(text.casefold())[: self.most_tokens]:
                digest = int.from_bytes(hashlib.blake2b(word.encode(), digest_size=8).digest(), "big")
                vectors[row, digest % self.dimensions] += 1.0 if digest >> 63 else -1.0
            if not vectors[row].any():
                vectors[row, 0] = 1.0
            if on_done is not None:
                on_done(1)
        vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
        return vectors

    def embed_questions(self, texts: Sequence[str]) -> Vectors:
        return self.embed_passages(texts)
