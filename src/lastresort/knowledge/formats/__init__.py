"""How each file type becomes a document. A new type is one file and its lines here."""

from __future__ import annotations

from collections.abc import Callable

from lastresort.knowledge.document import Document
from lastresort.knowledge.formats.entries import read_json, read_json_lines, read_table
from lastresort.knowledge.formats.html import read_html
from lastresort.knowledge.formats.pdf import read_pdf
from lastresort.knowledge.formats.text import read_markdown, read_text

Reader = Callable[[bytes, str, str], Document]  # content, the document's id, and where it is, for errors

READERS: dict[str, Reader] = {
    ".md": read_markdown,
    ".markdown": read_markdown,
    ".txt": read_text,
    ".text": read_text,
    ".html": read_html,
    ".htm": read_html,
    ".xhtml": read_html,
    ".pdf": read_pdf,
    ".json": read_json,
    ".jsonl": read_json_lines,
    ".ndjson": read_json_lines,
    ".csv": read_table,
    ".tsv": read_table,
}

__all__ = ["READERS", "Reader"]
