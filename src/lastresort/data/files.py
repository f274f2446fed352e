"""From a file to its rows: JSON Lines, JSON, CSV, TSV and Parquet, by suffix. Text files may be gzipped."""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

from lastresort.data.rows import RawRow, kind_of, row_json
from lastresort.data.tables import rows_before, table_rows
from lastresort.errors import DataError

_KNOWN = ".jsonl, .ndjson, .json, .csv, .tsv (each also with .gz) or .parquet"


def read_rows(path: Path, *, kind: str | None = None) -> list[RawRow]:
    """The rows of a file in their order. Raises DataError for whatever keeps the file from being read.

    kind: the suffix as which it is read, None for its own.
    """
    kind, packed = _kind(path) if kind is None else (kind, path.suffix.lower() == ".gz")
    content = _content(path, packed)
    if not content.strip():
        raise DataError("found an empty file", where=str(path), expected="rows", remedy="Check how it was written.")
    rows = _parquet_rows(path) if kind == ".parquet" else _TEXT_READERS[kind](_text(content, path, kind), str(path))
    if not rows:
        raise DataError("found no row", where=str(path), expected="at least one", remedy="Check how it was written.")
    return rows


def read_lines(path: Path) -> list[str]:
    """The lines of a text file. Raises DataError for whatever keeps the file from being read."""
    return _text(_content(path, packed=False), path, ".txt").splitlines()


def _kind(path: Path) -> tuple[str, bool]:
    suffixes = [suffix.lower() for suffix in path.suffixes]
    packed = bool(suffixes) and suffixes[-1] == ".gz"
    kind = (suffixes[:-1] if packed else suffixes)[-1:]
    if kind and (kind[0] in _TEXT_READERS or (kind[0] == ".parquet" and not packed)):
        return kind[0], packed
    raise DataError(
        f'found the suffix "{path.suffix}"',
        where=str(path),
        expected=_KNOWN,
        remedy="Rename the file after what it holds, or convert it.",
    )


def _content(path: Path, packed: bool) -> bytes:
    try:
        content = path.read_bytes()
        return gzip.decompress(content) if packed else content
    except FileNotFoundError as error:
        raise DataError("no such file", where=str(path), remedy="Check the path in the task file.") from error
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise DataError(f"found a broken gzip file ({error})", where=str(path), remedy="Write it again.") from error
    except OSError as error:
        raise DataError(f"the file cannot be read ({error.strerror})", where=str(path), remedy="Check it.") from error


def _text(content: bytes, path: Path, kind: str) -> str:
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        start = error.start + (3 if content.startswith(b"\xef\xbb\xbf") else 0)
        before = content[:start]
        line = before.count(b"\n") + 1
        row = f"row {line}"
        if kind in (".csv", ".tsv"):
            row = f"row {rows_before(before.decode('utf-8-sig'), kind)} (line {line})"
        hint = " (it looks like UTF-16)" if content.startswith((b"\xff\xfe", b"\xfe\xff")) else ""
        raise DataError(
            f"found byte 0x{content[start]:02x} at offset {start}, which is not UTF-8{hint}",
            where=f"{path}, {row}",
            expected="UTF-8",
            remedy="Save the file as UTF-8.",
        ) from error


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
    if text.lstrip().startswith("["):
        raise DataError(
            "found a JSON list",
            where=f"{path}, row 1",
            expected="one object a line",
            remedy="Rename the file to .json, or write one object a line.",
        )
    rows = []
    # Only "\n" ends a row: str.splitlines would also cut at U+2028, which may stand inside a JSON string.
    for number, line in enumerate(text.split("\n"), start=1):
        if line.strip():
            place = f"{path}, row {number}"
            rows.append(_object_row(row_json(line, place, first_line=number), number, place))
    return rows


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


def _parquet_rows(path: Path) -> list[RawRow]:
    import pyarrow
    import pyarrow.parquet

    try:
        values = pyarrow.parquet.read_table(path).to_pylist()
    except (pyarrow.ArrowException, OSError) as error:
        reason = str(error).split("\n")[0]
        raise DataError(
            f"found a file that is not Parquet or is damaged ({reason})", where=str(path), remedy="Write it again."
        ) from error
    return [RawRow(value, number, f"{path}, row {number}") for number, value in enumerate(values, start=1)]


_TEXT_READERS: dict[str, Callable[[str, str], list[RawRow]]] = {
    ".jsonl": _json_lines,
    ".ndjson": _json_lines,
    ".json": _json_list,
    ".csv": lambda text, path: table_rows(text, path, ".csv"),
    ".tsv": lambda text, path: table_rows(text, path, ".tsv"),
}
