"""Choosing the solved examples that are most like an input."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from lastresort.systems.system import Shot
from lastresort.types import Message


def text_of(turns: Sequence[Message]) -> str:
    return "\n".join(turn.content for turn in turns if turn.role != "system")


class NearestShots:
    """TF-IDF over words and word pairs, cosine similarity: no model, no download, and exact words matter in narrow tasks."""

    def __init__(self, pool: Sequence[Shot]) -> None:
        from sklearn.feature_extraction.text import TfidfVectorizer

        self._pool = tuple(pool)
        self._vectorizer: Any = TfidfVectorizer(
            sublinear_tf=True, ngram_range=(1, 2), strip_accents="unicode", token_pattern=r"(?u)\S+"
        )
        self._rows: Any = self._vectorizer.fit_transform([text_of(shot.input) for shot in pool])

    def choose(self, turns: Sequence[Message], k: int) -> tuple[Shot, ...]:
        """The k nearest, the nearest last (next to the input, where it weighs most). Ties keep the pool's order."""
        import numpy

        query = self._vectorizer.transform([text_of(turns)])
        similarity = (self._rows @ query.T).toarray()[:, 0]
        order = numpy.argsort(-similarity, kind="stable")[:k]
        return tuple(self._pool[i] for i in reversed(order))
