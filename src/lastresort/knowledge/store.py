"""A knowledge store: a folder that holds chunks with their vectors and a full-text index, and store.json.

The folder can be copied; nothing in it says where it lies. One process at a time may update it, and who searches meanwhile opens
it again afterwards.
"""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from lastresort.errors import DataError, InfrastructureError
from lastresort.knowledge.chunks import Chunk
from lastresort.knowledge.embedder import Embedder, open_embedder
from lastresort.knowledge.manifest import FILE, Manifest, StoreSettings, read_manifest, write_manifest

TABLE = "chunks"
_CHUNK_COLUMNS = ["id", "document", "section", "headings", "context", "start", "end", "text"]


class Store:
    """An open store. manifest: as it was when the store was opened or last updated."""

    def __init__(self, folder: Path, manifest: Manifest, embedder: Embedder) -> None:
        self.folder, self.manifest, self.embedder = folder, manifest, embedder
        self._opened: Any = None
        self._lock = threading.Lock()

    @property
    def table(self) -> Any:
        """LanceDB's table of chunks. Raises DataError where it is missing or damaged."""
        with self._lock:
            if self._opened is None:
                with table_errors(self.folder):
                    self._opened = _database(self.folder).open_table(TABLE)
        return self._opened

    def reopen(self, manifest: Manifest | None = None) -> None:
        """See what has been written since."""
        with self._lock:
            self._opened = None
        self.manifest = manifest or read_manifest(self.folder)


def create_store(folder: Path, embedder: Embedder, settings: StoreSettings | None = None) -> Store:
    """An empty store in a folder that is empty or not there yet.

    Raises DataError where the folder holds something, or the chunks would be longer than what the embedder reads.
    """
    settings = settings or StoreSettings()
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise DataError(
            "there is something here already",
            where=str(folder),
            expected="an empty folder or none",
            remedy="Name another folder for the store.",
        )
    if settings.chunks.size_tokens > embedder.most_tokens:
        raise DataError(
            f"chunks of {settings.chunks.size_tokens} tokens",
            expected=f"at most the {embedder.most_tokens} that the embedder {embedder.name} reads",
            remedy="Choose smaller chunks or another embedder.",
        )
    manifest = Manifest(embedder.name, embedder.fingerprint, embedder.dimensions, settings, complete=True)
    write_manifest(manifest, folder)
    with table_errors(folder):
        _database(folder).create_table(TABLE, schema=schema(manifest.dimensions))
    return Store(folder, manifest, embedder)


def open_store(folder: Path, embedder: Embedder | None = None, settings: StoreSettings | None = None) -> Store:
    """An existing store. Without an embedder, the one it was made with.

    Raises DataError where there is none, it is damaged, or another embedder or other settings made it.
    """
    manifest = read_manifest(folder)
    embedder = embedder or open_embedder(manifest.embedder)
    if embedder.fingerprint != manifest.embedder_fingerprint:
        raise DataError(
            f"a store whose chunks were embedded by {manifest.embedder} "
            f"(fingerprint {manifest.embedder_fingerprint[:12]})",
            where=str(folder),
            expected=f"{embedder.name} ({embedder.fingerprint[:12]})",
            remedy="Open it with that embedder, or build a store in another folder.",
        )
    if settings is not None and settings != manifest.settings:
        raise DataError(
            f"a store made with {_in_words(manifest.settings)}",
            where=str(folder),
            expected=_in_words(settings),
            remedy="Build a store in another folder.",
        )
    store = Store(folder, manifest, embedder)
    if manifest.complete:
        with table_errors(folder):
            rows = store.table.count_rows()
        if rows != manifest.chunks:
            raise DataError(
                f"{rows} chunks",
                where=str(folder),
                expected=f"{manifest.chunks}, as {FILE} says",
                remedy="Copy the store again, or build it again.",
            )
    return store


def open_or_create_store(folder: Path, embedder: Embedder, settings: StoreSettings | None = None) -> Store:
    """The store of these settings in the folder, empty if there was none."""
    if (folder / FILE).is_file():
        return open_store(folder, embedder, settings or StoreSettings())
    return create_store(folder, embedder, settings)


