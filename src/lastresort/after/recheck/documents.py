"""Documents that changed since a run: which recorded answers depend on them, and what a winner that reads them answers now.

Whether recorded answers are stale is decided without model and disk.
"""

from __future__ import annotations

import hashlib
import json
import re
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from lastresort.after.recheck.finished import FinishedRun, MeasuredWinner, count, earlier_number, next_number
from lastresort.after.recheck.models import RecheckModels
from lastresort.climb.identity import documents_of
from lastresort.errors import DataError, InputError
from lastresort.knowledge.document import Document
from lastresort.knowledge.labels import Labels
from lastresort.knowledge.reading import read_documents
from lastresort.knowledge.store import Store, chunks_named, content_hash, open_store
from lastresort.knowledge.update import DocumentChanges, changes, document_hashes, file_changes, file_hashes, update
from lastresort.records.events.search import StoreBuilt
from lastresort.records.measurement import ItemScore
from lastresort.report.recheck import (
    AffectedItem,
    DocumentsChanged,
    Freshness,
    ItemsResting,
    KnowledgeChanged,
    PassagesChanged,
    RecheckFindings,
    RunWinner,
    Standing,
)
from lastresort.report.words import recheck as words
from lastresort.systems.files import copy_store
from lastresort.systems.running import no_winner
from lastresort.types import Progress


@dataclass(frozen=True, slots=True)
class AffectedAnswer:
    """A recorded answer and what of its passages changed.

    named: whether the test item names its passages. changed: passages that it names, or that were in its prompt, and that have
    changed. standing: whether the answer, which was in one of these word for word, is still in its document; UNKNOWN where it was
    not, or where only files could be compared. answer_now, score_now: with today's documents, None where it was not answered again.
    """

    id: str
    named: bool
    changed: tuple[str, ...]
    answer: str
    score: float
    standing: Standing = "UNKNOWN"
    answer_now: str | None = None
    score_now: float | None = None

    @property
    def differs(self) -> bool:
        return self.answer_now is not None and self.answer_now.strip() != self.answer.strip()


@dataclass(frozen=True, slots=True)
class Staleness:
    """yes: whether the answers still hold, None where that is open."""

    verdict: Freshness
    yes: bool | None
    answer: str
    reasons: tuple[str, ...]


def staleness(winner: str, changes: DocumentChanges, items: Sequence[AffectedAnswer]) -> Staleness:
    """winner: in words. items: every recorded answer to a test item, with the new one where the winner reads documents."""
    if not changes.any:
        return Staleness("CURRENT", True, words.unchanged_answer(), ())
    n, touched = len(items), [item for item in items if item.changed]
    changed, passages = words.changes_reason(changes), _touched_reasons(items, touched)
    if any(item.answer_now is not None for item in items):
        differing, reasons = sum(item.differs for item in items), (changed, *_score_reasons(items), *passages)
        if not differing:
            return Staleness("CURRENT", True, words.same_answers(winner, n), reasons)
        return Staleness("STALE", False, words.other_answers(winner, differing, n), reasons)
    reasons = (changed, *passages, words.no_reading_reason(winner))
    gone = sum(item.standing == "GONE" and item.score >= 1 for item in touched)
    if gone:
        return Staleness("STALE", False, words.gone_answer(gone), reasons)
    if touched:
        return Staleness("CANNOT_TELL", None, words.to_read_answer(len(touched), n), reasons)
    unnamed = sum(not item.named for item in items)
    if unnamed:
        return Staleness("CANNOT_TELL", None, words.unnamed_answer(unnamed, n), reasons)
    return Staleness("CURRENT", True, words.untouched_answer(n), reasons)


def standing(answer: str, before: Sequence[str], now: str) -> Standing:
    """Whether an answer that was in one of the texts `before`, as words of their own, is in `now`."""
    said = _folded(answer)
    if not said or not any(_holds(_folded(text), said) for text in before):
        return "UNKNOWN"
    return "STANDS" if _holds(_folded(now), said) else "GONE"


def _touched_reasons(items: Sequence[AffectedAnswer], touched: Sequence[AffectedAnswer]) -> list[str]:
    kinds: tuple[Standing, ...] = ("STANDS", "GONE", "UNKNOWN")
    right = {kind: sum(item.standing == kind and item.score >= 1 for item in touched) for kind in kinds}
    return words.touched_reasons(len(items), len(touched), right)


def _score_reasons(items: Sequence[AffectedAnswer]) -> list[str]:
    """Before and after. The items whose passages did not change show what new passages do to them."""
    reasons = []
    for changed in (False, True):
        part = [item for item in items if bool(item.changed) == changed and item.score_now is not None]
        if part:
            before = sum(item.score for item in part) / len(part)
            now = sum(item.score_now or 0.0 for item in part) / len(part)
            differing = sum(item.differs for item in part)
            reasons.append(words.score_reason(len(part), before, now, differing, changed=changed))
    return reasons


