"""Retrieval in the report: what knowledge was missing, and how well the search finds it."""

from __future__ import annotations

from lastresort.records.decision import CeilingView, RetrievalView, SearchView
from lastresort.records.document import Statement
from lastresort.report.words.wording import count, counted, duration, interval, listed, percent, round_percent, verdict


def finding(entry: RetrievalView) -> str:
    """One line: the score with the right passage, or what was built."""
    ceiling = entry.ceiling
    if ceiling is None or not ceiling.systems:
        return f"Retrieval searched a store of {counted(entry.store.chunks, 'passage')}"
    best = max(system.score for system in ceiling.systems)
    which = "right passage" if ceiling.labelled == ceiling.n else "likeliest passages"
    return f"With the {which}, dev scores {percent(best)}; closed book, {percent(ceiling.closed_book)}"


def reasons(entry: RetrievalView | None) -> list[Statement]:
    """How many failures are missing knowledge, and how good the search is on its own."""
    if entry is None or entry.ceiling is None:
        return []
    ceiling = entry.ceiling
    which = "the right passage" if ceiling.labelled == ceiling.n else "the likeliest passages"
    used = next((search for search in reversed(entry.searches) if search.mode == "hybrid"), None)  # reranked last
    missing = Statement(code="missing_knowledge", figures=ceiling.as_json(), text=_missing(ceiling, which))
    if used is None:
        return [missing]
    return [missing, Statement(code="search_recall", figures=used.as_json(), text=_found(used))]


def _missing(ceiling: CeilingView, which: str) -> str:
    if not ceiling.systems:
        return f"Knowledge: what is missing was not measured, because no prompt with {which} fits the model."
    scores = listed(f"{round_percent(system.score)} ({system.name})" for system in ceiling.systems)
    return (
        f"Knowledge: {ceiling.knowledge} of {counted(ceiling.n, 'dev item')} were wrong closed book and right with {which} "
        f"in the prompt. Closed book scored {round_percent(ceiling.closed_book)}, with {which} {scores}."
    )


def _found(search: SearchView) -> str:
    name = "The search, with reranking," if search.reranked else "The search"
    shares = listed(
        f"{round_percent(share)} {'at rank 1' if k == '1' else f'in the top {k}'}" for k, share in search.recall.items()
    )
    questions = counted(search.questions, "dev question")
    return f"{name} finds these shares of the right passages of {questions}: {shares}."


def rows(entry: RetrievalView) -> list[tuple[str, str]]:
    """(what, figures) for the table of retrieval."""
    store, ceiling = entry.store, entry.ceiling
    found = [
        (
            "store",
            f"{counted(store.chunks, 'passage')} of {counted(store.documents, 'document')}, embedded by "
            f"{store.embedder}; {count(store.disk_bytes / 1e6)} MB on disk, {count(store.vector_bytes / 1e6)} MB of it "
            f"vectors; built in {duration(store.seconds)}",
        )
    ]
    for search in entry.searches:
        name = f"{search.mode} search" + (", reranked" if search.reranked else "")
        recall = listed(f"{percent(share)} at {k}" for k, share in search.recall.items())
        ndcg = search.ndcg[max(search.ndcg, key=int)]
        found.append(
            (
                name,
                f"recall {recall}; MRR {search.mrr:.2f}, nDCG {ndcg:.2f} ({counted(search.questions, 'question')})",
            )
        )
    if ceiling is not None and ceiling.systems:
        found += [
            (
                system.name,
                f"{percent(system.score)}, {interval(system.interval)}; {verdict(system.verdict)}",
            )
            for system in ceiling.systems
        ]
        told = (
            f"{count(ceiling.knowledge)} of {counted(ceiling.n, 'dev item')} wrong closed book, right with the passage"
        )
        found.append(("missing knowledge", told))
    return found
