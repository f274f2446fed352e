"""What retrieval could reach at best: dev answered with the right passages in the prompt, against closed-book answers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from lastresort.errors import CandidateError
from lastresort.evals.measure import JobFailure, failures, mean_score
from lastresort.knowledge.chunks import Chunk
from lastresort.knowledge.labels import Labels
from lastresort.knowledge.search import search
from lastresort.knowledge.store import Store, chunks_named
from lastresort.records.decision_parts import GivenPassages
from lastresort.records.record import ItemScore
from lastresort.rungs.race import judge_on_dev
from lastresort.rungs.rung import Workbench
from lastresort.systems.compose import Conversation, Passages, conversation, question_of
from lastresort.systems.system import Retriever, System
from lastresort.types import Example, Grammar, Judgement

_NAMES: dict[GivenPassages, str] = {
    "right": "right-passage",
    "likeliest": "likeliest-passages",
    "likeliest_one": "likeliest-passage",
}
MOST_PASSAGES = 5  # in a prompt, if the labels name more or do not name any


@dataclass(frozen=True, slots=True)
class Ceiling:
    """systems: the verdict on dev of each system with the right passages. dropped: why others could not be measured. knowledge: ids
    of items that are wrong closed-book and right with the right passage, by the system that uses it best. named: whether every dev
    item names its passages; if not, the likeliest that a search finds are used.
    """

    systems: dict[str, Judgement]
    dropped: dict[str, str]
    knowledge: frozenset[str]
    named: bool

    @property
    def below_the_bar(self) -> bool:
        """Whether all systems could be measured and are shown to be below the bar."""
        return _out_of_reach(self.systems, self.dropped)


@dataclass
class _Measured:
    """items: what each system answered on dev. judged, dropped: as in Ceiling."""

    items: dict[str, list[ItemScore]] = field(default_factory=dict)
    judged: dict[str, Judgement] = field(default_factory=dict)
    dropped: dict[str, str] = field(default_factory=dict)


def right_passages(store: Store, examples: Sequence[Example]) -> dict[Conversation, tuple[Chunk, ...]]:
    """The passages that hold the answer, by conversation, the likeliest last: those that the example names, else the top results of
    each kind of search; at most MOST_PASSAGES. Raises DataError for an unknown name.
    """
    labels = Labels.of_store(store)
    passages: dict[Conversation, tuple[Chunk, ...]] = {}
    for example in examples:
        key, question = conversation(example.input), question_of(example.input)
        names = sorted({chunk for chunks in labels.resolve(example.passages) for chunk in chunks})
        if not names:
            passages[key] = _union(store, question)
        elif len(names) == 1:
            passages[key] = chunks_named(store, names)
        else:
            passages[key] = _likeliest(store, question, chunks_named(store, names))
    return passages


def measure_ceiling(
    bench: Workbench,
    rung: str,
    bases: Sequence[System],
    retriever: Retriever,
    passages: Passages,
    closed_book: Sequence[ItemScore],
    grammar: Grammar | None,
) -> Ceiling:
    """Answer dev with the right passages by each of the bases, also with constrained decoding if that may help.

    If several passages are shown and all systems are below the bar, the likeliest passage alone is tried, too: a small model may
    get lost among several passages. closed_book: the same items answered without passages.
    """
    measured = _Measured()
    all_named = all(example.passages for example in bench.dev)

    def measure(passages: Passages, given: GivenPassages) -> None:
        systems = [replace(base, name=f"{base.name}+{_NAMES[given]}", retriever=retriever) for base in bases]
        _measure(bench, rung, systems, passages, given, grammar, measured)

    several = any(len(passages[conversation(example.input)]) > 1 for example in bench.dev)
    measure(passages, "right" if all_named else "likeliest")
    if several and _out_of_reach(measured.judged, measured.dropped):
        measure({key: chunks[-1:] for key, chunks in passages.items()}, "likeliest_one")
    best = max(measured.items.values(), key=mean_score, default=[])
    wrong_ids = {item.id for item in closed_book if item.score < 1}
    right_ids = {item.id for item in best if item.score >= 1}
    return Ceiling(measured.judged, measured.dropped, frozenset(right_ids & wrong_ids), all_named)


def _out_of_reach(judgements: Mapping[str, Judgement], dropped: Mapping[str, str]) -> bool:
    return {judgement.outcome for judgement in judgements.values()} == {"NOT_MET"} and not dropped


def _measure(
    bench: Workbench,
    rung: str,
    systems: Sequence[System],
    passages: Passages,
    given: GivenPassages,
    grammar: Grammar | None,
    measured: _Measured,
) -> None:
    """Answer dev by each of the systems with these passages, and with constrained decoding if that may help."""
    results = _results(bench, rung, systems, passages, given)
    constrained = []
    for system in systems:
        items = results[system.name]
        if isinstance(items, JobFailure):
            measured.dropped[system.name] = str(items.error())
            continue
        measured.items[system.name] = items
        judgement = judge_on_dev(bench, rung, items)
        assert judgement is not None, "a whole set is always judged"
        measured.judged[system.name] = judgement
        unconstrained = grammar is not None and system.decoding.grammar is None
        if unconstrained and failures(items)["format"] and judgement.outcome != "MET":
            decoding = replace(system.decoding, grammar=grammar)
            constrained.append(replace(system, name=f"{system.name}+constrained", decoding=decoding))
    if constrained:
        _measure(bench, rung, constrained, passages, given, grammar, measured)


def _results(
    bench: Workbench, rung: str, systems: Sequence[System], passages: Passages, given: GivenPassages
) -> dict[str, list[ItemScore] | JobFailure]:
    """Each system's result on dev; also refused if its model does not support its decoding."""
    refusals: dict[str, list[ItemScore] | JobFailure] = {}
    for system in systems:
        try:
            bench.models.check(system)
        except CandidateError as error:
            refusals[system.name] = JobFailure.of(error)
    supported = [system for system in systems if system.name not in refusals]
    return refusals | bench.dev_results(rung, supported, 0, len(bench.dev), staged=True, passages=passages, given=given)


def _union(store: Store, question: str) -> tuple[Chunk, ...]:
    """The top results of each kind of search in turn, each passage once."""
    rankings = [search(store, question, k=MOST_PASSAGES, mode=mode) for mode in ("hybrid", "vector", "text")]
    chunks: dict[str, Chunk] = {}
    for rank in range(MOST_PASSAGES):
        for hits in rankings:
            if rank < len(hits):
                chunks.setdefault(hits[rank].chunk.id, hits[rank].chunk)
    return tuple(reversed(list(chunks.values())[:MOST_PASSAGES]))


def _likeliest(store: Store, question: str, chunks: Sequence[Chunk]) -> tuple[Chunk, ...]:
    """The named chunks that a search ranks highest."""
    ranks = {hit.chunk.id: rank for rank, hit in enumerate(search(store, question, k=50))}
    return tuple(reversed(sorted(chunks, key=lambda chunk: ranks.get(chunk.id, len(ranks)))[:MOST_PASSAGES]))
