"""The store of a climb: built once a run from the task's documents, frozen below the run, its size and time in the record."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import asdict
from pathlib import Path

from lastresort.errors import DataError
from lastresort.knowledge.chunks import ChunkSettings
from lastresort.knowledge.embedder import Embedder, open_embedder
from lastresort.knowledge.reading import read_documents
from lastresort.knowledge.store import Store, StoreSettings, content_hash, open_or_create_store, open_store
from lastresort.knowledge.update import update
from lastresort.models.open import absolute_name
from lastresort.models.protocol import estimated_tokens
from lastresort.records.atomic import LockHeld, locked
from lastresort.records.events import SkippedFile, StoreBuilt
from lastresort.rungs.rung import Workbench
from lastresort.spec.task import Task
from lastresort.systems.files import copy_store
from lastresort.types import Progress

FLOAT_BYTES = 4
MOST_BYTES_CUT = 5_000_000  # what a forecast reads and cuts in about a second


def knowledge_store(bench: Workbench) -> tuple[Store, str]:
    """The run's store and its content hash.

    Runs beside each other share one that is only brought up to date: a second climb over the same documents embeds nothing.
    What a run answers from is a copy of its own, which later changes of the documents leave alone.
    Raises DataError where the documents cannot be read, or the copy is no longer what it was.
    """
    folder = bench.folder / "store"
    noted = bench.record.last(StoreBuilt)
    if noted is None:
        noted = _built(bench, folder)
        bench.record.append(noted)
    store = open_store(folder)
    found = content_hash(store)
    if found != noted.contents:
        raise DataError(
            "the store differs from the one this run began with",
            where=str(folder),
            expected=f"contents {noted.contents[:16]}, not {found[:16]}",
            remedy="Start a new run without --resume.",
        )
    return store, found


def store_settings(task: Task) -> StoreSettings:
    keys = task.retrieval
    return StoreSettings(ChunkSettings(keys.chunk_tokens, keys.overlap_tokens), keys.language)


def _built(bench: Workbench, folder: Path) -> StoreBuilt:
    task = bench.task
    assert task.knowledge is not None, "the rung is skipped without knowledge"
    began = time.monotonic()
    reading = read_documents(task.knowledge, progress=bench.progress)
    embedder = open_embedder(absolute_name(task.retrieval.embedder, task.folder))
    settings = store_settings(task)
    shared = (bench.shared or bench.folder) / "stores" / _key(task.knowledge, embedder, settings)
    with _turn(shared, bench.progress):
        store = open_or_create_store(shared, embedder, settings)
        done = update(store, reading.documents, progress=bench.progress)
        copy_store(shared, folder)
    for skipped in reading.skipped:
        bench.progress.say(f"retrieval: {skipped.path} is not read: {skipped.reason}")
    return StoreBuilt(
        **asdict(done),
        documents=store.manifest.documents,
        chunks=store.manifest.chunks,
        skipped=tuple(SkippedFile(path=skipped.path, reason=skipped.reason) for skipped in reading.skipped),
        embedder=task.retrieval.embedder,
        embedder_fingerprint=embedder.fingerprint,
        contents=content_hash(store),
        seconds=round(time.monotonic() - began, 3),
        disk_bytes=sum(path.stat().st_size for path in folder.rglob("*") if path.is_file()),
        vector_bytes=store.manifest.chunks * store.manifest.dimensions * FLOAT_BYTES,
    )


@contextmanager
def _turn(shared: Path, progress: Progress) -> Iterator[None]:
    """Runs that want the same store take turns: who comes second finds it built."""
    shared.parent.mkdir(parents=True, exist_ok=True)
    path = shared.with_name(f"{shared.name}.lock")
    with ExitStack() as stack:
        try:
            stack.enter_context(locked(path))
        except LockHeld:
            progress.stage("retrieval: waiting for another run that builds the same store", None)
            stack.enter_context(locked(path, wait=True))
        yield


def _key(knowledge: Path, embedder: Embedder, settings: StoreSettings) -> str:
    """Name of the folder that stores of these documents, embedder and settings share."""
    what = f"{knowledge.resolve()}\0{embedder.fingerprint}\0{settings}"
    return hashlib.sha256(what.encode(errors="surrogateescape")).hexdigest()[:16]


def passage_tokens(task: Task) -> float:
    """About how long a passage is, for a forecast: the mean over the chunks of plain text, else as long as they may be."""
    from lastresort.knowledge.chunks import chunk_document

    assert task.knowledge is not None, "the rung is skipped without knowledge"
    files = (
        [task.knowledge] if task.knowledge.is_file() else [path for path in task.knowledge.rglob("*") if path.is_file()]
    )
    if sum(path.stat().st_size for path in files) > MOST_BYTES_CUT or any(path.suffix == ".pdf" for path in files):
        return float(task.retrieval.chunk_tokens)
    settings = store_settings(task).chunks
    found = [
        estimated_tokens(chunk.embedded)
        for document in read_documents(task.knowledge).documents
        for chunk in chunk_document(document, settings, estimated_tokens)
    ]
    return sum(found) / len(found)
