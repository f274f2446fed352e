"""Rows of a Parquet file. A file of a few kilobytes can hold terabytes, so that what it unpacks to is counted beforehand."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from lastresort.apart import TooMuch, answer_apart, spent
from lastresort.data.formats.rows import RawRow
from lastresort.errors import DataError
from lastresort.foreign import ROWS, MiB


def parquet_rows(content: bytes, path: Path) -> list[RawRow]:
    import pyarrow
    import pyarrow.parquet

    try:
        unpacked = _said_bytes(content)
        if unpacked <= ROWS:
            unpacked = _counted_bytes(path)
        if unpacked > ROWS:
            raise DataError(
                f"found {unpacked / MiB:,.0f} MiB or more when unpacked",
                where=str(path),
                expected=f"at most {ROWS // MiB:,} MiB",
                remedy="Check what it holds.",
            )
        values = pyarrow.parquet.ParquetFile(pyarrow.BufferReader(content)).read().to_pylist()
    except (pyarrow.ArrowException, *_DAMAGE) as error:
        raise _damaged(path, _reason(error)) from error
    return [RawRow(value, number, f"{path}, row {number}") for number, value in enumerate(values, start=1)]


_DAMAGE = (OSError, ValueError, OverflowError, RecursionError, MemoryError)
_ROW_BYTES, _VALUE_BYTES = 256, 8  # what Python takes for a row and for a value at least
_AT_ONCE = 1024  # rows looked at together
MOST_BYTES, MOST_S = 8 * 2**30, 120.0
"""Of address space and of the processor, to count. Libraries take 2 GiB of the space, and one batch may be as large as all rows."""
_COUNT = "from lastresort.data.parquet import counted as answer"


def _reason(error: BaseException) -> str:
    return str(error).split("\n")[0] or type(error).__name__


def _damaged(path: Path, reason: str) -> DataError:
    return DataError(
        f"found a file that is not Parquet or is damaged ({reason})", where=str(path), remedy="Write it again."
    )


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


def _counted_bytes(path: Path) -> int:
    """The same as it is, since a footer can lie. Raises DataError where it cannot be counted."""
    try:
        found: int | str = answer_apart(
            _COUNT, [str(path.absolute()), ROWS], most_s=MOST_S, most_bytes=MOST_BYTES, imports=True
        )
    except TooMuch as error:
        raise DataError(
            f"reading it {spent(error, MOST_S, MOST_BYTES)}",
            where=str(path),
            expected="rows that fit into memory",
            remedy="Check what it holds.",
        ) from error
    if isinstance(found, str):
        raise _damaged(path, found)
    return found


def counted(question: tuple[str, int]) -> int | str:
    """What the rows of the file of this name take, counted until that is more than the most that is allowed; or why it cannot be
    read. Texts are read as dictionaries, since one that a million rows share is in the file once.
    """
    import pyarrow
    import pyarrow.parquet

    name, most = question
    try:
        footer = pyarrow.parquet.read_metadata(name)
        leaves = map(footer.schema.column, range(footer.num_columns))
        texts = [leaf.path for leaf in leaves if leaf.physical_type == "BYTE_ARRAY"]
        file = pyarrow.parquet.ParquetFile(name, read_dictionary=texts)
        size = 0
        for batch in file.iter_batches(batch_size=_AT_ONCE):
            size += batch.num_rows * _ROW_BYTES + sum(map(_array_bytes, batch.columns))
            if size > most:
                break
        return size
    except MemoryError:
        raise
    except (pyarrow.ArrowException, *_DAMAGE) as error:
        return _reason(error)


def _array_bytes(array: Any) -> int:
    """Of an Arrow array with its dictionaries written out."""
    import pyarrow.compute
    import pyarrow.types as kinds

    if kinds.is_dictionary(array.type):
        lengths = pyarrow.compute.binary_length(array.dictionary).take(array.indices)
        return pyarrow.compute.sum(lengths).as_py() or 0
    if kinds.is_struct(array.type):
        return sum(map(_array_bytes, array.flatten()))
    if kinds.is_map(array.type):
        return _array_bytes(array.keys) + _array_bytes(array.items)
    if kinds.is_list(array.type) or kinds.is_large_list(array.type) or kinds.is_fixed_size_list(array.type):
        return _array_bytes(array.flatten())
    return max(int(array.nbytes), _VALUE_BYTES * len(array))
