"""How well a store finds what it should, measured apart from any answers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean

from lastresort.errors import DataError
from lastresort.knowledge.labels import Labels
from lastresort.knowledge.measures import ndcg_at, recall_at, reciprocal_rank
from lastresort.knowledge.reranker import Reranker
from lastresort.knowledge.search import Mode, search_all
from lastresort.knowledge.store import Store

CUTOFFS = (1, 3, 5, 10)


@dataclass(frozen=True, slots=True)
class RetrievalScores:
    """Means over questions. questions: how many; unlabelled: those without a known passage, left out.

    recall, ndcg: by cut-off. mrr: over as many places as the largest cut-off.
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
    """Search for every question whose right passages are known.

    passages: of each question, the labels (labels.Labels) of those that are wanted.
    Raises DataError for a label that names nothing, and where no question has one.
    """
    names = Labels(store)
    labelled = [
        (question, names.wanted(labels)) for question, labels in zip(questions, passages, strict=True) if labels
    ]
    if not labelled:
        raise DataError("no question with known passages", expected="`passages` in some rows", remedy="Add some.")
    found = search_all(store, [question for question, _ in labelled], k=max(cutoffs), mode=mode, reranker=reranker)
    rankings = [[hit.chunk.id for hit in hits] for hits in found]
    scored = [(ranking, wanted) for ranking, (_, wanted) in zip(rankings, labelled, strict=True)]
    return RetrievalScores(
        questions=len(labelled),
        unlabelled=len(questions) - len(labelled),
        recall={k: fmean(recall_at(k, ranking, wanted) for ranking, wanted in scored) for k in cutoffs},
        ndcg={k: fmean(ndcg_at(k, ranking, wanted) for ranking, wanted in scored) for k in cutoffs},
        mrr=fmean(reciprocal_rank(ranking, wanted) for ranking, wanted in scored),
    )
