"""What the record says of retrieval -> its entry in decision.json, and the sentences that a reader must not miss."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from lastresort.records.record import Record
from lastresort.report.wording import percent_in_text as percent


def retrieval_entry(record: Record) -> dict[str, Any] | None:
    """`retrieval` of decision.json; None where no store was built."""
    store, ceiling = record.last("store"), record.last("ceiling")
    if store is None:
        return None
    searches = (record.last("retrieval") or {"searches": []})["searches"]
    kept = ("documents", "chunks", "embedder", "seconds", "disk_bytes", "vector_bytes")
    return {
        "store": {key: store[key] for key in kept},
        "searches": [{key: value for key, value in search.items() if key != "unlabelled"} for search in searches],
        "ceiling": None if ceiling is None else _ceiling(ceiling),
    }


def retrieval_reasons(entry: Mapping[str, Any] | None) -> list[str]:
    """How much of what fails is knowledge, and how good the search is by itself."""
    if entry is None or entry["ceiling"] is None:
        return []
    ceiling, reasons = entry["ceiling"], list[str]()
    which = "the right passage" if ceiling["labelled"] == ceiling["n"] else "the likeliest passages"
    if ceiling["systems"]:
        reasons.append(
            f"Knowledge: {ceiling['knowledge']} of {ceiling['n']} dev items were wrong closed book and right with {which} in the "
            f"prompt; closed book scored {percent(ceiling['closed_book'])}, with {which} "
            + " and ".join(f"{percent(system['score'])} ({system['name']})" for system in ceiling["systems"])
            + "."
        )
    else:
        reasons.append(
            f"Knowledge: whether it is missing was not measured, since no prompt with {which} fits the model."
        )
    used = next(
        (search for search in reversed(entry["searches"]) if search["mode"] == "hybrid"), None
    )  # reranked comes last
    if used is not None:
        found = ", ".join(
            f"{percent(share)} {'at the first place' if k == '1' else f'among the first {k}'}"
            for k, share in used["recall"].items()
        )
        reranked = ", reranked," if used["reranked"] else ""
        reasons.append(
            f"The search by itself{reranked} found of the right passages of {used['questions']} dev questions {found}."
        )
    return reasons


def _ceiling(noted: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "n": noted["n"],
        "labelled": noted["labelled"],
        "closed_book": noted["closed_book"],
        "knowledge": len(noted["knowledge"]),
        "systems": [
            {"name": name, "verdict": found["outcome"], "score": found["score"], "interval": list(found["interval"])}
            for name, found in noted["systems"].items()
        ],
    }
