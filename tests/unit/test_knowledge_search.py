"""Searching by meaning, by words and by both; any question is words, and equal scores come in the order of their ids."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from knowledge_support import SMALL, CountingEmbedder, markdown
from lastresort.errors import ContractError, DataError
from lastresort.knowledge.labels import Labels
from lastresort.knowledge.search import Mode, measure, search, search_all
from lastresort.knowledge.store import Store, StoreSettings, create_store, rows_where, write_manifest
from lastresort.knowledge.update import update

MODES: list[Mode] = ["vector", "text", "hybrid"]
TOPICS = ["lamp returns desk", "chair repairs weeks", "table oil wood", "parcel label print", "shelf screws wall"]


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    made = create_store(tmp_path_factory.mktemp("knowledge") / "store", CountingEmbedder(), SMALL)
    documents = [markdown(f"{topic.split()[0]}.md", f"# {topic.split()[0]}\n\nAbout {topic}.") for topic in TOPICS]
    documents += [markdown(f"same-{number:02d}.md", "Nothing but the same zebra.") for number in (7, 3, 12, 1, 5)]
    documents.append(
        markdown("odd.md", "# Odd\n\nError E1234 in foo_bar.baz of version 2.0: 天気は晴れです。 Größe café.")
    )
    update(made, documents)
    return made


def found(store: Store, question: str, mode: Mode = "text", k: int = 3) -> list[str]:
    return [hit.chunk.document for hit in search(store, question, k=k, mode=mode)]


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("topic", TOPICS)
def test_the_right_chunk_comes_first(store: Store, mode: Mode, topic: str) -> None:
    hits = search(store, f"What about {topic}?", k=2, mode=mode)
    assert hits[0].chunk.document == f"{topic.split()[0]}.md"
    assert len(hits) == (1 if mode == "text" else 2)
    assert hits[0].score >= hits[-1].score
    assert hits[0].ranks == dict.fromkeys(["vector", "text"] if mode == "hybrid" else [mode], 1)


def test_vectors_are_searched_exactly_by_their_cosine(store: Store) -> None:
    rows = rows_where(store, None, ["id", "vector"])
    matrix = np.array(rows["vector"].to_pylist())
    question = store.embedder.embed_questions(["the desk of the lamp"])[0]
    cosines = dict(zip(rows["id"].to_pylist(), matrix @ question, strict=True))
    hits = search(store, "the desk of the lamp", k=4, mode="vector")
    assert [hit.score for hit in hits] == pytest.approx(sorted(cosines.values(), reverse=True)[:4], abs=1e-6)
    assert [hit.score for hit in hits] == pytest.approx([cosines[hit.chunk.id] for hit in hits], abs=1e-6)


def test_fused_scores_are_sums_of_reciprocal_ranks(store: Store) -> None:
    for hit in search(store, "zebra lamp returns", k=5):
        assert hit.score == pytest.approx(sum(1 / (60 + rank) for rank in hit.ranks.values()))


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("k", [1, 2, 3, 4, 5])
def test_ties_come_in_the_order_of_ids(store: Store, mode: Mode, k: int) -> None:
    expected = ["same-01.md", "same-03.md", "same-05.md", "same-07.md", "same-12.md"]
    assert found(store, "Nothing but the same zebra.", mode, k) == expected[:k]


@pytest.mark.parametrize(
    "question",
    [
        '"unbalanced lamp',
        "lamp AND (desk OR",
        "title:lamp^3 ~2 * ? \\ [x TO y] {",
        "lamp\x00",
        "lamp -desk +returns !",
        "+-&&||",
        "🙂 lamp",
        "lamp " * 3000,
        "'); DROP TABLE chunks; -- lamp",
        "lamp\nlamp\tlamp",
    ],
)
@pytest.mark.parametrize("mode", MODES)
def test_no_question_is_a_query_language(store: Store, question: str, mode: Mode) -> None:
    names = found(store, question, mode)
    if "lamp" in question and mode == "text":
        assert names[0] == "lamp.md"


@pytest.mark.parametrize("mode", MODES)
def test_a_question_without_words_finds_nothing(store: Store, mode: Mode) -> None:
    assert [len(hits) for hits in search_all(store, ["", "  \n", "lamp"], mode=mode, k=1)] == [0, 0, 1]


@pytest.mark.parametrize("word", ["e1234", "foo_bar", "baz", "2.0", "天気", "GRÖSSE", "cafe", "errors"])
def test_words_numbers_and_unspaced_scripts_are_found(store: Store, word: str) -> None:
    assert found(store, word)[:1] == ["odd.md"]


def test_many_questions_find_what_each_alone_does(store: Store) -> None:
    questions = [f"about {topic}" for topic in TOPICS]
    for mode in MODES:
        assert search_all(store, questions, mode=mode) == [search(store, q, mode=mode) for q in questions]


class BackwardsReranker:
    name = fingerprint = "backwards"

    def __init__(self) -> None:
        self.asked: list[list[str]] = []

    def scores(self, question: str, passages: Sequence[str]) -> list[float]:
        self.asked.append(list(passages))
        return [float(place) for place, _ in enumerate(passages)]


@pytest.mark.parametrize("mode", MODES)
def test_a_reranker_orders_the_candidates(store: Store, mode: Mode) -> None:
    reranker = BackwardsReranker()
    plain = search(store, "zebra lamp", k=6, mode=mode)
    assert len(plain) == 6
    turned = search(store, "zebra lamp", k=2, mode=mode, reranker=reranker, depth=6)
    assert [hit.chunk for hit in turned] == [plain[5].chunk, plain[4].chunk]
    assert [hit.score for hit in turned] == [5.0, 4.0]
    assert reranker.asked == [[hit.chunk.embedded for hit in plain]]


@pytest.mark.slow
def test_an_index_over_vectors_changes_nothing(tmp_path: Path) -> None:
    """Clusters of close vectors in many rows: every part of the index is looked into, so that the results are the same."""
    documents = [
        markdown(f"{n}.md", f"word{n % 37} word{n % 11} word{n} and more of {n * 7 % 101}") for n in range(700)
    ]
    plain, indexed = (create_store(tmp_path / name, CountingEmbedder(), SMALL) for name in ("plain", "indexed"))
    update(plain, documents)
    update(indexed, documents[:600], index_from=300)
    update(indexed, documents[50:], index_from=300)
    update(indexed, documents, index_from=300)
    assert [index.columns for index in indexed.table.list_indices() if "vector" in index.columns]
    for n in range(0, 700, 41):
        question = f"word{n % 37} and word{n}"
        ours, theirs = (search(s, question, k=20, mode="vector") for s in (indexed, plain))
        assert [hit.chunk.id for hit in ours] == [hit.chunk.id for hit in theirs]
        assert [hit.score for hit in ours] == pytest.approx([hit.score for hit in theirs], abs=1e-5)
        assert search(indexed, question, mode="text") == search(plain, question, mode="text")


def test_stems_and_stop_words_follow_the_language(tmp_path: Path) -> None:
    documents = [markdown("a.md", "Die Häuser laufen."), markdown("b.md", "The houses are running.")]
    for language, german, english in [("German", 1, 0), ("English", 0, 1), ("none", 0, 0)]:
        store = create_store(tmp_path / language, CountingEmbedder(), StoreSettings(SMALL.chunks, language))
        update(store, documents)
        assert len(found(store, "haus")) == german
        assert len(found(store, "run")) == english


def test_searches_that_cannot_be_are_refused(store: Store) -> None:
    with pytest.raises(ContractError, match="a search for 0 chunks"):
        search(store, "lamp", k=0)
    with pytest.raises(ContractError, match='mode "magic"'):
        search(store, "lamp", mode="magic")  # type: ignore[arg-type]


def test_a_store_left_half_updated_is_not_searched(tmp_path: Path) -> None:
    from dataclasses import replace

    store = create_store(tmp_path / "store", CountingEmbedder(), SMALL)
    write_manifest(replace(store.manifest, complete=False), store.folder)
    store.reopen()
    with pytest.raises(DataError, match="the last update of this store did not finish"):
        search(store, "lamp")


def test_labels_name_chunks_sections_and_documents(tmp_path: Path) -> None:
    long = " ".join(f"word{n}." for n in range(60))
    store = create_store(tmp_path / "store", CountingEmbedder(), SMALL)
    update(store, [markdown("a.md", f"# A\n\n{long}\n\n## Only\n\nx"), markdown("b.md", "# A\n\ny")])
    labels = Labels.of_store(store)
    assert labels.chunks("a.md#a:2") == {"a.md#a:2"}
    assert labels.chunks("a.md#a") == {f"a.md#a:{n}" for n in range(1, len(labels.chunks("a.md#a")) + 1)}
    assert len(labels.chunks("a.md#a")) > 2
    assert labels.chunks("a.md") == labels.chunks("a.md#a") | {"a.md#only:1"}
    assert labels.chunks("only") == {"a.md#only:1"}
    assert labels.resolve(["only", "only"]) == [{"a.md#only:1"}]
    with pytest.raises(DataError, match=r'the passage "a" in 2 documents.*as in a\.md#a\.'):
        labels.chunks("a")
    with pytest.raises(DataError, match=r'no passage "a\.md#onyl".*\(a\.md#only'):
        labels.chunks("a.md#onyl")


def test_retrieval_is_measured_where_passages_are_known(store: Store) -> None:
    questions = [f"about {topic}" for topic in TOPICS] + ["nobody knows"]
    right = [[f"{topic.split()[0]}.md"] for topic in TOPICS]
    scores = measure(store, questions, [*right, []], mode="text")
    assert (scores.questions, scores.unlabelled) == (5, 1)
    assert (scores.recall[1], scores.ndcg[10], scores.mrr) == (1.0, 1.0, 1.0)
    wrong = measure(store, questions[:2], [["chair.md"], ["chair.md", "lamp.md"]], mode="text", cutoffs=(1, 2))
    assert (wrong.recall, wrong.mrr) == ({1: 0.25, 2: 0.25}, 0.5)
    with pytest.raises(DataError, match="no question with known passages"):
        measure(store, ["lamp"], [[]])
