"""What the rungs that train nothing found: prompts that joined the race late (those with more examples, and an optimised one or why
there is none), what knowledge was missing, and how well the search finds it.
"""

from __future__ import annotations

import math
from typing import assert_never

from lastresort.records import rungs as value
from lastresort.records.decision import CeilingView, RetrievalView, SearchView
from lastresort.records.decision_parts import OptimisedPrompt
from lastresort.records.document import Statement
from lastresort.records.events.search import PromptOptimised, StoppedOptimising
from lastresort.report.words.wording import (
    count,
    counted,
    duration,
    interval,
    listed,
    percent,
    round_percent,
    spaced,
    verdict,
)

_STOPPED: dict[StoppedOptimising, str] = {
    "calls": "the next step could have passed `prompting.calls`",
    "usd": "the next step could have passed `prompting.usd`",
    "all right": "every row kept for choosing was answered right",
    "no room": "the rows did not fit the context of the reflecting model",
    "cut": "its texts kept being cut at the token limit (a model that thinks less may write whole ones)",
    "late": "its texts kept timing out (a faster model, or one that thinks less, may write them)",
    "cut or late": "its texts kept being cut or timing out (a faster model, or one that thinks less, may write whole ones)",
}

MISSING_GEPA = (
    "`prompting.optimise` is on, and gepa is not installed: run pip install 'lastresort[prompts]', or the climb stops before "
    "it begins."
)

_NO_MORE: dict[value.ShotsEnd, str] = {
    "NOT_AHEAD": "the last was not ahead of the one before by more than one item",
    "LIKELY_MET": "the leader is then likely to meet the bar",
    "FEW_ROWS": "there are too few training rows for more",
    "NO_ROOM": "more could not be tried",
    "MOST": "more are never tried",
}


def of_more_shots(found: value.MoreShotsTried) -> str:
    """What was tried because examples helped, and why no more, as a sentence."""
    return f"More examples were tried, since {found.five} helped: {listed(found.tried)}; {_NO_MORE[found.ended]}."


def of_small_reflector(found: value.SmallReflector) -> str:
    """That it may find nothing better, as a sentence."""
    return (
        f"{found.model} reflects with {found.parameters / 1e9:.2g} billion weights, but about "
        f"{math.ceil(found.advised / 1e9)} are advised; it may find nothing better."
    )


def of_kept_prompt(found: value.PromptKept) -> str:
    """Why no prompt was optimised, as a sentence."""
    return f"No prompt was optimised: {why_kept(found)}."


def why_kept(found: value.PromptKept) -> str:
    """Why no prompt was optimised, as a clause."""
    match found:
        case value.GepaMissing():
            return "gepa is not installed (run pip install 'lastresort[prompts]')"
        case value.NoReflector(model, parameters, least):
            size = "is of unknown size" if parameters is None else f"has {parameters / 1e9:.2g} billion weights"
            large = f"a model of about {math.ceil(least / 1e9)} billion or more"
            return f"{model} {size}, and {large} is needed to reflect on failures; name one under `prompting.reflect`"
        case value.TooFewRowsToOptimise(n, least):
            return f"{counted(n, 'training row')} are too few (at least {least})"
        case value.NoHeadroom():
            return (
                f"no hand-made prompt differs significantly from the plain one on dev ({found.compared} compared, the clearest "
                f"difference {found.nearest} on {counted(found.n_compared, 'item')}, p = {found.p:.2f} after correction), and "
                f"{_well_formed(found)}, so that another wording is unlikely to help; `prompting: {{optimise: on}}` tries it anyway"
            )
        case value.NoNeedToOptimise(best, chance):
            return f"{best} is likely to meet the bar as it is ({round_percent(chance)}, as far as dev can tell)"
        case value.UsdTooSmall(usd, needed):
            return f"`prompting.usd` of {usd:g} is too small for one step, which may cost {needed:.2g} USD"
        case _:
            assert_never(found)


