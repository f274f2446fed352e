"""CSV and TSV: a header, quoting, rows of one width.

A table needs a header. One exception, since such files are common: a TSV file of exactly two columns whose first line
names no known column and whose second cell comes again further down is `text<TAB>label` without a header, because a
column's name never recurs as its value. Where nothing recurs we cannot tell, and ask for a header.

TSV is written with quotes by spreadsheets and without by everyone else; a file whose quotes do not balance, but whose
rows have one width when quotes are ordinary characters, is read so.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Literal

from lastresort.data.formats import KNOWN_COLUMNS
from lastresort.data.rows import RawRow
from lastresort.errors import DataError


@dataclass(frozen=True, slots=True)
class _Record:
    cells: list[str]
    line: int


def table_rows(text: str, path: str, kind: str) -> list[RawRow]:
    """The rows under the header, cells as text. Raises DataError for quoting errors, ragged rows and a bad header."""
    if "\0" in text:
        line = text[: text.index("\0")].count("\n") + 1
        raise DataError("found a NUL character", where=f"{path}, line {line}", remedy="Save the file as UTF-8 text.")
    records = _tsv_records(text, path) if kind == ".tsv" else _records(text, path, _csv_delimiter(text))
    if not records:
        return []
    first = [_column_name(cell) for cell in records[0].cells]
    if _is_headerless(first, records, kind):
        header, body = ["input", "output"], records
    else:
        header, body = first, records[1:]
    _check_header(header, path)
    _check_widths(header, body, path)
    return [
        RawRow(dict(zip(header, record.cells, strict=True)), number, f"{path}, row {number} (line {record.line})")
        for number, record in enumerate(body, start=1)
    ]


def rows_before(text: str, kind: str) -> int:
    """The row in which a text that was cut in the middle of a table ends; 0 is the header."""
    delimiter = "\t" if kind == ".tsv" else _csv_delimiter(text)
    with _cells_of_any_length():
        return max(0, sum(1 for record in csv.reader(io.StringIO(text, newline=""), delimiter=delimiter) if record) - 1)


@contextmanager
def _cells_of_any_length() -> Iterator[None]:
    """The csv module refuses cells above 131,072 characters, fewer than some documents have."""
    before = csv.field_size_limit(2**31 - 1)
    try:
        yield
    finally:
        csv.field_size_limit(before)


def _csv_delimiter(text: str) -> str:
    """Comma, unless the header has none but has a semicolon or a tab, as some spreadsheets write."""
    header = text.lstrip("\r\n").split("\n", 1)[0]
    return next((mark for mark in (",", ";", "\t") if mark in header), ",")


def _records(text: str, path: str, delimiter: str, *, quoted: bool = True) -> list[_Record]:
    quoting: Literal[0, 3] = csv.QUOTE_MINIMAL if quoted else csv.QUOTE_NONE
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, quoting=quoting, strict=True)
    records, line = [], 1
    try:
        with _cells_of_any_length():
            for cells in reader:
                if any(cell.strip() for cell in cells):
                    records.append(_Record(cells, line))
                line = reader.line_num + 1
    except csv.Error as error:
        raise DataError(
            f"found a quoting error ({error})",
            where=f"{path}, row {len(records)} (line {line})",
            expected='a cell with commas, quotes or line ends in "…", its inner quotes doubled',
            remedy="Mend the quotes of this row, or write the file as JSON Lines.",
        ) from error
    return records


def _tsv_records(text: str, path: str) -> list[_Record]:
    try:
        return _records(text, path, "\t")
    except DataError as quoting_error:
        plain = _records(text, path, "\t", quoted=False)
        if len({len(record.cells) for record in plain}) > 1:
            raise quoting_error
        return plain


def _column_name(cell: str) -> str:
    """Known columns are recognised in any case ("Input", "LABEL"); others stay as written."""
    name = cell.strip()
    return name.lower() if name.lower() in KNOWN_COLUMNS else name


def _is_headerless(first: list[str], records: list[_Record], kind: str) -> bool:
    if kind != ".tsv" or len(first) != 2 or KNOWN_COLUMNS.intersection(first):
        return False
    label = records[0].cells[1]
    return any(len(record.cells) == 2 and record.cells[1] == label for record in records[1:])


def _check_header(header: list[str], path: str) -> None:
    names = [name for name in header if name]
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        raise DataError(
            f'found the column "{twice}" twice', where=f"{path}, header", remedy="Give each column its own name."
        )


def _check_widths(header: list[str], body: list[_Record], path: str) -> None:
    for number, record in enumerate(body, start=1):
        if len(record.cells) != len(header):
            raise DataError(
                f"found {len(record.cells)} cells",
                where=f"{path}, row {number} (line {record.line})",
                expected=f"{len(header)}, as in the header ({', '.join(header)})",
                remedy="Quote cells that hold the separator, or add the missing cells.",
            )
