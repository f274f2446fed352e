"""Update a store to a set of documents, embedding only what changed. Or find out what has changed, without writing anything.

Each document's chunks are replaced in one commit. So a store killed at any moment holds whole documents, old or new, and the
next update resumes from there. The rows alone record what is done.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lastresort.errors import DataError
from lastresort.foreign import DOCUMENT, everything_below, read_content
from lastresort.knowledge.chunks import CHUNKER, Chunk, chunk_document
from lastresort.knowledge.document import Document
from lastresort.knowledge.reading import document_id, is_document
from lastresort.knowledge.search import COLUMN, full_text_index, searchable
from lastresort.knowledge.store import Store, any_of, rows_where, schema, table_errors, write_manifest
from lastresort.records.atomic import LockHeld, locked
from lastresort.types import SILENT, Progress

if TYPE_CHECKING:
    from lastresort.knowledge.embedder import Vectors

COMMIT_CHUNKS = 2000  # chunks per commit, at least, rounded up to whole documents; a kill loses at most one commit
INDEX_FROM_ROWS = 10_000  # with fewer, a scan of all vectors takes less than 20 ms
_NAMES_A_QUERY = 500


@dataclass(frozen=True, slots=True)
class UpdateCounts:
    """Counts of documents added, changed, removed and unchanged, and of chunks embedded and reused."""

    added: int
    changed: int
    removed: int
    unchanged: int
    embedded: int
    reused: int


def update(
    store: Store, documents: Sequence[Document], *, progress: Progress = SILENT, index_from: int = INDEX_FROM_ROWS
) -> UpdateCounts:
    """Make the store hold the chunks of these documents and no others. An unchanged store is not touched.

    index_from: number of rows from which vectors get an index.
    Raises DataError if two documents have the same id or another process is updating the store, InfrastructureError if the
    disk is full.
    """
    wanted = document_hashes(documents, store)
    with _only_writer(store.folder):
        store.reopen()
        known = stored_hashes(store)
        gone = sorted(known.keys() - wanted.keys())
        stale = [document for document in documents if known.get(document.id) != wanted[document.id]]
        done = UpdateCounts(
            added=sum(document.id not in known for document in stale),
            changed=sum(document.id in known for document in stale),
            removed=len(gone),
            unchanged=len(documents) - len(stale),
            embedded=0,
            reused=0,
        )
        if not stale and not gone and store.manifest.complete:
            return done
        write_manifest(replace(store.manifest, complete=False), store.folder)
        done = _replace(store, stale, wanted, sorted({*gone, *(document.id for document in stale)}), done, progress)
        _remove(store, gone)
        _index(store, index_from, progress)
        rows = store.table.count_rows()
        whole = replace(store.manifest, complete=True, documents=len(wanted), chunks=rows)
        write_manifest(whole, store.folder)
        store.reopen(whole)
    return done


def _replace(
    store: Store,
    stale: Sequence[Document],
    hashes: dict[str, str],
    touched: Sequence[str],
    done: UpdateCounts,
    progress: Progress,
) -> UpdateCounts:
    """Write the chunks of changed and new documents. A text that was in one of the touched documents keeps its vector."""
    if not stale:
        return done
    vectors = _vectors(store, touched)
    progress.stage("embedding documents", len(stale))
    for documents in _batches(store, stale):
        chunks = [chunk for _, found in documents for chunk in found]
        new = {chunk_key(chunk): chunk.embedded for chunk in chunks if chunk_key(chunk) not in vectors}
        if new:
            vectors.update(zip(new, store.embedder.embed_passages(list(new.values())), strict=True))
        done = replace(done, embedded=done.embedded + len(new), reused=done.reused + len(chunks) - len(new))
        rows = _rows(chunks, hashes, vectors, store.manifest.dimensions)
        names = any_of("document", [document.id for document, _ in documents])
        with table_errors(store.folder):
            merge = store.table.merge_insert("id").when_matched_update_all().when_not_matched_insert_all()
            merge.when_not_matched_by_source_delete(names).execute(rows)
        progress.advance(len(documents), f"{done.embedded} passages embedded")
    return done


def _batches(store: Store, documents: Sequence[Document]) -> Iterator[list[tuple[Document, tuple[Chunk, ...]]]]:
    batch: list[tuple[Document, tuple[Chunk, ...]]] = []
    for document in documents:
        batch.append((document, chunk_document(document, store.manifest.settings.chunks, store.embedder.count_tokens)))
        if sum(len(chunks) for _, chunks in batch) >= COMMIT_CHUNKS or len(batch) >= _NAMES_A_QUERY:
            yield batch
            batch = []
    if batch:
        yield batch


def _remove(store: Store, gone: Sequence[str]) -> None:
    for start in range(0, len(gone), _NAMES_A_QUERY):
        with table_errors(store.folder):
            store.table.delete(any_of("document", gone[start : start + _NAMES_A_QUERY]))


def _index(store: Store, index_from: int, progress: Progress) -> None:
    """Rebuild both indexes, merge small files and delete earlier versions, so removed text is gone from the disk, too.

    The full-text index is rebuilt because an updated one still counts deleted rows, and BM25 would depend on the store's history.
    """
    from lancedb.index import IvfFlat

    progress.stage("indexing")
    table = store.table
    with table_errors(store.folder):
        table.create_index(COLUMN, config=full_text_index(store.manifest.settings.language), replace=True)
        has_vectors = any("vector" in index.columns for index in table.list_indices())
        if not has_vectors and table.count_rows() >= index_from:
            table.create_index("vector", config=IvfFlat(distance_type="dot"))
        table.optimize(cleanup_older_than=timedelta(milliseconds=1), delete_unverified=True)


def document_hashes(documents: Sequence[Document], store: Store) -> dict[str, str]:
    """For each document, a hash of it and of everything else that its chunks depend on."""
    settings = store.manifest.settings.chunks
    found: dict[str, str] = {}
    for document in documents:
        if document.id in found:
            raise DataError(f'two documents with the id "{document.id}"', remedy="Give each its own name.")
        blocks = [(b.kind, b.start, b.end, b.level, b.title, b.key) for b in document.blocks]
        what = [CHUNKER, settings.size_tokens, settings.overlap_tokens, document.title, document.text, blocks]
        found[document.id] = hashlib.sha256(json.dumps(what).encode()).hexdigest()
    return found


def stored_hashes(store: Store) -> dict[str, str]:
    """For each document in the store, the hash in its rows."""
    rows = rows_where(store, None, ["document", "document_hash"])
    return dict(zip(rows["document"].to_pylist(), rows["document_hash"].to_pylist(), strict=True))


def _vectors(store: Store, documents: Sequence[str]) -> dict[str, Vectors]:
    """The vectors of these documents' chunks, by the key of their text."""
    import numpy as np

    found: dict[str, Vectors] = {}
    for start in range(0, len(documents), _NAMES_A_QUERY):
        condition = any_of("document", documents[start : start + _NAMES_A_QUERY])
        rows = rows_where(store, condition, ["key", "vector"]).combine_chunks()
        if rows.num_rows:
            values = rows["vector"].combine_chunks().flatten().to_numpy()
            vectors = np.asarray(values, np.float32).reshape(rows.num_rows, store.manifest.dimensions)
            found.update(zip(rows["key"].to_pylist(), vectors, strict=True))
    return found


