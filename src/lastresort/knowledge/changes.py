"""What has changed between a store and the documents as they are now: found without embedding anything, and nothing is written."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from lastresort.knowledge.chunks import chunk_document
from lastresort.knowledge.document import Document
from lastresort.knowledge.formats import READERS
from lastresort.knowledge.reading import document_id
from lastresort.knowledge.store import Store, rows_where
from lastresort.knowledge.update import chunk_key, document_hashes, known_hashes


@dataclass(frozen=True, slots=True)
class Changes:
    """added, changed, removed: ids of documents, sorted. gone: ids of the store's chunks whose text is in no chunk any more;
    one that only moved is not among them. new_chunks: how many there are that the store does not hold. None for both where
    only files could be compared.
    """

    added: tuple[str, ...]
    changed: tuple[str, ...]
    removed: tuple[str, ...]
    gone: frozenset[str] | None = None
    new_chunks: int | None = None

    @property
    def any(self) -> bool:
        return bool(self.added or self.changed or self.removed)


def changes(store: Store, documents: Sequence[Document]) -> Changes:
    """What `update` would change. Raises DataError for two documents of one id, or where the store cannot be read."""
    wanted, known = document_hashes(documents, store), known_hashes(store)
    stale = [document for document in documents if known.get(document.id) != wanted[document.id]]
    removed = sorted(known.keys() - wanted.keys())
    touched = {*removed, *(document.id for document in stale)}
    settings, count = store.manifest.settings.chunks, store.embedder.count_tokens
    new = {chunk_key(chunk) for document in stale for chunk in chunk_document(document, settings, count)}
    rows = rows_where(store, None, ["id", "document", "key"])
    held = list(zip(*(rows[column].to_pylist() for column in ("id", "document", "key")), strict=True))
    kept = {key for _, document, key in held if document not in touched}
    return Changes(
        added=tuple(sorted(document.id for document in stale if document.id not in known)),
        changed=tuple(sorted(document.id for document in stale if document.id in known)),
        removed=tuple(removed),
        gone=frozenset(chunk for chunk, _, key in held if key not in kept | new),
        new_chunks=len(new - {key for _, _, key in held}),
    )


def file_hashes(path: Path) -> dict[str, str]:
    """Of each document's file its sha256, by the id of the document. What `read_documents` skips or refuses is left out."""
    files = [path] if path.is_file() else sorted(file for file in path.rglob("*") if _may_be_read(file, path))
    return {document_id(_name(file, path)): hashlib.sha256(file.read_bytes()).hexdigest() for file in files}


def file_changes(before: Mapping[str, str], now: Mapping[str, str]) -> Changes:
    """What has changed between two states of the files."""
    return Changes(
        added=tuple(sorted(now.keys() - before.keys())),
        changed=tuple(sorted(name for name in before.keys() & now.keys() if before[name] != now[name])),
        removed=tuple(sorted(before.keys() - now.keys())),
    )


def _name(file: Path, path: Path) -> str:
    return file.name if file == path else file.relative_to(path).as_posix()


def _may_be_read(file: Path, folder: Path) -> bool:
    hidden = any(part.startswith(".") for part in file.relative_to(folder).parts)
    return not hidden and not file.is_symlink() and file.is_file() and file.suffix.lower() in READERS
