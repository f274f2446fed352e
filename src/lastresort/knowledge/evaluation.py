"""How well a search finds the relevant passages, measured without any answers.

A relevant passage is a set of chunk names, any of which is a hit, because a label may name a section that was cut into chunks.
Only the first hit of a passage counts. All values are in [0, 1].
"""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from statistics import fmean

from lastresort.errors import ContractError, DataError
from lastresort.knowledge.labels import Labels
from lastresort.knowledge.search import Mode, search_all
from lastresort.knowledge.sentence_models import Reranker
from lastresort.knowledge.store import Store

Relevant = Sequence[Collection[str]]
CUTOFFS = (1, 3, 5, 10)


def recall_at(k: int, ranking: Sequence[str], relevant: Relevant) -> float:
    """The share of relevant passages with a hit among the first k.

    recall@k = |hits among the first k| / |relevant|
    Source: Manning, Raghavan & Schütze 2008, Introduction to Information Retrieval, section 8.4.
    """
    return sum(_first_hits(ranking[: _checked_k(k)], relevant)) / _count(relevant)


def reciprocal_rank(ranking: Sequence[str], relevant: Relevant) -> float:
    """1 / rank of the first hit, 0 without one. The mean over questions is the MRR.

    Source: Voorhees 1999, The TREC-8 Question Answering Track Report.
    """
    _count(relevant)
    return next((1.0 / rank for rank, hits in enumerate(_first_hits(ranking, relevant), start=1) if hits), 0.0)


def ndcg_at(k: int, ranking: Sequence[str], relevant: Relevant) -> float:
    """Hits weighted by rank, as a share of the best possible ranking.

    DCG@k = sum over ranks i <= k of g_i / log2(i + 1), with g_i = 1 if rank i holds a passage's first hit. nDCG@k is DCG@k
    divided by that of a ranking whose first min(k, |relevant|) ranks are hits. A chunk that is the first hit of two passages
    counts once, so the maximum may be below 1.
    Source: Järvelin & Kekäläinen 2002, Cumulated gain-based evaluation of IR techniques, with binary gains.
    """
    hits = _first_hits(ranking[: _checked_k(k)], relevant)
    gained = sum(1.0 / math.log2(rank + 1) for rank, hit in enumerate(hits, start=1) if hit)
    return gained / sum(1.0 / math.log2(rank + 1) for rank in range(1, min(k, _count(relevant)) + 1))


def _first_hits(ranking: Sequence[str], relevant: Relevant) -> list[int]:
    """For each rank, how many relevant passages have their first hit there."""
    missing = [frozenset(passage) for passage in relevant]
    hits = []
    for name in ranking:
        left = [passage for passage in missing if name not in passage]
        hits.append(len(missing) - len(left))
        missing = left
    return hits


def _count(relevant: Relevant) -> int:
    if not relevant or not all(relevant):
        raise ContractError("a question without relevant passages", expected="at least one name for each")
    return len(relevant)


def _checked_k(k: int) -> int:
    if k < 1:
        raise ContractError(f"k is {k}", expected="at least 1")
    return k


@dataclass(frozen=True, slots=True)
class RetrievalScores:
    """Means over questions. questions: how many have labels. unlabelled: how many have none and were left out.

    recall, ndcg: by cutoff. mrr: up to the largest cutoff.
    """

    questions: int
    unlabelled: int
    recall: dict[int, float]
    ndcg: dict[int, float]
    mrr: float


def measure(
    store: Store,
    questions: Sequence[str],
    passages: Sequence[Sequence[str]],
    *,
    mode: Mode = "hybrid",
    reranker: Reranker | None = None,
    cutoffs: Sequence[int] = CUTOFFS,
) -> RetrievalScores:
    """Search for every question with labelled passages.

    passages: for each question, the labels of its relevant passages (see `Labels`).
    Raises DataError for a label that names nothing, or if no question has a label.
    """
    names = Labels.of_store(store)
    labelled = [
        (question, names.resolve(labels)) for question, labels in zip(questions, passages, strict=True) if labels
    ]
    if not labelled:
        raise DataError("no question with known passages", expected="`passages` in some rows", remedy="Add some.")
    found = search_all(store, [question for question, _ in labelled], k=max(cutoffs), mode=mode, reranker=reranker)
    rankings = [[hit.chunk.id for hit in hits] for hits in found]
    scored = [(ranking, relevant) for ranking, (_, relevant) in zip(rankings, labelled, strict=True)]
    return RetrievalScores(
        questions=len(labelled),
        unlabelled=len(questions) - len(labelled),
        recall={k: fmean(recall_at(k, ranking, relevant) for ranking, relevant in scored) for k in cutoffs},
        ndcg={k: fmean(ndcg_at(k, ranking, relevant) for ranking, relevant in scored) for k in cutoffs},
        mrr=fmean(reciprocal_rank(ranking, relevant) for ranking, relevant in scored),
    )
