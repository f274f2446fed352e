"""The rows of a file one after the other, as `read_rows` gives them, in memory that does not grow with the file.

JSON Lines and CSV are read line by line, also gzipped, Parquet by a batch of rows. A JSON list and a TSV file are read whole: a
list has no end before its last character, and how a TSV file is quoted is known only once all of it has been seen.
"""

from __future__ import annotations

import gzip
import re
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import chain
from pathlib import Path
from typing import BinaryIO, cast

from lastresort.data.arrow import parquet_count, parquet_stream
from lastresort.data.files import (
    LONGEST_TEXT,
    csv_delimiter,
    file_kind,
    no_row,
    not_utf8,
    read_rows,
    records_of,
    refuse_long,
    rows_of_lines,
    rows_of_records,
)
from lastresort.data.formats.rows import RawRow
from lastresort.errors import DataError
from lastresort.foreign import MiB, opened

LONGEST_LINE = 64 * MiB  # of a text file, in bytes: several values of the greatest length, and no more in memory
_BOM = b"\xef\xbb\xbf"
_LINE = re.compile("[^\r\n]*(?:\r\n|\r|\n)|[^\r\n]+")


def stream_rows(path: Path) -> Iterator[RawRow]:
    """Raises DataError as `read_rows` does, but when it comes to the row that is at fault."""
    kind, packed = file_kind(path)
    has_rows = False
    for row in _rows(path, kind, packed):
        refuse_long(row)
        has_rows = True
        yield row
    if not has_rows:
        raise no_row(path)


def _rows(path: Path, kind: str, packed: bool) -> Iterator[RawRow]:
    reader = _READERS.get(kind)
    if reader is None:
        yield from parquet_stream(path) if kind == ".parquet" else read_rows(path)
        return
    with _opened(path, packed) as file:
        yield from reader(_lines(file, path, kind), str(path))


def at_most_rows(path: Path) -> int | None:
    """How many rows a file has, or somewhat more where cells hold line ends; None where counting them would take reading it."""
    kind, packed = file_kind(path)
    if kind == ".parquet":
        return parquet_count(path)
    if packed or kind not in _READERS:
        return None
    with _opened(path, packed) as file:
        return sum(part.count(b"\n") for part in iter(lambda: file.read(MiB), b"")) + 1


def count_rows(path: Path) -> int:
    """How many rows `stream_rows` gives. Of JSON Lines only the lines are counted, so that a fault in a row is met later."""
    kind, packed = file_kind(path)
    if kind == ".parquet":
        return parquet_count(path)
    if _READERS.get(kind) is not rows_of_lines:
        return sum(1 for _ in stream_rows(path))
    with _opened(path, packed) as file:
        return sum(1 for line in _lines(file, path, kind) if not line.isspace())


def _csv_rows(lines: Iterator[str], path: str) -> Iterator[RawRow]:
    pieces = (piece for line in lines for piece in (_LINE.findall(line) if "\r" in line else (line,)))
    blank: list[str] = []
    for piece in pieces:
        blank.append(piece)
        if piece.strip("\r\n"):
            break
    delimiter = csv_delimiter(blank[-1] if blank else "")
    whole = (_without_nul(line, number, path) for number, line in enumerate(chain(blank, pieces), start=1))
    return rows_of_records(records_of(whole, path, delimiter, longest=LONGEST_TEXT + 1), path)


_READERS: dict[str, Callable[[Iterator[str], str], Iterator[RawRow]]] = {
    ".jsonl": rows_of_lines,
    ".ndjson": rows_of_lines,
    ".csv": _csv_rows,
}


def _without_nul(line: str, number: int, path: str) -> str:
    if "\0" in line:
        raise DataError("found a NUL character", where=f"{path}, line {number}", remedy="Save the file as UTF-8 text.")
    return line


@contextmanager
def _opened(path: Path, packed: bool) -> Iterator[BinaryIO]:
    try:
        with opened(path, raised=DataError) as file:
            yield cast(BinaryIO, gzip.GzipFile(fileobj=file)) if packed else file
    except FileNotFoundError as error:
        raise DataError("no such file", where=str(path), remedy="Check the path.") from error


def _lines(file: BinaryIO, path: Path, kind: str) -> Iterator[str]:
    """The lines of a text in UTF-8, with their ends. Raises DataError for other bytes, a line too long, and a broken gzip file."""
    offset, number, beginning = 0, 0, b""
    while True:
        try:
            line = file.readline(LONGEST_LINE + 1)
        except (EOFError, gzip.BadGzipFile, zlib.error) as error:
            raise DataError(f"found a broken gzip file ({error})", where=str(path), remedy="Write it again.") from error
        if not line:
            return
        number += 1
        if number == 1:
            beginning = line[:2]
            if line.startswith(_BOM):
                line, offset = line[len(_BOM) :], len(_BOM)
        where = f"{path}, {'line' if kind == '.csv' else 'row'} {number}"
        if len(line) > LONGEST_LINE:
            raise DataError(
                f"found a line of more than {LONGEST_LINE // MiB} MiB",
                where=where,
                expected="one row a line",
                remedy="Write it as several rows.",
            )
        try:
            yield line.decode()
        except UnicodeDecodeError as error:
            raise not_utf8(line[error.start], offset + error.start, beginning, where, kind) from error
        offset += len(line)
