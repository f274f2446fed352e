"""Rows of Parquet and Arrow files. One of a few kilobytes can hold terabytes, so that what it unpacks to is counted beforehand."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO, Literal

from lastresort.apart import TooMuch, answer_apart, spent
from lastresort.data.formats.rows import RawRow
from lastresort.errors import DataError
from lastresort.foreign import ROWS, MiB, opened


def parquet_rows(content: bytes, path: Path) -> list[RawRow]:
    """content: of the file at `path`. Raises DataError where it is damaged, or unpacks to more than ROWS."""
    import pyarrow
    import pyarrow.parquet

    try:
        said = _said_bytes(content)
        if said > ROWS:
            raise _too_large(path, said)
        _refuse_large(path, "Parquet")
        table = pyarrow.parquet.ParquetFile(pyarrow.BufferReader(content)).read()
        _refuse_double_names(table.schema, path)
        values = table.to_pylist()
    except (pyarrow.ArrowException, *_DAMAGE) as error:
        raise _damaged(path, "Parquet", _reason(error)) from error
    return [RawRow(value, number, f"{path}, row {number}") for number, value in enumerate(values, start=1)]


def parquet_stream(path: Path) -> Iterator[RawRow]:
    """The rows of a Parquet file, a batch of them in memory. Raises DataError as `parquet_rows` does."""
    import pyarrow
    import pyarrow.parquet

    with _parquet_file(path) as file:
        try:
            _refuse_large(path, "Parquet")
            number = 0
            content = pyarrow.parquet.ParquetFile(file, buffer_size=MiB, pre_buffer=False)
            _refuse_double_names(content.schema_arrow, path)
            for group in range(content.num_row_groups):
                for batch in content.iter_batches(batch_size=_AT_ONCE, row_groups=[group]):
                    for value in batch.to_pylist():
                        number += 1
                        yield RawRow(value, number, f"{path}, row {number}")
        except (pyarrow.ArrowException, *_DAMAGE) as error:
            raise _damaged(path, "Parquet", _reason(error)) from error


def parquet_count(path: Path) -> int:
    """How many rows its footer says that it has. Raises DataError where it is damaged."""
    import pyarrow
    import pyarrow.parquet

    with _parquet_file(path) as file:
        try:
            return int(pyarrow.parquet.read_metadata(file).num_rows)
        except (pyarrow.ArrowException, *_DAMAGE) as error:
            raise _damaged(path, "Parquet", _reason(error)) from error


@contextmanager
def _parquet_file(path: Path) -> Iterator[BinaryIO]:
    try:
        with opened(path, raised=DataError) as file:
            yield file
    except FileNotFoundError as error:
        raise DataError("no such file", where=str(path), remedy="Check the path.") from error


def arrow_rows(content: bytes, path: Path) -> list[RawRow]:
    """The rows of an Arrow file, or of a stream in a file, as `datasets` saves it."""
    import pyarrow

    try:
        _refuse_large(path, "Arrow")
        values = []
        for batch in _batches(pyarrow.BufferReader(content)):
            _refuse_double_names(batch.schema, path)
            values += batch.to_pylist()
    except (pyarrow.ArrowException, *_DAMAGE) as error:
        raise _damaged(path, "Arrow", _reason(error)) from error
    return [RawRow(value, number, f"{path}, row {number}") for number, value in enumerate(values, start=1)]


def _batches(source: Any) -> Iterator[Any]:
    import pyarrow

    try:
        yield from pyarrow.ipc.open_stream(source)
    except pyarrow.ArrowInvalid:
        source.seek(0)
        file = pyarrow.ipc.open_file(source)
        yield from (file.get_batch(number) for number in range(file.num_record_batches))


# pyarrow's own errors are ValueErrors, OSErrors and so on; dates and texts fail only when they become Python's.
_DAMAGE = (OSError, ValueError, LookupError, TypeError, RuntimeError, ArithmeticError, MemoryError)
_ROW_BYTES, _VALUE_BYTES = 256, 8  # what Python takes for a row and for a value at least
_AT_ONCE = 1024  # rows looked at together
MOST_BYTES, MOST_S = 8 * 2**30, 120.0
"""Of address space and of the processor, to count. Libraries take 2 GiB of the space, and one batch may be as large as all rows."""
_COUNT = "from lastresort.data.arrow import counted as answer"


def _reason(error: BaseException) -> str:
    return str(error).split("\n")[0] or type(error).__name__


def _damaged(path: Path, kind: str, reason: str) -> DataError:
    return DataError(
        f"found a file that is not {kind} or is damaged ({reason})", where=str(path), remedy="Write it again."
    )


def _refuse_double_names(schema: Any, path: Path) -> None:
    """The values of the last of them would stand for both."""
    twice = next((name for name, count in Counter(schema.names).items() if count > 1), None)
    if twice is not None:
        raise DataError(f'found the column "{twice}" twice', where=str(path), remedy="Give each column its own name.")


def _said_bytes(content: bytes) -> int:
    """What the rows of a Parquet file take, as its footer says."""
    import pyarrow
    import pyarrow.parquet

    footer = pyarrow.parquet.read_metadata(pyarrow.BufferReader(content))
    size: int = footer.num_rows * _ROW_BYTES
    for column in range(footer.num_columns):
        leaf = footer.schema.column(column)
        least = leaf.length if leaf.physical_type == "FIXED_LEN_BYTE_ARRAY" else _VALUE_BYTES
        for group in range(footer.num_row_groups):
            chunk = footer.row_group(group).column(column)
            size += max(chunk.total_uncompressed_size, least * chunk.num_values)
    return size


def _too_large(path: Path, unpacked: int) -> DataError:
    return DataError(
        f"found {unpacked / MiB:,.0f} MiB or more when unpacked",
        where=str(path),
        expected=f"at most {ROWS // MiB:,} MiB",
        remedy="Check what it holds.",
    )


def _refuse_large(path: Path, kind: Literal["Parquet", "Arrow"]) -> None:
    """By what it takes indeed, since a footer can lie."""
    try:
        found: int | str = answer_apart(
            _COUNT, [kind, str(path.absolute()), ROWS], most_s=MOST_S, most_bytes=MOST_BYTES, imports=True
        )
    except TooMuch as error:
        raise DataError(
            f"reading it {spent(error, MOST_S, MOST_BYTES)}",
            where=str(path),
            expected="rows that fit into memory",
            remedy="Check what it holds.",
        ) from error
    if isinstance(found, str):
        raise _damaged(path, kind, found)
    if found > ROWS:
        raise _too_large(path, found)


def counted(question: tuple[str, str, int]) -> int | str:
    """What the rows of a file of this kind and name take, counted until that is more than the most allowed; or why it cannot be
    read.
    """
    import pyarrow

    kind, name, most = question
    size = 0
    try:
        for batch in _parquet_batches(name) if kind == "Parquet" else _batches(pyarrow.OSFile(name)):
            batch.validate(full=True)
            size += batch.num_rows * _ROW_BYTES + sum(map(_array_bytes, batch.columns))
            if size > most:
                break
        return size
    except MemoryError:
        raise
    except (pyarrow.ArrowException, *_DAMAGE) as error:
        return _reason(error)


def _parquet_batches(name: str) -> Iterator[Any]:
    """Texts are read as dictionaries, since one that a million rows share is in the file once."""
    import pyarrow.parquet

    footer = pyarrow.parquet.read_metadata(name)
    leaves = map(footer.schema.column, range(footer.num_columns))
    texts = [leaf.path for leaf in leaves if leaf.physical_type == "BYTE_ARRAY"]
    return pyarrow.parquet.ParquetFile(name, read_dictionary=texts).iter_batches(batch_size=_AT_ONCE)  # type: ignore[no-any-return]


def _array_bytes(array: Any) -> int:
    """Of an Arrow array with its dictionaries written out. Raises ValueError for a type that may hold one value many times."""
    import pyarrow.compute
    import pyarrow.types as kinds

    if isinstance(array, pyarrow.ExtensionArray):
        return _array_bytes(array.storage)
    kind = array.type
    if kinds.is_dictionary(kind):
        if not (_is_text(kind.value_type)):
            return len(array) * max(
                _VALUE_BYTES, _array_bytes(array.dictionary) if kinds.is_nested(kind.value_type) else 0
            )
        lengths = pyarrow.compute.binary_length(array.dictionary).take(array.indices)
        return pyarrow.compute.sum(lengths).as_py() or 0
    if kinds.is_struct(kind):
        return sum(map(_array_bytes, array.flatten()))
    if kinds.is_map(kind):
        return _array_bytes(array.keys) + _array_bytes(array.items)
    if kinds.is_list(kind) or kinds.is_large_list(kind) or kinds.is_fixed_size_list(kind):
        return _array_bytes(array.flatten())
    if kinds.is_nested(kind) or not (_is_text(kind) or kinds.is_null(kind) or _has_width(kind)):
        raise ValueError(f"a column of the type {kind}")
    return max(int(array.nbytes), _VALUE_BYTES * len(array))


def _is_text(kind: Any) -> bool:
    import pyarrow.types as kinds

    return any(
        is_kind(kind) for is_kind in (kinds.is_string, kinds.is_binary, kinds.is_large_string, kinds.is_large_binary)
    )


def _has_width(kind: Any) -> bool:
    try:
        return bool(kind.bit_width)
    except ValueError:
        return False
