"""Plain text."""

from __future__ import annotations

from lastresort.knowledge.document import Document
from lastresort.knowledge.formats.decoding import decoded
from lastresort.knowledge.plain import plain_blocks


def read_text(content: bytes, document_id: str, where: str) -> Document:
    text = decoded(content, where)
    return Document(document_id, text, plain_blocks(text), metadata={"format": "text"})
