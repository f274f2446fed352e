"""Files of rows, written one row after the other: JSON Lines, JSON, CSV, TSV and Parquet, by suffix. Text files may be gzipped.

The file appears once it is whole, and never in the place of another.
"""

from __future__ import annotations

import csv
import gzip
import io
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, closing, contextmanager, nullcontext
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO, Protocol, cast

from lastresort.data.files import file_kind, refuse_equal_names
from lastresort.data.formats.rows import compact_json, kind_of
from lastresort.data.preferences import CHOSEN, REJECTED
from lastresort.errors import DataError, InfrastructureError, InputError
from lastresort.records.atomic import FULL, new_file, remove_left_over
from lastresort.types import JsonObject

_GROUP = 10_000  # rows of a Parquet file that are written together at most
_GROUP_CHARACTERS = 32 * 2**20  # and letters in them
_NOT_OF_A_TYPE = (ValueError, TypeError, OverflowError)  # which pyarrow raises besides its own errors
_JSON_LINES = "Write a .jsonl file."
IN_CELLS = ("passages", "synthetic")  # lists and objects that are read as JSON in a table


class RowSink(Protocol):
    """Takes rows. where: the place that a row comes from, for errors. Raises DataError for what the file cannot hold.

    end: after the last row. close: while the file is still open, also where an error came before the end.
    """

    def write(self, row: JsonObject, where: str) -> None: ...
    def end(self) -> None: ...
    def close(self) -> None: ...