def chunk_key(chunk: Chunk) -> str:
    return hashlib.sha256(chunk.embedded.encode()).hexdigest()[:32]


def _rows(chunks: Sequence[Chunk], hashes: dict[str, str], vectors: dict[str, Vectors], dimensions: int) -> Any:
    import numpy as np
    import pyarrow as pa

    keys = [chunk_key(chunk) for chunk in chunks]
    values = np.stack([vectors[key] for key in keys]).astype(np.float32)
    columns: dict[str, Any] = {
        name: [getattr(chunk, name) for chunk in chunks] for name in ("id", "document", "section", "context", "text")
    }
    columns |= {
        "headings": [list(chunk.headings) for chunk in chunks],
        "start": [chunk.start for chunk in chunks],
        "end": [chunk.end for chunk in chunks],
        "searched": [searchable(chunk.embedded) for chunk in chunks],
        "key": keys,
        "document_hash": [hashes[chunk.document] for chunk in chunks],
        "vector": pa.FixedSizeListArray.from_arrays(pa.array(values.ravel()), dimensions),
    }
    return pa.table(columns, schema=schema(dimensions))


@contextmanager
def _only_writer(folder: Path) -> Iterator[None]:
    """Allows one process at a time. A killed process releases its lock."""
    with ExitStack() as stack:
        try:
            stack.enter_context(locked(folder / ".updating"))
        except LockHeld as error:
            raise DataError(
                "another process is updating this store", where=str(folder), remedy="Wait for it, then try again."
            ) from error
        yield


