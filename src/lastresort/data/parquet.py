"""Rows of a Parquet file. A file of a few kilobytes can hold terabytes, so that what it unpacks to is counted beforehand."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from lastresort.data.formats.rows import RawRow
from lastresort.errors import DataError
from lastresort.foreign import ROWS, MiB


def parquet_rows(content: bytes, path: Path) -> list[RawRow]:
    import pyarrow
    import pyarrow.parquet

    try:
        size = _unpacked_bytes(content)
        if size > ROWS:
            raise DataError(
                f"found {size / MiB:,.0f} MiB or more when unpacked",
                where=str(path),
                expected=f"at most {ROWS // MiB:,} MiB",
                remedy="Check what it holds.",
            )
        values = pyarrow.parquet.ParquetFile(pyarrow.BufferReader(content)).read().to_pylist()
    except (pyarrow.ArrowException, OSError, ValueError, OverflowError, RecursionError, MemoryError) as error:
        reason = str(error).split("\n")[0] or type(error).__name__
        raise DataError(
            f"found a file that is not Parquet or is damaged ({reason})", where=str(path), remedy="Write it again."
        ) from error
    return [RawRow(value, number, f"{path}, row {number}") for number, value in enumerate(values, start=1)]


_ROW_BYTES, _VALUE_BYTES = 256, 8  # what Python takes for a row and for a value at least
_AT_ONCE = 1024  # rows looked at together


def _unpacked_bytes(content: bytes) -> int:
    """What the rows of a Parquet file take, counted until that is too much: first as its footer says, then as it is.

    Texts are read as dictionaries, since one that a million rows share is in the file once.
    """
    import pyarrow
    import pyarrow.parquet

    footer = pyarrow.parquet.read_metadata(pyarrow.BufferReader(content))
    size: int = footer.num_rows * _ROW_BYTES
    for group in map(footer.row_group, range(footer.num_row_groups)):
        for chunk in map(group.column, range(footer.num_columns)):
            size += max(chunk.total_uncompressed_size, _VALUE_BYTES * chunk.num_values)
    if size > ROWS:
        return size
    leaves = map(footer.schema.column, range(footer.num_columns))
    texts = [leaf.path for leaf in leaves if leaf.physical_type == "BYTE_ARRAY"]
    file = pyarrow.parquet.ParquetFile(pyarrow.BufferReader(content), read_dictionary=texts)
    size = 0
    for batch in file.iter_batches(batch_size=_AT_ONCE):
        size += batch.num_rows * _ROW_BYTES + sum(map(_array_bytes, batch.columns))
        if size > ROWS:
            break
    return size


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