@contextmanager
def row_sink(path: Path, columns: Sequence[str] = ()) -> Iterator[RowSink]:
    """A sink for the suffix of `path`. columns: of a table; those of its first row, where none are named.

    Raises InputError where the file already exists, InfrastructureError where the disk refuses, DataError for an unknown suffix.
    """
    kind, packed = file_kind(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        remove_left_over(path.parent, path.name)
        with (
            new_file(path, private=False) as file,
            _packed(file) if packed else nullcontext(file) as target,
            closing(SINKS[kind](target, columns)) as sink,
        ):
            yield sink
            sink.end()
    except FileExistsError as error:
        raise _is_there(path) from error
    except OSError as error:
        fault = "the disk is full" if error.errno in FULL else f"could not be written ({error.strerror or error})"
        remedy = "Free some space, or check the permissions of the folder."
        raise InfrastructureError(fault, where=str(path), remedy=remedy, resume="Run the command again.") from error


def refuse_existing(path: Path) -> None:
    """Before work is done for a file that cannot be written. Raises InputError where one is there, DataError as `row_sink`."""
    file_kind(path)
    if os.path.lexists(path):
        raise _is_there(path)


def _is_there(path: Path) -> InputError:
    return InputError(
        "the file already exists", where=str(path), expected="a new file", remedy="Name another with --out."
    )


def _packed(file: BinaryIO) -> AbstractContextManager[BinaryIO]:
    """Without time and name, so that the same rows give the same bytes."""
    return cast(
        AbstractContextManager[BinaryIO], gzip.GzipFile(fileobj=file, mode="wb", mtime=0, filename="", compresslevel=6)
    )


class _JsonLines:
    def __init__(self, file: BinaryIO) -> None:
        self._file = file

    def write(self, row: JsonObject, where: str) -> None:
        self._file.write(_json(row, where) + b"\n")

    def end(self) -> None:
        pass

    def close(self) -> None:
        pass


class _JsonList:
    def __init__(self, file: BinaryIO) -> None:
        self._file, self._before = file, b"[\n"

    def write(self, row: JsonObject, where: str) -> None:
        self._file.write(self._before + _json(row, where))
        self._before = b",\n"

    def end(self) -> None:
        self._file.write(b"\n]\n" if self._before == b",\n" else b"[]\n")

    def close(self) -> None:
        pass


def _json(row: JsonObject, where: str) -> bytes:
    try:
        return compact_json(row, where).encode()
    except DataError:
        for key, value in row.items():  # which of them
            compact_json(value, f'{where}, key "{key}"')
        raise


class _Table:
    """columns: those of the first row, where none are named."""

    def __init__(self, file: BinaryIO, columns: Sequence[str], *, delimiter: str) -> None:
        self._text = io.TextIOWrapper(file, encoding="utf-8", newline="", write_through=False)
        # Both characters of the line end are then quoted.
        self._rows = csv.writer(self._text, delimiter=delimiter, lineterminator="\r\n")
        self._columns: tuple[str, ...] = ()
        if columns:
            self._begin(columns, "the table")

    def write(self, row: JsonObject, where: str) -> None:
        if not self._columns:
            self._begin(row, where)
        more = next((key for key in row if key not in self._columns), None)
        if more is not None:
            raise DataError(
                "found a column that the table was not begun with",
                where=f'{where}, key "{more}"',
                expected=f"the columns of a table ({', '.join(self._columns)})",
                remedy=f"{_JSON_LINES[:-1]}, or leave it out with --drop {more}.",
            )
        self._rows.writerow([_cell(key, row.get(key), f'{where}, key "{key}"') for key in self._columns])

    def _begin(self, columns: Iterable[str], where: str) -> None:
        refuse_equal_names(columns, where)
        self._columns = tuple(columns)
        self._rows.writerow(self._columns)

    def end(self) -> None:
        self._text.flush()

    def close(self) -> None:
        self._text.detach()


def _cell(key: str, value: Any, where: str) -> str:
    if isinstance(value, list | dict) and key not in IN_CELLS:
        raise _not_in("a table", kind_of(value), where)
    if value is None:
        return ""
    if isinstance(value, bool):
        return "true" if value else "false"
    if not isinstance(value, str):
        return compact_json(value, where)
    if "\0" in value:
        raise _not_in("a table", "a NUL character", where)
    if key in (*CHOSEN, *REJECTED) and value.lstrip().startswith("[{"):
        raise _not_in("a table", "a text that would be read as a list of turns", where)
    return value


def _not_in(what: str, found: str, where: str) -> DataError:
    return DataError(f"found {found}", where=where, expected=f"what {what} can hold", remedy=_JSON_LINES)


class _Parquet:
    """The columns, their types and the keys of their turns are those of the first rows, which are written together; a column that
    is empty there is one of texts.
    """

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._writer: Any = None
        self._schema: Any = None
        self._known: set[tuple[str, ...]] = set()  # each column, and each key of its turns
        self._waiting: list[JsonObject] = []
        self._characters = 0
        self._first = self._last = ""

    def write(self, row: JsonObject, where: str) -> None:
        if isinstance(row.get("synthetic"), dict):  # whose text is read too
            row = {**row, "synthetic": compact_json(row["synthetic"], where)}
        for key, value in row.items():
            if not _keeps_its_keys(value):
                raise _not_in(
                    "a Parquet file (it fills in the keys that one object has and another has not)",
                    kind_of(value),
                    f'{where}, key "{key}"',
                )
        self._refuse_new_keys(row, where)
        self._first, self._last = self._first or where, where
        self._waiting.append(row)
        self._characters += sum(map(_characters, row.values()))
        if len(self._waiting) == _GROUP or self._characters > _GROUP_CHARACTERS:
            self._flush()

    def end(self) -> None:
        self._flush()

    def close(self) -> None:
        if self._writer is not None:
            self._writer.close()

    def _refuse_new_keys(self, row: JsonObject, where: str) -> None:
        """pyarrow leaves out what its schema does not name, without a word."""
        keys = {(column, *inner) for column, value in row.items() for inner in ((), *_keys_of_turns(value))}
        if self._schema is None:
            self._known |= keys
        elif new := sorted(keys - self._known, key=len):
            *column, key = new[0]
            what = f'a turn with the key "{key}", which no turn of' if column else "a column that none of"
            known = ", ".join(sorted(name for *of, name in self._known if of == column))
            raise DataError(
                f"found {what} the rows before it has",
                where=f'{where}, key "{new[0][0]}"',
                expected=f"{'the keys of turns' if column else 'the columns'} that the file began with ({known})",
                remedy=f"{_JSON_LINES[:-1]}, or leave it out with --drop {'keys' if column else key}.",
            )

    def _flush(self) -> None:
        import pyarrow
        import pyarrow.parquet

        if not self._waiting:
            return
        try:
            if self._schema is None:
                self._schema = _texts_for_nulls(pyarrow.Table.from_pylist(_same_keys(self._waiting)).schema)
                self._writer = pyarrow.parquet.ParquetWriter(self._file, self._schema)
            table = pyarrow.Table.from_pylist(self._waiting, schema=self._schema)
        except (pyarrow.ArrowException, *_NOT_OF_A_TYPE) as error:
            raise DataError(
                f"a Parquet file cannot hold these values ({str(error).splitlines()[0]})",
                where=self._place_at_fault(),
                expected="values of one type in a column, whole numbers of at most 64 bits",
                remedy=_JSON_LINES,
            ) from error
        self._writer.write_table(table)
        self._waiting, self._characters, self._first = [], 0, ""

    def _place_at_fault(self) -> str:
        """The rows that wait, and the first column of theirs that does not go into the file."""
        import pyarrow

        rows = self._first if len(self._waiting) == 1 else f"{self._first} to {self._last}"
        for name in dict.fromkeys(key for row in self._waiting for key in row):
            kind = None if self._schema is None else self._schema.field(name).type
            try:
                pyarrow.array([row.get(name) for row in self._waiting], kind)
            except (pyarrow.ArrowException, *_NOT_OF_A_TYPE):
                return f'{rows}, key "{name}"'
        return rows


def _keeps_its_keys(value: Any) -> bool:
    """A scalar, a turn of scalars, whose further keys may be null, or a list of them or of lists of scalars."""
    if isinstance(value, dict):
        return _is_turn(value) and not any(isinstance(inner, list | dict) for inner in value.values())
    if isinstance(value, list):
        return all(_keeps_its_keys(item) for item in value)
    return True


def _is_turn(value: Mapping[str, Any]) -> bool:
    return {"role", "content"} <= value.keys() or {"from", "value"} <= value.keys()


def _keys_of_turns(value: Any) -> Iterator[tuple[str]]:
    if isinstance(value, dict):
        yield from ((key,) for key in value)
    elif isinstance(value, list):
        for item in value:
            yield from _keys_of_turns(item)


def _characters(value: Any) -> int:
    """About as many bytes as it takes."""
    if isinstance(value, str | bytes):
        return len(value)
    if isinstance(value, dict | list):
        return sum(map(_characters, value.values() if isinstance(value, dict) else value))
    return 8


def _same_keys(rows: list[JsonObject]) -> list[JsonObject]:
    """The first row with all keys, since a schema is made from its names."""
    names = dict.fromkeys(key for row in rows for key in row)
    return [{**dict.fromkeys(names), **rows[0]}, *rows[1:]]


def _texts_for_nulls(schema: Any) -> Any:
    import pyarrow

    fields = [field.with_type(pyarrow.string()) if pyarrow.types.is_null(field.type) else field for field in schema]
    return pyarrow.schema(fields)


TABLES = {".csv": ",", ".tsv": "\t"}  # by their delimiter
SINKS: dict[str, Callable[[BinaryIO, Sequence[str]], RowSink]] = {
    ".jsonl": lambda file, _: _JsonLines(file),
    ".ndjson": lambda file, _: _JsonLines(file),
    ".json": lambda file, _: _JsonList(file),
    **{kind: partial(_Table, delimiter=delimiter) for kind, delimiter in TABLES.items()},
    ".parquet": lambda file, _: _Parquet(file),
}