def _folded(text: str) -> str:
    return " ".join(text.casefold().split())


def _holds(text: str, said: str) -> bool:
    return re.search(rf"(?<!\w){re.escape(said)}(?!\w)", text) is not None


COPY = "recheck-store"  # of the winner's store, brought up to date; gone at the end


@dataclass(frozen=True, slots=True)
class _Comparison:
    """Today's documents against those of the run. named: ids of items whose labels all name something that was there. changed: the
    passages of each item that changed. standing: of its answer. key: of the documents. documents: () where only files could be
    compared.
    """

    changes: DocumentChanges
    named: frozenset[str]
    changed: dict[str, tuple[str, ...]]
    standing: dict[str, Standing]
    key: str
    documents: tuple[Document, ...] = ()


def recheck_documents(
    finished: FinishedRun, documents: Path | None, models: RecheckModels, progress: Progress
) -> RecheckFindings:
    """Whether the winner's recorded answers still hold with these documents, by default those that the task names.

    Neither the run's store nor the winner's is touched. Raises InputError or DataError where there is nothing to compare.
    """
    winner = finished.winner
    if winner is None:
        raise no_winner(finished.folder, finished.decision, "a run with one, or --model NEW")
    path = documents or finished.knowledge
    if path is None:
        raise InputError(
            "the task of the run names no knowledge that could have changed",
            where=str(finished.folder),
            expected="--model NEW, --prompt FILE or --knowledge DIR",
            remedy="Name what is new.",
        )
    now = _compared(finished, winner, path, progress)
    number = earlier_number(finished.record, now.key) or next_number(finished.record, looks=False)
    count(finished.record, now.key, number, "documents")
    again: Sequence[ItemScore] | None = None
    if winner.system.retriever is not None and now.changes.any:
        again = _answer_again(finished, winner, now.documents, models, progress)
    items = _items(winner, now, again)
    outcome = staleness(f"{winner.rung} ({winner.system.name})", now.changes, items)
    return RecheckFindings(
        kind="knowledge",
        number=number.number,
        verdict=outcome.verdict,
        yes=outcome.yes,
        answer=outcome.answer,
        reasons=outcome.reasons,
        notes=(words.scores_note(),) if again else (),
        new=None,
        look=None,
        winner=RunWinner(
            rung=winner.rung,
            kind=winner.kind,
            name=winner.system.name,
            test=finished.winner_test,
            recorded=len(winner.items),
            answered_now=len(again or ()),
            prompt_tokens=None,
        ),
        tried=(),
        dropped=(),
        knowledge=_entry(winner, path, now.changes, items),
    )


def _compared(finished: FinishedRun, winner: MeasuredWinner, path: Path, progress: Progress) -> _Comparison:
    retriever = winner.system.retriever
    folder = finished.folder / "store" if retriever is None else retriever.store  # the winner has a copy of its own
    if retriever is not None or (finished.record.last(StoreBuilt) is not None and folder.is_dir()):
        return _by_passage(finished, winner, open_store(folder), path, progress)
    before = documents_of(finished.record)
    if before is None:
        raise DataError(
            "the run recorded neither passages nor documents to compare with",
            where=str(finished.folder),
            expected="a run of a task with knowledge",
            remedy="Add the documents to the task and climb again.",
        )
    if not path.exists():
        raise DataError("no such file or folder", where=str(path), remedy="Check the path.")
    return _by_file(finished, winner, before, file_hashes(path))


def _by_passage(
    finished: FinishedRun, winner: MeasuredWinner, store: Store, path: Path, progress: Progress
) -> _Comparison:
    """The passages of the run's store against those that would be cut today."""
    documents = read_documents(path, progress=progress).documents
    difference = changes(store, documents)
    assert difference.lost_chunks is not None, "a store knows its passages"
    labels = Labels.of_store(store)
    texts = {document.id: document.text for document in documents}
    labelled: set[str] = set()
    changed: dict[str, tuple[str, ...]] = {}
    standings: dict[str, Standing] = {}
    for item, example in zip(winner.items, finished.order, strict=False):
        meant = [_meant(labels, label) for label in example.passages]
        labelled_chunks = frozenset[str]().union(*meant)
        labelled |= {item.id} if meant and all(meant) else set()
        touched = sorted((labelled_chunks | set(item.passages)) & difference.lost_chunks)
        changed[item.id] = tuple(touched)
        if touched:
            chunks = chunks_named(store, touched)
            text = "\n".join(texts.get(document, "") for document in sorted({chunk.document for chunk in chunks}))
            standings[item.id] = standing(item.answer, [chunk.text for chunk in chunks], text)
    key = _key(finished, document_hashes(documents, store))
    return _Comparison(difference, frozenset(labelled), changed, standings, key, documents)


