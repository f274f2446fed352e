"""Documents, a counting embedder and a small PDF for tests of the knowledge store."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from lastresort.knowledge.chunks import ChunkSettings
from lastresort.knowledge.document import Document
from lastresort.knowledge.embedder import HashingEmbedder
from lastresort.knowledge.formats.text import read_markdown
from lastresort.knowledge.store import StoreSettings

SMALL = StoreSettings(ChunkSettings(size_tokens=40, overlap_tokens=8))


class CountingEmbedder(HashingEmbedder):
    """Remembers what it was asked for."""

    def __init__(self, dimensions: int = 64) -> None:
        super().__init__(dimensions)
        self.embedded: list[str] = []
        self.counted = 0

    def count_tokens(self, text: str) -> int:
        self.counted += 1
        return super().count_tokens(text)

    def embed_passages(self, texts: Sequence[str], on_done: Any = None) -> Any:
        self.embedded += texts
        return super().embed_passages(texts, on_done)


def markdown(document_id: str, text: str) -> Document:
    return read_markdown(text.encode(), document_id, document_id)


def written(folder: Path, files: dict[str, str | bytes]) -> Path:
    for name, content in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content.encode() if isinstance(content, str) else content)
    return folder


def pdf(pages: Sequence[Sequence[str]], *, title: str = "", outline: Sequence[tuple[str, int]] = ()) -> bytes:
    """A PDF with one line of text under the other; outline: titles and their pages, from 0."""
    from io import BytesIO

    from pypdf import PdfWriter
    from pypdf.generic import DecodedStreamObject, DictionaryObject, NameObject

    writer = PdfWriter()
    name = NameObject
    font = DictionaryObject(
        {name("/Type"): name("/Font"), name("/Subtype"): name("/Type1"), name("/BaseFont"): name("/Helvetica")}
    )
    resources = DictionaryObject({name("/Font"): DictionaryObject({name("/F1"): writer._add_object(font)})})
    for lines in pages:
        page = writer.add_blank_page(612, 792)
        shown = [line.replace("\\", r"\\").replace("(", r"\(").replace(")", r"\)") for line in lines]
        stream = DecodedStreamObject()
        drawn = " ".join(f"({line}) Tj 0 -14 Td" for line in shown)
        stream.set_data(f"BT /F1 11 Tf 72 720 Td {drawn} ET".encode("latin-1"))
        page[name("/Contents")] = writer._add_object(stream)
        page[name("/Resources")] = resources
    if title:
        writer.add_metadata({"/Title": title})
    for entry, page_number in outline:
        writer.add_outline_item(entry, page_number)
    file = BytesIO()
    writer.write(file)
    return file.getvalue()
