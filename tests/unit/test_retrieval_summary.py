"""What the decision says of retrieval."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from lastresort.records.decision import RetrievalView
from lastresort.records.events.search import CeilingMeasured
from lastresort.records.record import Record
from lastresort.report.words.untuned import retrieval_finding, retrieval_rows
from lastresort.report.words.untuned import retrieval_reasons as found_reasons
from lastresort.types import Judgement

STORE = {"documents": 2, "chunks": 9, "embedder": "hashing", "seconds": 1.0, "disk_bytes": 10, "vector_bytes": 5}
CEILING: dict[str, Any] = {
    "n": 50,
    "labelled": 50,
    "closed_book": 0.1,
    "knowledge": 30,
    "systems": [{"name": "a+right-passage", "verdict": "MET", "score": 0.7, "interval": [0.6, 0.8]}],
}


def retrieval_reasons(entry: dict[str, Any] | None) -> list[str]:
    return [reason.text for reason in found_reasons(entry)]


def search(mode: str, first: float, *, reranked: bool = False) -> dict[str, Any]:
    recall = {"1": first, "3": first + 0.1}
    return {"mode": mode, "reranked": reranked, "questions": 50, "recall": recall, "ndcg": recall, "mrr": first}


def entry(searches: list[dict[str, Any]], **ceiling: Any) -> RetrievalView:
    found = {"store": STORE, "searches": searches, "ceiling": {**CEILING, **ceiling}}
    return RetrievalView.model_validate(found)


def test_the_search_that_is_told_is_the_one_that_was_used() -> None:
    plain = [search("hybrid", 0.5), search("vector", 0.4), search("text", 0.3)]
    told = (
        "The search{} finds these shares of the right passages of 50 dev questions: {} at rank 1 and {} in the top 3."
    )
    assert retrieval_reasons(entry(plain))[1] == told.format("", "50%", "60%")
    reranked = [*plain, search("hybrid", 0.8, reranked=True)]
    assert retrieval_reasons(entry(reranked))[1] == told.format(", with reranking,", "80%", "90%")


def test_what_could_not_be_measured_is_not_told_as_nothing() -> None:
    nothing = entry([], systems=[], knowledge=0)
    assert retrieval_reasons(nothing) == [
        "Knowledge: what is missing was not measured, because no prompt with the right passage fits the model."
    ]
    assert [name for name, _ in retrieval_rows(nothing)] == ["store"]


def test_only_labelled_passages_are_called_right() -> None:
    assert "right with the right passage in the prompt" in retrieval_reasons(entry([]))[0]
    assert retrieval_finding(entry([])).startswith("With the right passage, dev")
    some = entry([], labelled=49)
    assert "right with the likeliest passages in the prompt" in retrieval_reasons(some)[0]
    assert retrieval_finding(some).startswith("With the likeliest passages, dev")


def test_a_ceiling_that_could_not_be_measured_says_nothing_of_knowledge(tmp_path: Path) -> None:
    """Else a rung that puts knowledge into weights would read it as "nothing is missing"."""
    ceiling = CeilingMeasured(labelled=0, n=10, closed_book=0.5, systems={}, dropped={}, knowledge=())
    with Record.create(tmp_path) as record:
        assert record.lacking_knowledge is None
        record.append(ceiling)
        assert record.lacking_knowledge is None
        met = Judgement("MET", 0.9, 10, 10, (0.7, 1.0))
        record.append(ceiling.model_copy(update={"systems": {"a": met}, "knowledge": ("1",)}))
        assert record.lacking_knowledge == {"1"}
