"""PDF: the text of its pages, under the headings of its outline."""

from __future__ import annotations

import base64
import io
import logging
import re
import zlib
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from lastresort.apart import TooMuch, answer_apart, spent
from lastresort.errors import DataError
from lastresort.knowledge.document import Document, DocumentBuilder
from lastresort.libraries import quiet_logger
from lastresort.types import JsonObject

_DAMAGE = (ValueError, LookupError, TypeError, AttributeError, RecursionError, NotImplementedError, OSError, zlib.error)
MOST_PAGES = 5_000  # reading them takes a few seconds to a few minutes
_PAGE_LEVEL = 99
_EDGE_LINES = 2  # at the top and the bottom of a page, where running titles and page numbers stand
_BROKEN_WORD = re.compile(r"(?<=[^\W\d_])[-\u00ad]\n(?=[a-zß-öø-ÿ])")


def read_pdf(content: bytes, document_id: str, where: str) -> Document:
    """Each page is a section, `manual.pdf#page-12`. Its headings are the outline entries above it.

    Running titles (lines at the edge of more than half of the pages, ignoring page numbers) and hyphens of broken words are
    removed. A scanned page has no text. Raises DataError if the file is protected or damaged, and if it unpacks to more than can be
    read in the time and memory of a PDF of its size.
    """
    most_s = MOST_S + MOST_S_PER_MB * len(content) / 1e6
    try:
        found = answer_apart(
            _EXTRACT, base64.b64encode(content).decode(), most_s=most_s, most_bytes=MOST_BYTES, imports=True
        )
    except TooMuch as error:
        raise DataError(
            f"reading its {len(content):,} bytes {spent(error, most_s, MOST_BYTES)}",
            where=where,
            expected="a PDF with pages of text",
            remedy="Print it into a new PDF, or leave it out.",
        ) from error
    if "found" in found:
        raise DataError(**found, where=where)
    return _document(found, document_id)


MOST_S, MOST_S_PER_MB = 10.0, 100.0
"""Of the processor. Pages of text take about 10 s for each MB of the file."""
MOST_BYTES = 6 * 2**30  # of address space; a file of 256 MiB is in it some five times
_EXTRACT = "from lastresort.knowledge.formats.pdf import extracted as answer"


def extracted(packed: str) -> JsonObject:
    """What is written in a PDF, given in base64: the text of its pages, its outline by page, its title. Or the parts of a sentence
    that says why nothing can be read of it.
    """
    from pypdf.errors import DependencyError

    try:
        with quiet_logger("pypdf", logging.CRITICAL):  # it reports every oddity that it can live with
            return _extracted(base64.b64decode(packed))
    except DependencyError as error:
        return _refusal(f"the file is encrypted ({error})", "Save a copy that is not, or install cryptography.")
    except MemoryError:
        raise
    except Exception as error:  # noqa: BLE001  what the library raises of a damaged file is of any type
        reason = str(error).strip().split("\n")[0] or type(error).__name__
        return _refusal(
            f"found a file that is not a PDF or is damaged ({reason})", "Open it and save it again, or leave it out."
        )


def _refusal(found: str, remedy: str, expected: str = "") -> JsonObject:
    return {"found": found, "expected": expected, "remedy": remedy}


def _extracted(content: bytes) -> JsonObject:
    from pypdf import PdfReader

    reader = PdfReader(io.BytesIO(content))
    if reader.is_encrypted and not reader.decrypt(""):
        return _refusal("the file is protected by a password", "Save a copy without one.")
    if len(reader.pages) > MOST_PAGES:
        return _refusal(
            f"found {len(reader.pages):,} pages", "Split it into several files.", expected=f"at most {MOST_PAGES:,}"
        )
    pages = [page.extract_text() or "" for page in reader.pages]
    title = str(reader.metadata.title or "") if reader.metadata else ""
    return {"pages": pages, "outline": list(_outline(reader).items()), "title": title}


def _document(found: Mapping[str, Any], document_id: str) -> Document:
    pages: list[str] = found["pages"]
    running = _running_titles(pages)
    headings = dict(found["outline"])
    text = DocumentBuilder()
    for number, page in enumerate(pages, start=1):
        for level, title in headings.get(number - 1, ()):
            text.heading(title, level, shown=False)
        text.heading(f"page {number}", _PAGE_LEVEL, key=f"page-{number}", shown=False)
        text.add_plain(_BROKEN_WORD.sub("", "\n".join(_without(running, page.split("\n")))))
    details = {"format": "pdf", "pages": str(len(pages))}
    return Document(document_id, text.text, tuple(text.blocks), found["title"].strip(), details)


def _outline(reader: Any) -> dict[int, list[tuple[int, str]]]:
    """For each page, from 0, the outline entries that begin on it, as level and title. A broken outline counts as none."""
    found: dict[int, list[tuple[int, str]]] = {}

    def walk(entries: Sequence[Any], level: int) -> None:
        for entry in entries:
            if isinstance(entry, list):
                walk(entry, level + 1)
            elif (page := reader.get_destination_page_number(entry)) is not None and page >= 0:
                found.setdefault(page, []).append((level, str(entry.title)))

    from pypdf.errors import PyPdfError

    try:
        walk(reader.outline, 1)
    except (PyPdfError, *_DAMAGE):
        return {}
    return found


def _running_titles(pages: Sequence[str]) -> frozenset[str]:
    counts: Counter[str] = Counter()
    for page in pages:
        lines = page.split("\n")
        counts.update({_shape(lines[place]) for place in _edges(lines)})
    return frozenset(line for line, count in counts.items() if count > max(2, len(pages) / 2))


def _without(running: frozenset[str], lines: list[str]) -> list[str]:
    left_out = {place for place in _edges(lines) if _shape(lines[place]) in running}
    return [line for place, line in enumerate(lines) if place not in left_out]


def _edges(lines: Sequence[str]) -> list[int]:
    """The positions of the first and last lines with text."""
    written = [place for place, line in enumerate(lines) if line.strip()]
    return written[:_EDGE_LINES] + written[max(_EDGE_LINES, len(written) - _EDGE_LINES) :]


def _shape(line: str) -> str:
    """The line with every number as #, so that lines that differ only in numbers are equal."""
    return re.sub(r"\d+", "#", " ".join(line.split()))
