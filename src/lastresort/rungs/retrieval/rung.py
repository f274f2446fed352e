"""Retrieval: passages in the prompt. First the ceiling with the right passages, then a race of prompts and numbers of passages.

The store is built once a run from the task's documents, frozen below the run, its size and time in the record.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, replace
from pathlib import Path

from lastresort.data.held_passages import CutDocuments, cut_documents
from lastresort.errors import CandidateError, DataError
from lastresort.evals.measure import mean_score
from lastresort.foreign import everything_below
from lastresort.knowledge.chunks import ChunkSettings
from lastresort.knowledge.embedder import Embedder, open_embedder
from lastresort.knowledge.reading import read_documents
from lastresort.knowledge.search import Mode, measure
from lastresort.knowledge.sentence_models import Reranker, open_reranker
from lastresort.knowledge.store import Store, StoreSettings, content_hash, open_or_create_store, open_store
from lastresort.knowledge.update import update
from lastresort.models.open import absolute_name
from lastresort.models.protocol import estimated_tokens
from lastresort.records.atomic import LockHeld, locked
from lastresort.records.events.search import (
    CeilingMeasured,
    SearchesMeasured,
    SearchScores,
    SkippedFile,
    StoreBuilt,
    SystemFrozen,
)
from lastresort.records.record import ItemScore
from lastresort.records.rungs import KnowledgeNotInPrompt, NoKnowledge, OutOfReach, SearchAlone, Skip, WithPassages
from lastresort.rungs.forecast import Forecast, Workload, answering
from lastresort.rungs.notes import PlainClosedBook
from lastresort.rungs.prompting.prompts import (
    grammar_of,
    instruction,
    prompting_decoding,
    shots_of,
    with_shots,
)
from lastresort.rungs.race import Race, stretches
from lastresort.rungs.retrieval.ceiling import MOST_PASSAGES, Ceiling, measure_ceiling, right_passages
from lastresort.rungs.rung import GivenUp, Search, Workbench
from lastresort.spec.task import Task
from lastresort.stop import Stop, check
from lastresort.systems.compose import conversation, question_of
from lastresort.systems.files import copy_store, load_system
from lastresort.systems.system import PromptDesign, Retriever, System
from lastresort.types import Example, Progress

FLOAT_BYTES = 4
MOST_BYTES_CUT = 5_000_000  # what a forecast reads and cuts in about a second


def knowledge_store(bench: Workbench) -> tuple[Store, str]:
    """The run's store and its content hash.

    Neighbouring runs share one, which is only brought up to date: a second climb over the same documents embeds nothing.
    What a run answers from is a copy of its own, which later changes of the documents leave alone.
    Raises DataError where the documents cannot be read, or the copy is no longer what it was.
    """
    folder = bench.folder / "store"
    store_built = bench.record.last(StoreBuilt)
    if store_built is None:
        store_built = _built(bench, folder)
        bench.record.append(store_built)
    store = open_store(folder)
    contents = content_hash(store)
    if contents != store_built.contents:
        raise DataError(
            "the store differs from the one this run began with",
            where=str(folder),
            expected=f"contents {store_built.contents[:16]}, not {contents[:16]}",
            remedy="Start a new run without --resume.",
        )
    return store, contents


def store_settings(task: Task) -> StoreSettings:
    keys = task.retrieval
    return StoreSettings(ChunkSettings(keys.chunk_tokens, keys.overlap_tokens), keys.language)


def cut_for(task: Task) -> CutDocuments:
    """The documents of a task as its store cuts them, but for the embedder's count of tokens; none without `knowledge`."""
    if task.knowledge is None:
        return CutDocuments()
    reading = read_documents(task.knowledge)
    documents = cut_documents(reading.documents, store_settings(task).chunks, estimated_tokens)
    return replace(documents, skipped=tuple(skip.path for skip in reading.skipped))


def _built(bench: Workbench, folder: Path) -> StoreBuilt:
    task = bench.task
    assert task.knowledge is not None, "the rung is skipped without knowledge"
    start_s = time.monotonic()
    reading = read_documents(task.knowledge, progress=bench.progress)
    embedder = open_embedder(absolute_name(task.retrieval.embedder, task.folder))
    settings = store_settings(task)
    shared_store = (bench.shared or bench.folder) / "stores" / _key(task.knowledge, embedder, settings)
    with _turn(shared_store, bench.progress, bench.stop):
        store = open_or_create_store(shared_store, embedder, settings)
        changes = update(store, reading.documents, progress=bench.progress)
        copy_store(shared_store, folder)
    for skipped in reading.skipped:
        bench.say("retrieval", SkippedFile(path=skipped.path, reason=skipped.reason))
    return StoreBuilt(
        **asdict(changes),
        documents=store.manifest.documents,
        chunks=store.manifest.chunks,
        skipped=tuple(SkippedFile(path=skipped.path, reason=skipped.reason) for skipped in reading.skipped),
        embedder=task.retrieval.embedder,
        embedder_fingerprint=embedder.fingerprint,
        contents=content_hash(store),
        seconds=round(time.monotonic() - start_s, 3),
        disk_bytes=sum(path.stat().st_size for path in folder.rglob("*") if path.is_file()),
        vector_bytes=store.manifest.chunks * store.manifest.dimensions * FLOAT_BYTES,
    )


