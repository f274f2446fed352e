"""Columns under their owner's names: rows in which the columns that a task file names are called input and output."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

from lastresort.data.formats.rows import RawRow
from lastresort.errors import DataError

Names = Mapping[str, Sequence[str]]  # our key -> the file's columns; several become one object


def renamed(rows: Sequence[RawRow], names: Names, keep: Collection[str] = ()) -> list[RawRow]:
    """The rows with the columns of `names` under our keys, and those of `keep` as they are; all others are left out.

    names: "input" and "output" at least. Raises DataError for a row that lacks one of the columns.
    """
    return [_renamed(row, names, keep) for row in rows]


def _renamed(row: RawRow, names: Names, keep: Collection[str]) -> RawRow:
    values = {key: row.values[key] for key in keep if key in row.values}
    values |= {key: _value(row, columns) for key, columns in names.items()}
    own = {key: ", ".join(columns) for key, columns in names.items()}
    return RawRow(values, row.number, row.place, row.in_table, own)


def _value(row: RawRow, columns: Sequence[str]) -> Any:
    for column in columns:
        if column not in row.values:
            raise DataError(
                "found nothing",
                where=row.at(column),
                expected="the column that the task file names under `columns`",
                remedy=f"Fill it in, or correct `columns` (this row has: {', '.join(sorted(row.values)) or 'none'}).",
            )
    if len(columns) == 1:
        return row.values[columns[0]]
    return {column: row.values[column] for column in columns}
