"""What retrieval could at best reach: answers with the right passage in the prompt, beside those of a closed book, on dev."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from lastresort.errors import CandidateError
from lastresort.evals.evidence import judge_bar
from lastresort.evals.measure import failures
from lastresort.knowledge.chunks import Chunk
from lastresort.knowledge.labels import Labels
from lastresort.knowledge.search import search
from lastresort.knowledge.store import Store, chunks_named
from lastresort.records.record import ItemScore
from lastresort.rungs.rung import Workbench
from lastresort.systems.lookup import KnownPassages, Lookup, question_of
from lastresort.systems.system import Retriever, System
from lastresort.types import Example, Grammar, Judgement

MOST_PASSAGES = 5  # shown at once, where the labels name more or nobody knows the right one


@dataclass(frozen=True, slots=True)
class Ceiling:
    """systems: name of each that was measured with the right passages, and its verdict on dev. dropped: those that could not
    be, with why. knowledge: ids of the items that are wrong closed book and right with the right passage.
    """

    systems: dict[str, Judgement]
    dropped: dict[str, str]
    knowledge: frozenset[str]

    @property
    def below_the_bar(self) -> bool:
        """Whether every way that could be tried is shown to stay below the bar, and all could be tried."""
        verdicts = {judgement.outcome for judgement in self.systems.values()}
        return verdicts == {"NOT_MET"} and not self.dropped


def right_passages(store: Store, examples: Sequence[Example]) -> dict[str, tuple[Chunk, ...]]:
    """By question the passages that hold the answer, the likeliest last: those that the example names, else the union of what
    each kind of search puts first. Raises DataError for a name that means nothing.
    """
    labels = Labels(store)
    found: dict[str, tuple[Chunk, ...]] = {}
    for example in examples:
        question = question_of(example.input)
        named = sorted({chunk for chunks in labels.wanted(example.passages) for chunk in chunks})
        if not named:
            found[question] = _union(store, question)
        elif len(named) <= MOST_PASSAGES:
            found[question] = chunks_named(store, named)
        else:
            found[question] = _likeliest(store, question, chunks_named(store, named))
    return found


def measure_ceiling(
    bench: Workbench,
    rung: str,
    bases: Sequence[System],
    retriever: Retriever,
    passages: Mapping[str, tuple[Chunk, ...]],
    closed_book: Sequence[ItemScore],
    grammar: Grammar | None,
) -> Ceiling:
    """Answer dev with the right passages by each of the bases; held to the form too, where that may be what keeps it down.

    closed_book: the same items answered without passages.
    """
    known: Lookup = KnownPassages(passages, bench.models.lookup(retriever))
    judged: dict[str, Judgement] = {}
    dropped: dict[str, str] = {}
    right: set[str] = set()
    waiting = [replace(base, name=f"{base.name}+right-passage", retriever=retriever) for base in bases]
    while waiting:
        system = waiting.pop(0)
        bench.progress.stage(f"{rung}: {system.name} on dev", len(bench.dev))
        try:
            bench.models.check(system)
            items = bench.dev_scores(rung, system, lookup=known)
        except CandidateError as error:
            dropped[system.name] = str(error)
            continue
        judged[system.name] = judged_on_dev(bench, items)
        right |= {item.id for item in items if item.score >= 1}
        guided = grammar is not None and system.decoding.grammar is None and failures(items)["format"]
        if guided and judged[system.name].outcome != "MET":
            decoding = replace(system.decoding, grammar=grammar)
            waiting.append(replace(system, name=f"{system.name}+constrained", decoding=decoding))
    wrong = {item.id for item in closed_book if item.score < 1}
    return Ceiling(judged, dropped, frozenset(right & wrong))


def judged_on_dev(bench: Workbench, items: Sequence[ItemScore]) -> Judgement:
    """The verdict rule of the test, on the whole dev set."""
    groups = bench.dev_groups()
    order = range(len(items)) if groups is None else sorted(range(len(items)), key=lambda i: groups.index(groups[i]))
    found = judge_bar(
        [items[i].score for i in order],
        bar=bench.task.bar,
        alpha=bench.task.alpha_per_rung,
        binary=bench.scorer.binary,
        groups=None if groups is None else [groups[i] for i in order],
    )
    assert found is not None, "a whole set is always judged"
    return found


def _union(store: Store, question: str) -> tuple[Chunk, ...]:
    """What each kind of search puts first, by turns, each passage once."""
    rankings = [search(store, question, k=MOST_PASSAGES, mode=mode) for mode in ("hybrid", "vector", "text")]
    found: dict[str, Chunk] = {}
    for place in range(MOST_PASSAGES):
        for hits in rankings:
            if place < len(hits):
                found.setdefault(hits[place].chunk.id, hits[place].chunk)
    return tuple(reversed(found.values()))


def _likeliest(store: Store, question: str, chunks: Sequence[Chunk]) -> tuple[Chunk, ...]:
    """Of the named chunks those that a search puts first."""
    ranks = {hit.chunk.id: rank for rank, hit in enumerate(search(store, question, k=50))}
    return tuple(reversed(sorted(chunks, key=lambda chunk: ranks.get(chunk.id, len(ranks)))[:MOST_PASSAGES]))
