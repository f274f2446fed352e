"""From a file to its rows: JSON Lines, JSON, CSV, TSV and Parquet, by suffix. Text files may be gzipped.

CSV and TSV: a header, quoting, rows of one width.

A table needs a header. One exception, since such files are common: a TSV file of exactly two columns whose first line
names no known column and whose second cell occurs again further down is `text<TAB>label` without a header, because a
column's name never recurs as its value. Where nothing recurs, a header is required.

TSV is written with quotes by spreadsheets and without by everyone else; a file whose quotes do not balance, but whose
rows have one width when quotes are ordinary characters, is read so.
"""

from __future__ import annotations

import csv
import io
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from lastresort.data.arrow import parquet_rows
from lastresort.data.formats import KNOWN_COLUMNS
from lastresort.data.formats.rows import RawRow, kind_of, row_json
from lastresort.errors import DataError
from lastresort.foreign import ROWS, MiB, gunzipped, opened, read_content
from lastresort.types import row_named

_HEAD = MiB
_ANY_LENGTH = 2**31 - 1
LONGEST_TEXT = 10_000_000  # characters of one value: some two million tokens, and no model is shown more


@dataclass(frozen=True, slots=True)
class TableRecord:
    """line: of the file, on which it begins, from 1."""

    cells: list[str]
    line: int


def table_rows(text: str, path: str, kind: str) -> list[RawRow]:
    """The rows under the header, cells as text. Raises DataError for quoting errors, ragged rows and a bad header."""
    if "\0" in text:
        line = text[: text.index("\0")].count("\n") + 1
        raise DataError("found a NUL character", where=f"{path}, line {line}", remedy="Save the file as UTF-8 text.")
    records = _tsv_records(text, path) if kind == ".tsv" else _records(text, path, csv_delimiter(text))
    if not records:
        return []
    if _is_headerless([_column_name(cell) for cell in records[0].cells], records, kind):
        return list(_body_rows(["input", "output"], records, path))
    return list(rows_of_records(records, path))


def rows_of_records(records: Iterable[TableRecord], path: str) -> Iterator[RawRow]:
    """The rows under the header, which is the first record. Raises DataError as `table_rows` does."""
    others = iter(records)
    first = next(others, None)
    if first is not None:
        yield from _body_rows([cell.strip() for cell in first.cells], others, path)


def _body_rows(spelt: list[str], body: Iterable[TableRecord], path: str) -> Iterator[RawRow]:
    """spelt: the header as it is."""
    header = [_column_name(cell) for cell in spelt]
    _check_header(header, path)
    own = {name: cell for name, cell in zip(header, spelt, strict=True) if name != cell}
    for number, record in enumerate(body, start=1):
        place = f"{path}, {row_named(number, record.line)}"
        _check_width(header, record, place)
        values = _values(header, record.cells, place)
        yield RawRow(values, number, place, in_table=True, header=own, line=record.line)


def _values(header: Sequence[str], cells: Sequence[str], place: str) -> dict[str, str]:
    """By the name of the column. Spreadsheets end lines with commas: an empty cell without a name is none."""
    found = [(name, cell) for name, cell in zip(header, cells, strict=True) if name or cell.strip()]
    values = dict(found)
    if len(values) < len(found):
        raise DataError(
            "found values in several columns without a name",
            where=place,
            expected="a name for each column",
            remedy="Name them in the header, or remove them.",
        )
    return values


def rows_before(text: str, kind: str) -> int:
    """The row in which a text that was cut in the middle of a table ends; 0 is the header."""
    delimiter = "\t" if kind == ".tsv" else csv_delimiter(text)
    with _cells_up_to(_ANY_LENGTH):
        return max(0, sum(1 for record in csv.reader(io.StringIO(text, newline=""), delimiter=delimiter) if record) - 1)


@contextmanager
def _cells_up_to(most: int) -> Iterator[None]:
    """The csv module refuses cells above 131,072 characters, fewer than some documents have."""
    before = csv.field_size_limit(most)
    try:
        yield
    finally:
        csv.field_size_limit(before)


def csv_delimiter(text: str) -> str:
    """Comma, unless the header has none but has a semicolon or a tab, as some spreadsheets write."""
    header = re.split("[\r\n]", text.lstrip("\r\n"), maxsplit=1)[0]
    return next((mark for mark in (",", ";", "\t") if mark in header), ",")


def _records(text: str, path: str, delimiter: str, *, quoted: bool = True) -> list[TableRecord]:
    return list(records_of(io.StringIO(text, newline=""), path, delimiter, quoted=quoted))


