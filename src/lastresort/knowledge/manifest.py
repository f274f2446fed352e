"""store.json: how a store was built, and whether it is complete."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path

from lastresort.errors import ContractError, DataError
from lastresort.knowledge.chunks import ChunkSettings
from lastresort.records.atomic import write_atomically

FILE = "store.json"
SCHEMA = 1
# LanceDB has stemming and stop words for these. "none" uses neither.
LANGUAGES = (
    "Arabic Danish Dutch English Finnish French German Greek Hungarian Italian Norwegian Portuguese Romanian Russian Spanish "
    "Swedish Tamil Turkish none"
).split()


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
        body = json.loads(path.read_text(encoding="utf-8"))
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
