"""A knowledge store: a folder with chunks, their vectors, a full-text index, and store.json.

store.json says how the store was built, and whether it is complete. The folder can be copied, as nothing in it depends on its
path. One process at a time may update it. Others that search it must reopen it afterwards.
"""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from lastresort.errors import ContractError, DataError, InfrastructureError
from lastresort.foreign import read_json
from lastresort.knowledge.chunks import LANGUAGES, Chunk, ChunkSettings
from lastresort.knowledge.embedder import Embedder, open_embedder
from lastresort.records.atomic import write_atomically

FILE = "store.json"
SCHEMA = 1
# LanceDB has stemming and stop words for these. "none" uses neither.


@dataclass(frozen=True, slots=True)
class StoreSettings:
    """How documents are cut, and the language of the full-text index's stemming."""

    chunks: ChunkSettings = field(default_factory=ChunkSettings)
    language: str = "English"

    def __post_init__(self) -> None:
        if self.language not in LANGUAGES:
            raise ContractError(f'the language "{self.language}"', expected=f"one of {', '.join(LANGUAGES)}")


@dataclass(frozen=True, slots=True)
class Manifest:
    """embedder, embedder_fingerprint, dimensions: of the embedder in use. complete: false during an update."""

    embedder: str
    embedder_fingerprint: str
    dimensions: int
    settings: StoreSettings
    complete: bool = False
    documents: int = 0
    chunks: int = 0


def write_manifest(manifest: Manifest, folder: Path) -> None:
    body = {"schema": SCHEMA, **asdict(manifest)}
    write_atomically(folder / FILE, json.dumps(body, indent=1, ensure_ascii=False) + "\n")


def read_manifest(folder: Path) -> Manifest:
    """Raises DataError if there is no store in the folder, or one that this version cannot read."""
    path = folder / FILE
    try:
        body = read_json(path, raised=DataError)
        schema = body.pop("schema")
        if schema != SCHEMA:
            raise DataError(
                f"found a store of schema {schema}",
                where=str(path),
                expected=f"schema {SCHEMA}",
                remedy="Build the store again, or use the version that wrote it.",
            )
        settings = body.pop("settings")
        chunks = ChunkSettings(**settings.pop("chunks"))
        return Manifest(settings=StoreSettings(chunks=chunks, **settings), **body)
    except (FileNotFoundError, NotADirectoryError) as error:
        raise DataError(
            "no knowledge store in this folder",
            where=str(folder),
            expected=FILE,
            remedy="Build one, or correct the path.",
        ) from error
    except (OSError, ValueError, LookupError, TypeError, AttributeError, ContractError) as error:
        raise DataError(
            f"not a readable store ({type(error).__name__}: {error})",
            where=str(path),
            expected="a file written by this program",
            remedy="Build the store again.",
        ) from error


TABLE = "chunks"
_CHUNK_COLUMNS = ["id", "document", "section", "headings", "context", "start", "end", "text"]


class Store:
    """An open store. manifest: as of when the store was opened or last updated."""

    def __init__(self, folder: Path, manifest: Manifest, embedder: Embedder) -> None:
        self.folder, self.manifest, self.embedder = folder, manifest, embedder
        self._opened: Any = None
        self._lock = threading.Lock()

    @property
    def table(self) -> Any:
        """LanceDB's table of chunks. Raises DataError if it is missing or damaged."""
        with self._lock:
            if self._opened is None:
                with table_errors(self.folder):
                    self._opened = _database(self.folder).open_table(TABLE)
        return self._opened

    def reopen(self, manifest: Manifest | None = None) -> None:
        """Read what has been written since."""
        with self._lock:
            self._opened = None
        self.manifest = manifest or read_manifest(self.folder)


def create_store(folder: Path, embedder: Embedder, settings: StoreSettings | None = None) -> Store:
    """An empty store in a folder that is empty or does not exist yet.

    Raises DataError if the folder is not empty, or if the chunks would be too long for the embedder.
    """
    settings = settings or StoreSettings()
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise DataError(
            "the folder is not empty",
            where=str(folder),
            expected="an empty folder or none",
            remedy="Name another folder for the store.",
        )
    if settings.chunks.size_tokens > embedder.max_tokens:
        raise DataError(
            f"chunks of {settings.chunks.size_tokens} tokens",
            expected=f"at most the {embedder.max_tokens} that the embedder {embedder.name} reads",
            remedy="Choose smaller chunks or another embedder.",
        )
    manifest = Manifest(embedder.name, embedder.fingerprint, embedder.dimensions, settings, complete=True)
    write_manifest(manifest, folder)
    with table_errors(folder):
        _database(folder).create_table(TABLE, schema=schema(manifest.dimensions))
    return Store(folder, manifest, embedder)