def records_of(
    lines: Iterable[str], path: str, delimiter: str, *, quoted: bool = True, longest: int = _ANY_LENGTH
) -> Iterator[TableRecord]:
    """The records of a table that are not blank, its header among them. lines: with their ends. longest: characters of a cell.

    Raises DataError for quoting errors and for longer cells.
    """
    quoting: Literal[0, 3] = csv.QUOTE_MINIMAL if quoted else csv.QUOTE_NONE
    reader = csv.reader(lines, delimiter=delimiter, quoting=quoting, strict=True)
    count, line = 0, 1
    while True:
        try:
            with _cells_up_to(longest):  # for one record at a time, as others may be read meanwhile
                cells = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            raise DataError(
                f"found a quoting error ({error})",
                where=f"{path}, {row_named(count, line)}",
                expected='a cell with commas, quotes or line ends in "…", its inner quotes doubled',
                remedy="Fix the quotes of this row, or write the file as JSON Lines.",
            ) from error
        if any(cell.strip() for cell in cells):
            yield TableRecord(cells, line)
            count += 1
        line = reader.line_num + 1


def _tsv_records(text: str, path: str) -> list[TableRecord]:
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


def _is_headerless(first: list[str], records: list[TableRecord], kind: str) -> bool:
    if kind != ".tsv" or len(first) != 2 or KNOWN_COLUMNS.intersection(first):
        return False
    label = records[0].cells[1]
    return any(len(record.cells) == 2 and record.cells[1] == label for record in records[1:])


def refuse_equal_names(columns: Iterable[str], path: str) -> None:
    """Raises DataError for columns of a table that have one name once it is read."""
    _check_header([_column_name(column) for column in columns], path)


def _check_header(header: list[str], path: str) -> None:
    names = [name for name in header if name]
    twice = next((name for name, count in Counter(names).items() if count > 1), None)
    if twice is not None:
        raise DataError(
            f'found the column "{twice}" twice', where=f"{path}, header", remedy="Give each column its own name."
        )


def _check_width(header: list[str], record: TableRecord, place: str) -> None:
    if len(record.cells) != len(header):
        raise DataError(
            f"found {len(record.cells)} cell{'s' if len(record.cells) > 1 else ''}",
            where=place,
            expected=f"{len(header)}, as in the header ({', '.join(header)})",
            remedy="Quote cells that hold the separator, or add the missing cells.",
        )


_KNOWN = ".jsonl, .ndjson, .json, .csv, .tsv (each also with .gz) or .parquet"


def read_rows(path: Path, *, kind: str | None = None) -> list[RawRow]:
    """The rows of a file in their order. Raises DataError for whatever keeps the file from being read.

    kind: the suffix as which it is read, None for its own.
    """
    kind, packed = file_kind(path) if kind is None else (kind, path.suffix.lower() == ".gz")
    content = _content(path, packed)
    if not content or content.isspace():
        raise DataError("found an empty file", where=str(path), expected="rows", remedy="Check how it was written.")
    rows = (
        parquet_rows(content, path)
        if kind == ".parquet"
        else _TEXT_READERS[kind](_text(content, path, kind), str(path))
    )
    for row in rows:
        refuse_long(row)
    if not rows:
        raise no_row(path)
    return rows


def no_row(path: Path) -> DataError:
    return DataError("found no row", where=str(path), expected="at least one", remedy="Check how it was written.")


def first_rows(path: Path, count: int) -> list[RawRow]:
    """Up to so many rows from the beginning. Of JSON Lines no more is read than they need; of a table the rest decides how it is
    quoted and whether it has a header. Raises as `read_rows` does.
    """
    kind, packed = file_kind(path)
    if kind in (".jsonl", ".ndjson") and not packed:
        with opened(path, ROWS, raised=DataError) as file:
            lines = file.read(_HEAD).split(b"\n")[:-1]
        filled = [number for number, line in enumerate(lines, start=1) if line.strip()]
        if len(filled) >= count:
            return _json_lines(_text(b"\n".join(lines[: filled[count - 1]]), path, kind), str(path))
    return read_rows(path)[:count]


def refuse_long(row: RawRow) -> None:
    """Raises DataError for a value of more than LONGEST_TEXT characters."""
    for key, value in row.values.items():
        if isinstance(value, str) and len(value) > LONGEST_TEXT:
            raise DataError(
                f"found {len(value):,} characters",
                where=row.at(key),
                expected=f"at most {LONGEST_TEXT:,}",
                remedy="Remove the row, or write it as several.",
            )


def read_lines(path: Path) -> list[str]:
    """The lines of a text file. Raises DataError for whatever keeps the file from being read."""
    return _text(_content(path, packed=False), path, ".txt").splitlines()


def stem_of(path: Path) -> str:
    """The name of a file of rows without the suffix by which it is read: a.b of a.b.csv.gz."""
    return (path.with_suffix("") if path.suffix.lower() == ".gz" else path).stem


