"""Search a store by meaning, by words, or both; and how well that finds the relevant passages, measured without any answers.

LanceDB's simple tokenizer splits words at white space and punctuation. Chinese, Japanese and Thai have neither between words, so
a whole sentence would be one word. `searchable` therefore separates their characters, in chunks and questions alike. (The ICU
tokenizer does split such text into words, but it drops single digits: "version 2.0" would find nothing.)

A relevant passage is a set of chunk names, any of which is a hit, because a label may name a section that was cut into chunks.
Only the first hit of a passage counts. All values are in [0, 1].
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Any, Literal, get_args

from lastresort.errors import ContractError, DataError
from lastresort.knowledge.chunks import Chunk
from lastresort.knowledge.labels import Labels
from lastresort.knowledge.sentence_models import Reranker
from lastresort.knowledge.store import Store, chunks_by_row, table_errors
from lastresort.records.events.search import SearchScores

_UNSPACED = re.compile(r"([\u0e00-\u0e7f\u3040-\u30ff\u3400-\u9fff\uf900-\ufaff])")
COLUMN = "searched"
RRF_K = 60  # the paper's value, near the best; the result depends little on it
Mode = Literal["vector", "text", "hybrid"]
DEPTH = 50  # candidates per ranking to merge, and candidates that a reranker reads
EXACT_UP_TO_ROWS = 300_000  # up to here every partition of a vector index is searched: about 35 ms on two cores
_PARTITIONS_BEYOND = 64  # each of about 4,096 rows


def searchable(text: str) -> str:
    return text if text.isascii() else _UNSPACED.sub(r" \1 ", text)


def full_text_index(language: str) -> Any:
    """BM25 over stems, without stop words and accents. No limit on word length, as identifiers may be long."""
    from lancedb.index import FTS

    plain = language == "none"
    return FTS(
        with_position=False,
        base_tokenizer="simple",
        language="English" if plain else language,
        stem=not plain,
        remove_stop_words=not plain,
        max_token_length=None,
    )


def full_text_query(question: str) -> Any:
    """A chunk matches if it has any word of the question. The question is never parsed as a query language."""
    from lancedb.query import MatchQuery

    return MatchQuery(searchable(question), COLUMN)


def reciprocal_rank_fusion(rankings: Sequence[Sequence[str]], *, k: int = RRF_K) -> list[tuple[str, float]]:
    """Merge rankings. Returns names with scores, the best first, ties in alphabetical order.

    score(d) = sum over rankings of 1 / (k + rank of d), ranks from 1. A ranking without d adds nothing.

    rankings: names, the best first, each at most once per ranking.
    Source: Cormack, Clarke & Büttcher 2009, Reciprocal Rank Fusion outperforms Condorcet and individual Rank Learning Methods.
    """
    scores: dict[str, float] = {}
    for ranking in rankings:
        for rank, name in enumerate(ranking, start=1):
            scores[name] = scores.get(name, 0.0) + 1.0 / (k + rank)
    return sorted(scores.items(), key=lambda scored: (-scored[1], scored[0]))


@dataclass(frozen=True, slots=True)
class Hit:
    """A result of a search. score: cosine (vector), BM25 (text), sum of 1/(60 + rank) (hybrid), or the reranker's.

    ranks: its rank, from 1, in each ranking that had it among its candidates.
    """

    chunk: Chunk
    score: float
    ranks: dict[str, int]


@dataclass(frozen=True, slots=True)
class _Candidate:
    id: str
    score: float
    row: int


def search(
    store: Store,
    question: str,
    *,
    k: int = 5,
    mode: Mode = "hybrid",
    reranker: Reranker | None = None,
    depth: int = DEPTH,
) -> tuple[Hit, ...]:
    """The k best chunks, the best first, ties in the order of their ids.

    Raises DataError if the last update of the store did not finish.
    """
    return search_all(store, [question], k=k, mode=mode, reranker=reranker, depth=depth)[0]


def search_all(
    store: Store,
    questions: Sequence[str],
    *,
    k: int = 5,
    mode: Mode = "hybrid",
    reranker: Reranker | None = None,
    depth: int = DEPTH,
) -> list[tuple[Hit, ...]]:
    """The results of `search` for each question. The questions are embedded together.

    Questions are never parsed as a query language. An empty question finds nothing. The embedder truncates one that is too
    long. depth: candidates per ranking, at least k.
    """
    if k < 1 or mode not in get_args(Mode):
        raise ContractError(
            f'a search for {k} chunks, mode "{mode}"', expected="k of at least 1, vector, text or hybrid"
        )
    if not store.manifest.complete:
        raise DataError(
            "the last update of this store did not finish",
            where=str(store.folder),
            expected="a complete store",
            remedy="Update it again. The update resumes where it stopped.",
        )
    nonempty = [question for question in questions if question.strip()]
    vectors: Sequence[Any] = [None] * len(nonempty)
    if mode != "text" and nonempty:
        vectors = list(store.embedder.embed_questions(nonempty))
    pairs = zip(nonempty, vectors, strict=True)
    results = iter([_search_one(store, text, vector, k, mode, reranker, max(depth, k)) for text, vector in pairs])
    return [next(results) if question.strip() else () for question in questions]


def _search_one(
    store: Store, question: str, vector: Any, k: int, mode: Mode, reranker: Reranker | None, depth: int
) -> tuple[Hit, ...]:
    wide = depth if mode == "hybrid" or reranker is not None else k
    rankings: dict[str, list[_Candidate]] = {}
    if mode != "text":
        rankings["vector"] = _top(lambda limit: _by_vector(store, vector, limit), wide)
    if mode != "vector":
        rankings["text"] = _top(lambda limit: _by_words(store, question, limit), wide)
    ranks = {name: {hit.id: rank for rank, hit in enumerate(hits, start=1)} for name, hits in rankings.items()}
    if mode == "hybrid":
        scored = reciprocal_rank_fusion([list(places) for places in ranks.values()])
    else:
        scored = [(hit.id, hit.score) for hit in rankings[mode]]
    scored = scored[: depth if reranker is not None else k]
    rows = {hit.id: hit.row for hits in rankings.values() for hit in hits}
    chunks = chunks_by_row(store, [rows[name] for name, _ in scored])
    if reranker is not None:
        scores = reranker.scores(question, [chunks[name].embedded for name, _ in scored])
        named = [(name, score) for (name, _), score in zip(scored, scores, strict=True)]
        scored = sorted(named, key=lambda each: (-each[1], each[0]))[:k]
    return tuple(
        Hit(chunks[name], score, {mode: places[name] for mode, places in ranks.items() if name in places})
        for name, score in scored
    )


def _top(fetch: Callable[[int], list[_Candidate]], n: int) -> list[_Candidate]:
    """The first n by score and id. If the last one ties with the next, more are fetched until the tie ends.

    Half as many again are fetched at first: short questions tie often, and another query takes longer than more rows of one.
    """
    limit = n + max(1, n // 2)
    while True:
        found = fetch(limit)
        if len(found) < limit or min(hit.score for hit in found) < sorted(hit.score for hit in found)[-n]:
            return sorted(found, key=lambda hit: (-hit.score, hit.id))[:n]
        limit *= 2


def _by_vector(store: Store, vector: Any, limit: int) -> list[_Candidate]:
    """Exact up to EXACT_UP_TO_ROWS rows, as LanceDB then searches every partition. It returns 1 - cosine."""
    with table_errors(store.folder):
        rows = store.manifest.chunks
        query = store.table.search(vector, vector_column_name="vector").distance_type("dot")
        query = query.nprobes(rows if rows <= EXACT_UP_TO_ROWS else _PARTITIONS_BEYOND) if rows else query
        found = query.select(["id", "_distance"]).with_row_id(True).limit(limit).to_arrow()
    return _found(found, [1.0 - distance for distance in found["_distance"].to_pylist()])


def _by_words(store: Store, question: str, limit: int) -> list[_Candidate]:
    with table_errors(store.folder):
        query = store.table.search(full_text_query(question), query_type="fts")
        found = query.select(["id", "_score"]).with_row_id(True).limit(limit).to_arrow()
    return _found(found, found["_score"].to_pylist())


def _found(rows: Any, scores: list[float]) -> list[_Candidate]:
    names, ids = rows["id"].to_pylist(), rows["_rowid"].to_pylist()
    return [_Candidate(name, score, row) for name, score, row in zip(names, scores, ids, strict=True)]


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


def measure(
    store: Store,
    questions: Sequence[str],
    passages: Sequence[Sequence[str]],
    *,
    mode: Mode = "hybrid",
    reranker: Reranker | None = None,
    cutoffs: Sequence[int] = CUTOFFS,
) -> SearchScores:
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
    return SearchScores(
        mode=mode,
        reranked=reranker is not None,
        questions=len(labelled),
        unlabelled=len(questions) - len(labelled),
        recall={k: fmean(recall_at(k, ranking, relevant) for ranking, relevant in scored) for k in cutoffs},
        ndcg={k: fmean(ndcg_at(k, ranking, relevant) for ranking, relevant in scored) for k in cutoffs},
        mrr=fmean(reciprocal_rank(ranking, relevant) for ranking, relevant in scored),
    )