def _by_file(
    finished: FinishedRun, winner: MeasuredWinner, before: Mapping[str, str], now: Mapping[str, str]
) -> _Comparison:
    """Where the run has no store: which files changed. A label counts as the whole document that it names."""
    difference = file_changes(before, now)
    touched = {*difference.changed, *difference.removed}
    pairs = list(zip(winner.items, finished.order, strict=False))
    changed = {
        item.id: tuple(label for label in example.passages if _document(label) in touched) for item, example in pairs
    }
    known = {label for _, example in pairs for label in example.passages if _document(label) in before}
    labelled = {item.id for item, example in pairs if example.passages and known.issuperset(example.passages)}
    return _Comparison(difference, frozenset(labelled), changed, {}, _key(finished, now))


def _answer_again(
    finished: FinishedRun,
    winner: MeasuredWinner,
    documents: Sequence[Document],
    models: RecheckModels,
    progress: Progress,
) -> list[ItemScore]:
    """What the winner answers now to the test items whose prompt changed, from a copy of its store that is brought up to date. It
    would answer the others as before.
    """
    retriever = winner.system.retriever
    assert retriever is not None
    folder = finished.folder / COPY
    copy_store(retriever.store, folder)
    store = open_store(folder)
    update(store, documents, progress=progress)
    system = replace(winner.system, retriever=replace(retriever, store=folder, contents=content_hash(store)))
    order = finished.order[: len(winner.items)]
    opened = models.of_run()
    try:
        before, now = opened.answerer(winner.system), opened.answerer(system)
        changed = [example for example in order if before.prompt(example.input) != now.prompt(example.input)]
        progress.stage(f"{winner.rung}: {system.name} with today's documents", len(changed))
        return [item for batch in models.measured(opened, system, changed, models.scorer(opened)) for item in batch]
    finally:
        opened.close()
        shutil.rmtree(folder, ignore_errors=True)


def _items(winner: MeasuredWinner, now: _Comparison, again: Sequence[ItemScore] | None) -> list[AffectedAnswer]:
    """again: the new answers; None where the winner reads no documents."""
    later = {} if again is None else {item.id: item for item in (*winner.items, *again)}
    return [
        AffectedAnswer(
            id=item.id,
            named=item.id in now.named,
            changed=now.changed[item.id],
            answer=item.answer,
            score=item.score,
            standing=now.standing.get(item.id, "UNKNOWN"),
            answer_now=later[item.id].answer if item.id in later else None,
            score_now=later[item.id].score if item.id in later else None,
        )
        for item in winner.items
    ]


def _entry(
    winner: MeasuredWinner, path: Path, found: DocumentChanges, items: Sequence[AffectedAnswer]
) -> KnowledgeChanged:
    gone, new = found.lost_chunks, found.new_chunks
    again = any(item.answer_now is not None for item in items)
    return KnowledgeChanged(
        path=path.name,
        compared="files" if gone is None else "passages",
        documents=DocumentsChanged(added=found.added, changed=found.changed, removed=found.removed),
        passages=None if gone is None or new is None else PassagesChanged(gone=tuple(sorted(gone)), new=new),
        items=ItemsResting(
            n=len(items),
            named=sum(item.named for item in items),
            resting_on_changed=sum(bool(item.changed) for item in items),
            differing=sum(item.differs for item in items) if again else None,
        ),
        affected=_affected(winner, items),
    )


def _affected(winner: MeasuredWinner, items: Sequence[AffectedAnswer]) -> tuple[AffectedItem, ...]:
    asked = {item.id: item for item in winner.items}
    return tuple(
        AffectedItem.from_fields_of(
            item, input=asked[item.id].input, expected=asked[item.id].expected, passages=item.changed
        )
        for item in items
        if item.changed or item.differs
    )


def _key(finished: FinishedRun, hashes: Mapping[str, str]) -> str:
    winner = finished.decision.winner
    what = [None if winner is None else winner.sha256, sorted(hashes.items())]
    return hashlib.sha256(json.dumps(what).encode()).hexdigest()


def _meant(labels: Labels, label: str) -> frozenset[str]:
    """The chunks of a label; none for one that names nothing, which a climb does not check in test."""
    try:
        return labels.chunks(label)
    except DataError:
        return frozenset()


def _document(label: str) -> str:
    return label.split("#", 1)[0]