@contextmanager
def _turn(shared_store: Path, progress: Progress, stop: Stop) -> Iterator[None]:
    """Runs that want the same store take turns: who comes second finds it built. A request to stop ends the wait."""
    shared_store.parent.mkdir(parents=True, exist_ok=True)
    path, waits = shared_store.with_name(f"{shared_store.name}.lock"), False
    with ExitStack() as stack:
        while True:
            try:
                stack.enter_context(locked(path))
                break
            except LockHeld:
                check(stop)
            if not waits:
                progress.stage("retrieval: waiting for another run that builds the same store", None)
                waits = True
        yield


def _key(knowledge: Path, embedder: Embedder, settings: StoreSettings) -> str:
    """Name of the folder that stores of these documents, embedder and settings share."""
    text = f"{knowledge.resolve()}\0{embedder.fingerprint}\0{settings}"
    return hashlib.sha256(text.encode(errors="surrogateescape")).hexdigest()[:16]


def passage_tokens(task: Task) -> float:
    """About how long a passage is, for a forecast: the mean over the chunks of plain text, else as long as they may be."""
    from lastresort.knowledge.chunks import chunk_document

    assert task.knowledge is not None, "the rung is skipped without knowledge"
    below = [task.knowledge] if task.knowledge.is_file() else everything_below(task.knowledge)
    files = [path for path in below if path.is_file()]
    if sum(path.stat().st_size for path in files) > MOST_BYTES_CUT or any(path.suffix == ".pdf" for path in files):
        return float(task.retrieval.chunk_tokens)
    settings = store_settings(task).chunks
    chunk_tokens = [
        estimated_tokens(chunk.embedded)
        for document in read_documents(task.knowledge).documents
        for chunk in chunk_document(document, settings, estimated_tokens)
    ]
    return sum(chunk_tokens) / len(chunk_tokens)


SHOTS = 3
CHOSEN_SHOTS = 5  # at most, of the prompt that prompting chose: fixed ones come with passages of their own