def _well_formed(found: value.NoHeadroom) -> str:
    if not found.ill_formed:
        return f"no answer of {found.best} lacks the required form"
    return f"only {found.ill_formed} of {counted(found.n, 'answer')} of {found.best} lack the required form"


def of_rewritten_prompt(found: value.PromptRewritten) -> str:
    """What optimising took and gave, as a sentence."""
    copies = f" and refused {count(found.copies)} that copied training rows" if found.copies else ""
    unwritten = _unwritten(found)
    of_them = f" ({count(found.reflections)} of them reflections)" if found.reflections else ""
    calls = f"{counted(found.calls, 'call')}{of_them}"
    rows = f"on {counted(found.n, 'training row')} kept for choosing"
    if not found.tried:
        none = (
            f"GEPA tried no instruction by {found.reflector}{copies}{unwritten}, in {calls}: {_STOPPED[found.stopped]}"
        )
        return f"{none}. The plain one scored {percent(found.plain_score)} {rows}."
    took = (
        f"GEPA tried {counted(found.tried, 'instruction')} by {found.reflector}{copies}{unwritten}, in {calls}, until "
        f"{_STOPPED[found.stopped]}"
    )
    if not found.better:
        return f"{took}; none scored higher than the plain one, {percent(found.plain_score)} {rows}."
    best, before = percent(found.best_score), percent(found.plain_score)
    return f"{took}; the best scored {best} {rows} (optimistic, as it was chosen on them), the plain one {before}."


def _unwritten(found: value.PromptRewritten) -> str:
    """Of reflections that failed."""
    cut = f"{count(found.cut)} more were cut at the token limit" if found.cut else ""
    late = f"{count(found.late)} more timed out" if found.late else ""
    return f" ({', '.join(filter(None, (cut, late)))})" if cut or late else ""


def of_late_reflection(rung: str, seconds: float) -> str:
    """That it failed, as a line for somebody who follows the run."""
    return f"{rung}: a reflection timed out after {spaced(duration(seconds))}. It counts as a failed one"


def optimised_title(found: OptimisedPrompt) -> str:
    """Of the part of the report that shows the instruction."""
    if found.best == found.plain:
        tried = counted(found.tried, "instruction") if found.tried else "none"
        return f"No optimised instruction was better than the plain one ({tried} tried)"
    return f"The instruction that {found.reflector} optimised, against the plain one"


def optimised_scores(found: OptimisedPrompt) -> str:
    """What the scores on train are worth."""
    if found.best == found.plain:
        return f"The plain one scored {percent(found.plain_score)} on {counted(found.n, 'training row')} kept for choosing."
    return (
        f"On {counted(found.n, 'training row')} kept for choosing: optimised {percent(found.best_score)}, plain "
        f"{percent(found.plain_score)}. Optimistic: the instruction was chosen on these rows. What counts is its score on dev."
    )


def optimised_line(found: PromptOptimised) -> str:
    """Of somebody who follows the run."""
    if not found.better:
        return (
            f"{found.rung}: no optimised instruction beats the plain one on rows of train, {percent(found.plain_score)}"
        )
    return (
        f"{found.rung}: an optimised instruction scores {percent(found.best_score)} on rows of train, the plain one "
        f"{percent(found.plain_score)}"
    )


# Retrieval.


def retrieval_finding(entry: RetrievalView) -> str:
    """One line: the score with the right passage, or what was built."""
    ceiling = entry.ceiling
    if ceiling is None or not ceiling.systems:
        return f"Retrieval searched a store of {counted(entry.store.chunks, 'passage')}"
    best = max(system.score for system in ceiling.systems)
    which = "right passage" if ceiling.labelled == ceiling.n else "likeliest passages"
    return f"With the {which}, dev scores {percent(best)}; closed book, {percent(ceiling.closed_book)}"


def retrieval_reasons(entry: RetrievalView | None) -> list[Statement]:
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


def retrieval_rows(entry: RetrievalView) -> list[tuple[str, str]]:
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
