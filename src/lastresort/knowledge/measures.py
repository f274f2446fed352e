"""How good a ranking is, where the right passages are known.

A passage that is wanted is a set of names, any of which is a hit: a label may name a section that was cut into chunks. Only the
first hit of a passage counts. All values lie in [0, 1].
"""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence

from lastresort.errors import ContractError

Wanted = Sequence[Collection[str]]


def recall_at(k: int, ranking: Sequence[str], wanted: Wanted) -> float:
    """The share of the wanted passages with a hit among the first k.

    recall@k = |found among the first k| / |wanted|
    Source: Manning, Raghavan & Schütze 2008, Introduction to Information Retrieval, section 8.4.
    """
    return sum(_first_hits(ranking[: _checked(k)], wanted)) / _number(wanted)


def reciprocal_rank(ranking: Sequence[str], wanted: Wanted) -> float:
    """1 / rank of the first hit, 0 without one; its mean over questions is the MRR.

    Source: Voorhees 1999, The TREC-8 Question Answering Track Report.
    """
    _number(wanted)
    return next((1.0 / rank for rank, hits in enumerate(_first_hits(ranking, wanted), start=1) if hits), 0.0)


def ndcg_at(k: int, ranking: Sequence[str], wanted: Wanted) -> float:
    """Hits weighted by their rank, as a share of the best that k places allow.

    DCG@k = sum over ranks i <= k of g_i / log2(i + 1), g_i = 1 where the place holds a passage's first hit; nDCG@k = DCG@k
    over that of a ranking whose first min(k, |wanted|) places are hits. A chunk that is a first hit of two passages counts
    once, so that the best possible may be below 1.
    Source: Järvelin & Kekäläinen 2002, Cumulated gain-based evaluation of IR techniques, with binary gains.
    """
    hits = _first_hits(ranking[: _checked(k)], wanted)
    gained = sum(1.0 / math.log2(rank + 1) for rank, hit in enumerate(hits, start=1) if hit)
    return gained / sum(1.0 / math.log2(rank + 1) for rank in range(1, min(k, _number(wanted)) + 1))


def _first_hits(ranking: Sequence[str], wanted: Wanted) -> list[int]:
    """For each place, how many wanted passages have their first hit there."""
    missing = [frozenset(passage) for passage in wanted]
    hits = []
    for name in ranking:
        left = [passage for passage in missing if name not in passage]
        hits.append(len(missing) - len(left))
        missing = left
    return hits


def _number(wanted: Wanted) -> int:
    if not wanted or not all(wanted):
        raise ContractError("a question without wanted passages", expected="at least one name for each")
    return len(wanted)


def _checked(k: int) -> int:
    if k < 1:
        raise ContractError(f"k is {k}", expected="at least 1")
    return k