class RetrievalRung:
    """Prompts with the results of a hybrid search: zero-shot, few-shot, and the prompt that prompting chose."""

    name = "retrieval"

    def skip_reason(self, task: Task, train: Sequence[Example]) -> Skip | None:
        if task.knowledge is None:
            return NoKnowledge()
        if task.use.context == "forbidden":
            return KnowledgeNotInPrompt()
        return None

    def forecast(self, task: Task, work: Workload) -> Forecast:
        """The ceiling as if no right passage were named, then all candidates on the first stretch of dev and the more expensive
        half on the next; passages of the chunk size, answers as long as allowed.
        """
        passage, shot = passage_tokens(task), work.input_tokens + work.output_tokens

        def asking(label: str, n: int, k: int, shots: int) -> Forecast:
            shared = work.instruction_tokens + shots * (shot + k * passage)
            return answering(
                label, work.machine, n, shared + work.input_tokens + k * passage, shared, work.max_new_tokens
            )

        shot_counts = (0, SHOTS, CHOSEN_SHOTS) if "prompting" in task.ladder else (0, SHOTS)
        ways = [(k, shots) for k in task.retrieval.k for shots in shot_counts]
        alive = sorted(ways, key=lambda way: way[0] * (1 + way[1]), reverse=True)
        costliest = alive[0]
        total = Forecast(0, 0, 0, 0.0, 0.0)
        if "prompting" not in task.ladder:
            total += asking("closed book, on dev", work.n_dev, 0, 0)
        for shots in (*shot_counts, *shot_counts[-1:]) if grammar_of(task) is not None else shot_counts:
            total += asking(f"with the right passages, {shots} shots, on dev", work.n_dev, MOST_PASSAGES, shots)
        for start, stop in stretches(work.n_dev, len(alive)):
            for k, shots in alive:
                total += asking(f"{k} passages, {shots} shots, on dev items {start + 1}-{stop}", stop - start, k, shots)
            alive = alive[: max(2, -(-len(alive) // 2))]
        if grammar_of(task) is not None:
            total += asking("the best again, held to the form, on dev", work.n_dev, *costliest)
        return total + asking("test of the chosen", work.n_test, *costliest)

    def search(self, bench: Workbench) -> Search | GivenUp:
        store, contents = knowledge_store(bench)
        name = reranker_name(bench.task)
        reranker = None if name is None else open_reranker(name)
        pinned = "" if reranker is None else reranker.fingerprint
        retriever = Retriever(bench.folder / "store", 1, reranker=name, contents=contents, reranker_fingerprint=pinned)
        searches = _measure_search(bench, store, reranker)
        bases = base_systems(bench)
        ceiling = self._ceiling(bench, store, bases, retriever)
        if ceiling.below_the_bar:
            return GivenUp(OutOfReach(bench.task.bar, ceiling.named, ceiling.systems, bench.judged_miss))
        systems = [
            replace(base, name=f"{base.name}+{k}-passage{'s' if k > 1 else ''}", retriever=replace(retriever, k=k))
            for k in bench.task.retrieval.k
            for base in bases
        ]
        race = Race(bench, self.name, systems, "ways of using passages")
        race.run()
        if (nothing := race.nothing_left()) is not None:
            return GivenUp(nothing)
        search = race.conclude(grammar_of(bench.task))
        passages = WithPassages(ceiling.named, ceiling.systems, ceiling.dropped)
        return replace(search, findings=(*search.findings, SearchAlone(tuple(searches)), passages))

    def _ceiling(self, bench: Workbench, store: Store, bases: Sequence[System], retriever: Retriever) -> Ceiling:
        """Measured and recorded once per run."""
        closed = self._closed_book(bench, bases[0])
        passages = right_passages(store, (*bench.dev, *_shot_examples(bases, bench.train)))
        ceiling = measure_ceiling(bench, self.name, bases, retriever, passages, closed, grammar_of(bench.task))
        if bench.record.last(CeilingMeasured) is None:
            labelled = sum(bool(example.passages) for example in bench.dev)
            ceiling_measured = CeilingMeasured(
                labelled=labelled,
                n=len(bench.dev),
                closed_book=mean_score(closed),
                systems=ceiling.systems,
                dropped=ceiling.dropped,
                knowledge=tuple(sorted(ceiling.knowledge)),
            )
            bench.record.append(ceiling_measured)
        return ceiling

    def _closed_book(self, bench: Workbench, plain: System) -> list[ItemScore]:
        """Dev answered without passages: by the prompt that prompting chose, else by the plain one."""
        frozen = bench.record.last(SystemFrozen, "prompting")
        if frozen is not None:
            items = bench.record.dev_items("prompting", frozen.name)
            if len(items) == len(bench.dev):
                return list(items.values())
            try:  # its race ended before the end of dev
                return self._measure_closed_book(bench, load_system(bench.candidate_folder("prompting", frozen.name)))
            except CandidateError as error:
                bench.say(self.name, PlainClosedBook(str(error)))
        return self._measure_closed_book(bench, plain)

    def _measure_closed_book(self, bench: Workbench, system: System) -> list[ItemScore]:
        bench.progress.stage(f"{self.name}: closed book on dev", len(bench.dev))
        return bench.dev_scores(self.name, replace(system, name="closed-book"), given="none")


def base_systems(bench: Workbench) -> list[System]:
    """The systems that get passages: zero-shot, few-shot, and the one that prompting chose, with 5 shots at most."""
    task = bench.task
    decoding = prompting_decoding(task, bench.max_new_tokens)
    plain = PromptDesign(instruction(task))
    designs = {"zero-shot": plain}
    pool = shots_of(bench.train, task.split.seed)
    if len(pool) >= SHOTS:
        designs[f"few-shot-{SHOTS}"] = replace(plain, shots=pool[:SHOTS], k=SHOTS)
    kwargs = task.chat_template_kwargs
    systems = [
        System(name, bench.models.base_name, design, decoding, template_kwargs=kwargs)
        for name, design in designs.items()
    ]
    frozen = bench.record.last(SystemFrozen, "prompting")
    if frozen is not None:
        system = load_system(bench.candidate_folder("prompting", frozen.name))
        if system.prompt.k > CHOSEN_SHOTS:
            system = with_shots(system, CHOSEN_SHOTS, pool)
        if all((system.prompt, system.decoding) != (base.prompt, base.decoding) for base in systems):
            systems.append(system)
    return systems


def reranker_name(task: Task) -> str | None:
    name = task.retrieval.reranker
    return None if name is None else absolute_name(name, task.folder)


def _shot_examples(bases: Sequence[System], train: Sequence[Example]) -> list[Example]:
    """The training examples used as shots whose passages are named."""
    shot_inputs = {
        conversation(shot.input) for base in bases if base.prompt.selection == "fixed" for shot in base.prompt.shots
    }
    return [example for example in train if example.passages and conversation(example.input) in shot_inputs]


def _measure_search(bench: Workbench, store: Store, reranker: Reranker | None) -> Sequence[SearchScores]:
    """How well each kind of search finds the passages that dev names; nothing if dev names none."""
    searches_measured = bench.record.last(SearchesMeasured)
    if searches_measured is not None:
        return searches_measured.searches
    questions = [question_of(example.input) for example in bench.dev]
    passages = [example.passages for example in bench.dev]
    searches: list[SearchScores] = []
    if any(passages):
        modes: list[tuple[Mode, Reranker | None]] = [(mode, None) for mode in ("hybrid", "vector", "text")]
        if reranker is not None:
            modes.append(("hybrid", reranker))
        for mode, judge in modes:
            bench.progress.stage(f"retrieval: searching ({mode}), dev", None)
            searches.append(measure(store, questions, passages, mode=mode, reranker=judge))
    bench.record.append(SearchesMeasured(searches=tuple(searches)))
    return searches