def content_hash(store: Store) -> str:
    """sha256 over what a search can give: settings, embedder, and every chunk with its place, in the order of their ids.

    The same for stores of the same documents, however often and in whatever order they were updated. Vectors are stood for by
    the embedder and the text: their last bits depend on what was embedded together.
    """
    manifest = store.manifest
    whole = hashlib.sha256(f"{manifest.settings}\0{manifest.embedder_fingerprint}\n".encode())
    columns = ["id", "key", "start", "end"]
    rows = rows_where(store, None, columns)
    for row in sorted(zip(*(rows[column].to_pylist() for column in columns), strict=True)):
        whole.update("\0".join(map(str, row)).encode() + b"\n")
    return whole.hexdigest()


def chunks_of(store: Store, row_ids: Sequence[int]) -> dict[str, Chunk]:
    """The chunks of these rows by their id."""
    if not row_ids:
        return {}
    with table_errors(store.folder):
        rows = store.table.take_row_ids(list(row_ids)).select(_CHUNK_COLUMNS).to_arrow()
    return {chunk.id: chunk for chunk in _chunks(rows)}


def chunks_named(store: Store, ids: Sequence[str]) -> tuple[Chunk, ...]:
    """The chunks of these ids, in the order of the documents. Ids that are not there are left out."""
    found: list[Chunk] = []
    for start in range(0, len(ids), 500):
        found += _chunks(rows_where(store, any_of("id", ids[start : start + 500]), _CHUNK_COLUMNS))
    return tuple(sorted(found, key=lambda chunk: (chunk.document, chunk.start, chunk.id)))


def rows_where(store: Store, condition: str | None, columns: Sequence[str]) -> Any:
    """Columns of all rows for which a condition holds, as an Arrow table."""
    with table_errors(store.folder):
        query = store.table.search().select(list(columns)).limit(None)
        return (query.where(condition) if condition else query).to_arrow()


def any_of(column: str, values: Sequence[str]) -> str:
    """The condition that the column holds one of these texts."""
    listed = ", ".join("'" + value.replace("'", "''") + "'" for value in values)
    return f"{column} IN ({listed})"


def schema(dimensions: int) -> Any:
    """id, what the chunk is, what is searched, key: hash of the text that was embedded, document_hash: of its document."""
    import pyarrow as pa

    def text(name: str) -> Any:
        return pa.field(name, pa.string(), nullable=False)

    return pa.schema(
        [
            text("id"),
            text("document"),
            text("section"),
            pa.field("headings", pa.list_(pa.string()), nullable=False),
            text("context"),
            pa.field("start", pa.int64(), nullable=False),
            pa.field("end", pa.int64(), nullable=False),
            text("text"),
            text("searched"),
            text("key"),
            text("document_hash"),
            pa.field("vector", pa.list_(pa.float32(), dimensions), nullable=False),
        ]
    )


@contextmanager
def table_errors(folder: Path) -> Iterator[None]:
    """What LanceDB says of a table that it cannot read or write."""
    try:
        yield
    except (OSError, RuntimeError, ValueError) as error:
        reason = " ".join(str(error).split())[:200]
        if "No space left" in reason or "os error 28" in reason or "quota exceeded" in reason.lower():
            raise InfrastructureError(
                "the disk is full",
                where=str(folder),
                remedy="Free some space and update the store again; nothing is lost.",
            ) from error
        raise DataError(
            f"the store cannot be read or written ({reason})",
            where=str(folder),
            remedy="Check the disk and its permissions; if the store is damaged, copy it again or build it again.",
        ) from error


def _chunks(rows: Any) -> list[Chunk]:
    return [
        Chunk(**{**{column: row[column] for column in _CHUNK_COLUMNS}, "headings": tuple(row["headings"])})
        for row in rows.to_pylist()
    ]


def _database(folder: Path) -> Any:
    import lancedb

    return lancedb.connect(str(folder.resolve()))


def _in_words(settings: StoreSettings) -> str:
    chunks = settings.chunks
    return f"chunks of {chunks.size_tokens} tokens, {chunks.overlap_tokens} of overlap, language {settings.language}"