def open_store(folder: Path, embedder: Embedder | None = None, settings: StoreSettings | None = None) -> Store:
    """An existing store. embedder: by default the one that it was built with.

    Raises DataError if there is none, if it is damaged, or if it was built with another embedder or other settings.
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
            f"a store made with {_described(manifest.settings)}",
            where=str(folder),
            expected=_described(settings),
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
    """sha256 over what a search can return: settings, embedder, and every chunk with its position, in the order of their ids.

    It is the same for all stores of the same documents, however they were updated. It covers the embedder and the text instead
    of the vectors, whose last bits depend on the batch.
    """
    manifest = store.manifest
    whole = hashlib.sha256(f"{manifest.settings}\0{manifest.embedder_fingerprint}\n".encode())
    columns = ["id", "key", "start", "end"]
    rows = rows_where(store, None, columns)
    for row in sorted(zip(*(rows[column].to_pylist() for column in columns), strict=True)):
        whole.update("\0".join(map(str, row)).encode() + b"\n")
    return whole.hexdigest()


def chunks_by_row(store: Store, row_ids: Sequence[int]) -> dict[str, Chunk]:
    """The chunks of these rows, by id."""
    if not row_ids:
        return {}
    with table_errors(store.folder):
        rows = store.table.take_row_ids(list(row_ids)).select(_CHUNK_COLUMNS).to_arrow()
    return {chunk.id: chunk for chunk in _chunks(rows)}


def chunks_named(store: Store, ids: Sequence[str]) -> tuple[Chunk, ...]:
    """The chunks with these ids, in the order of the documents. Unknown ids are left out."""
    found: list[Chunk] = []
    for start in range(0, len(ids), 500):
        found += _chunks(rows_where(store, any_of("id", ids[start : start + 500]), _CHUNK_COLUMNS))
    return tuple(sorted(found, key=lambda chunk: (chunk.document, chunk.start, chunk.id)))


def chunks_on_disk(folder: Path, ids: Sequence[str]) -> tuple[Chunk, ...]:
    """As `chunks_named`, from the folder of a store, whose embedder is not opened. Raises DataError where it cannot be read."""
    if not ids:
        return ()
    with table_errors(folder):
        query = _database(folder).open_table(TABLE).search().select(_CHUNK_COLUMNS).limit(None)
        return tuple(_chunks(query.where(any_of("id", ids)).to_arrow()))


def rows_where(store: Store, condition: str | None, columns: Sequence[str]) -> Any:
    """Columns of all rows that meet a condition, as an Arrow table."""
    with table_errors(store.folder):
        query = store.table.search().select(list(columns)).limit(None)
        return (query.where(condition) if condition else query).to_arrow()


def any_of(column: str, values: Sequence[str]) -> str:
    """The condition that the column is one of these texts."""
    listed = ", ".join("'" + value.replace("'", "''") + "'" for value in values)
    return f"{column} IN ({listed})"


def schema(dimensions: int) -> Any:
    """The columns of a chunk. searched: for the full-text index. key: hash of the embedded text. document_hash: its document's."""
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
    """Turns LanceDB's errors about a table into DataError, or InfrastructureError if the disk is full."""
    try:
        yield
    except (OSError, RuntimeError, ValueError) as error:
        reason = " ".join(str(error).split())[:200]
        if "No space left" in reason or "os error 28" in reason or "quota exceeded" in reason.lower():
            raise InfrastructureError(
                "the disk is full",
                where=str(folder),
                remedy="Free some space and update the store again. Nothing is lost.",
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


def _described(settings: StoreSettings) -> str:
    chunks = settings.chunks
    return f"chunks of {chunks.size_tokens} tokens, {chunks.overlap_tokens} of overlap, language {settings.language}"