def file_kind(path: Path) -> tuple[str, bool]:
    """The suffix by which a file is read, and whether it is gzipped. Raises DataError for any other."""
    suffixes = [suffix.lower() for suffix in path.suffixes]
    packed = bool(suffixes) and suffixes[-1] == ".gz"
    kind = (suffixes[:-1] if packed else suffixes)[-1:]
    if path.is_dir():
        raise DataError("found a folder", where=str(path), expected=_KNOWN, remedy="Name a file.")
    if kind and (kind[0] in _TEXT_READERS or (kind[0] == ".parquet" and not packed)):
        return kind[0], packed
    raise DataError(
        f'found the suffix "{path.suffix}"',
        where=str(path),
        expected=_KNOWN,
        remedy=how_to_convert(path.name),
    )


def how_to_convert(name: str) -> str:
    """What to do with a file of a kind that is not read."""
    if name.lower().endswith((".xlsx", ".xls", ".xlsm", ".ods", ".numbers")):
        return "Save the sheet as CSV."
    return "Correct the suffix if it is wrong, or convert the file."


def _content(path: Path, packed: bool) -> bytes:
    try:
        content = read_content(path, ROWS, raised=DataError)
    except FileNotFoundError as error:
        raise DataError("no such file", where=str(path), remedy="Check the path.") from error
    except IsADirectoryError as error:
        raise DataError("found a folder", where=str(path), expected="a file", remedy="Name a file in it.") from error
    return gunzipped(content, ROWS, where=str(path), raised=DataError) if packed else content


def _text(content: bytes, path: Path, kind: str) -> str:
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        start = error.start + (3 if content.startswith(b"\xef\xbb\xbf") else 0)
        before = content[:start]
        line = before.count(b"\n") + 1
        row = f"row {line}"
        if kind in (".csv", ".tsv"):
            row = row_named(rows_before(before.decode("utf-8-sig"), kind), line)
        raise not_utf8(content[start], start, content[:2], f"{path}, {row}", kind) from error


def not_utf8(byte: int, offset: int, beginning: bytes, where: str, kind: str) -> DataError:
    """beginning: the first two bytes of the file."""
    hint = " (it looks like UTF-16)" if beginning in (b"\xff\xfe", b"\xfe\xff") else ""
    return DataError(
        f"found byte 0x{byte:02x} at offset {offset}, which is not UTF-8{hint}",
        where=where,
        expected="UTF-8",
        remedy='Save the file as UTF-8 (in Excel: "CSV UTF-8", from Latin-1: `iconv -f latin1 -t utf-8`).'
        if kind == ".csv"
        else "Save the file as UTF-8.",
    )


def _object_row(value: Any, number: int, place: str) -> RawRow:
    if not isinstance(value, dict):
        raise DataError(
            f"found {kind_of(value)}",
            where=place,
            expected='an object such as {"input": …, "output": …}',
            remedy="Write each row as an object.",
        )
    return RawRow(value, number, place)


def _json_lines(text: str, path: str) -> list[RawRow]:
    # Only "\n" ends a row: str.splitlines would also cut at U+2028, which may stand inside a JSON string.
    return list(rows_of_lines(text.split("\n"), path))


def rows_of_lines(lines: Iterable[str], path: str) -> Iterator[RawRow]:
    """The rows of JSON Lines, by the number of their line; blank ones are passed over. Raises DataError for what is no object."""
    first = True
    for number, line in enumerate(lines, start=1):
        if not line or line.isspace():
            continue
        if first and line.lstrip().startswith("["):
            raise DataError(
                "found a JSON list",
                where=f"{path}, row 1",
                expected="one object a line",
                remedy="Rename the file to .json, or write one object a line.",
            )
        first = False
        place = f"{path}, row {number}"
        yield _object_row(row_json(line, place), number, place)


def _json_list(text: str, path: str) -> list[RawRow]:
    lines = [line for line in text.split("\n") if line.strip()]
    if len(lines) > 1 and all(line.strip().startswith("{") and line.strip().endswith("}") for line in lines):
        return _json_lines(text, path)
    value = row_json(text, path)
    if not isinstance(value, list):
        raise DataError(
            f"found {kind_of(value)} instead of a list",
            where=path,
            expected="a list of objects",
            remedy="Put the rows into one list [ … ].",
        )
    return [_object_row(item, number, f"{path}, row {number}") for number, item in enumerate(value, start=1)]


_TEXT_READERS: dict[str, Callable[[str, str], list[RawRow]]] = {
    ".jsonl": _json_lines,
    ".ndjson": _json_lines,
    ".json": _json_list,
    ".csv": lambda text, path: table_rows(text, path, ".csv"),
    ".tsv": lambda text, path: table_rows(text, path, ".tsv"),
}
