"""How alike two texts are by their words in order (ROUGE-L), and the texts among many that are alike."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Sequence

Words = tuple[str, ...]

ALIKE_AT_LEAST, ALIKE_AT_MOST = 0.75, 0.95
ALIKE_SAMPLE = 150  # rows of train
ALIKE_SHARE = 0.95  # of them have no row that is more alike


def alike_limit(rows: Sequence[Words]) -> float:
    """How alike two rows may be, from 0 to 1: as nearly every row of train is to the one most like it, within bounds."""
    nearest = sorted(most_alike(words, [*rows[:place], *rows[place + 1 :]]) for place, words in enumerate(rows))
    usual = nearest[int(ALIKE_SHARE * (len(nearest) - 1))] if nearest else 0.0
    return min(ALIKE_AT_MOST, max(ALIKE_AT_LEAST, usual))


def most_alike(words: Words, others: Sequence[Words]) -> float:
    """The largest share of words that another text has in the same order, from 0 to 1: 2 LCS(a, b) / (|a| + |b|)."""
    from rapidfuzz.distance import Indel

    return max((Indel.normalized_similarity(words, other) for other in others), default=0.0)


class AlikeIndex:
    """Finds whether a text is more alike than a limit t > 0 to one of the texts in it.

    LCS = c > t (|a| + |b|) / 2 and |b| >= c give c > |a| t / (2 - t): fewer than |a| (2 - 2t) / (2 - t) words of a are not in b. So
    b has one of any so many words of a, and only texts with one of the rarest so many are compared.
    """

    def __init__(self, limit: float) -> None:
        self._limit = limit
        self._texts: list[Words] = []
        self._with = defaultdict[str, list[int]](list)

    def add(self, words: Words) -> None:
        for word in set(words) or {""}:
            self._with[word].append(len(self._texts))
        self._texts.append(words)

    def has(self, words: Words, more: Sequence[Words] = ()) -> bool:
        """Whether one of the texts, or of `more`, is more alike than the limit."""
        rarest = sorted(words or ("",), key=lambda word: len(self._with.get(word, ())))
        enough = math.ceil(len(rarest) * (2 - 2 * self._limit) / (2 - self._limit))
        places = {place for word in set(rarest[:enough]) for place in self._with.get(word, ())}
        return most_alike(words, [*more, *(self._texts[place] for place in places)]) > self._limit