@dataclass(frozen=True, slots=True)
class DocumentChanges:
    """added, changed, removed: sorted ids of documents. lost_chunks: ids of the store's chunks whose text is in no chunk any more
    (not those that only moved). new_chunks: how many chunks are not in the store. Both are None if only files were compared.
    """

    added: tuple[str, ...]
    changed: tuple[str, ...]
    removed: tuple[str, ...]
    lost_chunks: frozenset[str] | None = None
    new_chunks: int | None = None

    @property
    def any(self) -> bool:
        return bool(self.added or self.changed or self.removed)


def changes(store: Store, documents: Sequence[Document]) -> DocumentChanges:
    """What `update` would change. Raises DataError if two documents have the same id or the store cannot be read."""
    wanted, known = document_hashes(documents, store), stored_hashes(store)
    stale = [document for document in documents if known.get(document.id) != wanted[document.id]]
    removed = sorted(known.keys() - wanted.keys())
    touched = {*removed, *(document.id for document in stale)}
    settings, count = store.manifest.settings.chunks, store.embedder.count_tokens
    new = {chunk_key(chunk) for document in stale for chunk in chunk_document(document, settings, count)}
    rows = rows_where(store, None, ["id", "document", "key"])
    held = list(zip(*(rows[column].to_pylist() for column in ("id", "document", "key")), strict=True))
    kept = {key for _, document, key in held if document not in touched}
    return DocumentChanges(
        added=tuple(sorted(document.id for document in stale if document.id not in known)),
        changed=tuple(sorted(document.id for document in stale if document.id in known)),
        removed=tuple(removed),
        lost_chunks=frozenset(chunk for chunk, _, key in held if key not in kept | new),
        new_chunks=len(new - {key for _, _, key in held}),
    )


def file_hashes(path: Path) -> dict[str, str]:
    """The sha256 of each document's file, by document id. Files that `read_documents` skips or refuses are left out."""
    found = {}
    for file in [path] if path.is_file() else sorted(everything_below(path)):
        if file == path or (file.is_file() and not file.is_symlink() and is_document(path, file)):
            with suppress(DataError, OSError):
                found[document_id(_name(file, path))] = hashlib.sha256(
                    read_content(file, DOCUMENT, raised=DataError)
                ).hexdigest()
    return found


def file_changes(before: Mapping[str, str], now: Mapping[str, str]) -> DocumentChanges:
    """The changes between two states of the files."""
    return DocumentChanges(
        added=tuple(sorted(now.keys() - before.keys())),
        changed=tuple(sorted(name for name in before.keys() & now.keys() if before[name] != now[name])),
        removed=tuple(sorted(before.keys() - now.keys())),
    )


def _name(file: Path, path: Path) -> str:
    return file.name if file == path else file.relative_to(path).as_posix()
