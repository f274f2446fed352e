"""The data sets that a file names: read, aligned, sampled and mixed; what is left out is said."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from pathlib import Path

from lastresort.data.files import read_rows
from lastresort.data.rows import RawRow
from lastresort.errors import DataError, TaskError
from lastresort.neighbours.given import Given
from lastresort.neighbours.hub_data import hub_rows
from lastresort.neighbours.llamafactory.dataset_info import Columns, Entry, Info, entry_of
from lastresort.neighbours.llamafactory.mixing import mixed, sampled
from lastresort.neighbours.llamafactory.stage import Stage
from lastresort.neighbours.llamafactory.turns import Aligned, Dropped, aligned

_NAMED_PLACES = 3
_OPTIONAL = frozenset({"query", "system", "tools", "history"})
_UNUSED_IN_TEXT = frozenset({"response", "chosen", "rejected", "kto_tag"})


@dataclass(frozen=True, slots=True)
class DataSet:
    name: str
    rows: tuple[Aligned, ...]


def read_data_sets(given: Given, info: Info, names: Sequence[str], stage: Stage, seed: int) -> tuple[DataSet, ...]:
    """Raises TaskError for an entry that does not serve the stage, DataError for a data set of which no row is left."""
    found = [_read(given, entry_of(info, name), info, stage, seed) for name in dict.fromkeys(names)]
    rows = mixed(given, [data_set.rows for data_set in found], seed) if found else []
    return tuple(DataSet(one.name, tuple(kept)) for one, kept in zip(found, rows, strict=True))


def _read(given: Given, entry: Entry, info: Info, stage: Stage, seed: int) -> DataSet:
    _refuse_other_stage(entry, info, stage)
    rows = _rows(entry)
    _refuse_absent_columns(entry, stage, rows)
    kept = sampled(rows, entry.num_samples, seed)
    kept = kept[: given.count("max_samples", len(kept), least=1)]
    if entry.num_samples is not None:
        given.remark(
            f"{entry.name}.num_samples",
            "differs",
            f"{entry.num_samples} rows of {entry.name} are drawn as num_samples says, but from another random stream.",
        )
    found = [aligned(entry, stage, row) for row in kept]
    dropped = [one for one in found if isinstance(one, Dropped)]
    left = tuple(one for one in found if isinstance(one, Aligned))
    _name_dropped(given, entry, dropped, len(kept))
    if not left:
        raise DataError(
            f"no row of {len(kept)} can be trained on: {dropped[0].why}",
            where=dropped[0].place,
            expected=f'rows as the entry "{entry.name}" of {info.name} describes them',
            remedy="Correct the entry or the rows.",
        )
    return DataSet(entry.name, left)


def _refuse_other_stage(entry: Entry, info: Info, stage: Stage) -> None:
    if entry.ranking == (stage == "dpo"):
        return
    found = "ranking: true" if entry.ranking else "no ranking: true"
    expected = "pairs, for stage: dpo" if stage == "dpo" else f"no pairs, for stage: {stage}"
    raise TaskError(
        f"found {found}",
        where=f'{info.name}, "{entry.name}"',
        expected=expected,
        remedy="Name another data set, or change the stage.",
    )


def _rows(entry: Entry) -> list[RawRow]:
    if entry.hub is not None:
        hub = entry.hub
        return hub_rows(hub.name, name=hub.subset, split=hub.split, revision=None, data_dir=hub.folder)
    return [row for file in entry.files for row in _file_rows(file)]


def _file_rows(file: Path) -> list[RawRow]:
    """A text file has a row for each line, under `text`."""
    if file.suffix == ".txt":
        try:
            lines = file.read_bytes().decode("utf-8-sig").split("\n")
        except UnicodeDecodeError as error:
            raise DataError(
                "found bytes that are not UTF-8", where=str(file), expected="UTF-8", remedy="Save the file as UTF-8."
            ) from error
        lines = lines[:-1] if lines[-1] == "" else lines
        return [
            RawRow({"text": line.removesuffix("\r")}, number, f"{file}, row {number}")
            for number, line in enumerate(lines, start=1)
        ]
    return read_rows(file)


def _refuse_absent_columns(entry: Entry, stage: Stage, rows: Sequence[RawRow]) -> None:
    """A column that no row has is a name that was written wrongly."""
    used = {"messages", "system", "tools", "chosen", "rejected", "kto_tag"}
    if entry.formatting == "alpaca":
        used = {field.name for field in fields(Columns)} - {"messages"}
        used -= {"response"} if entry.ranking else set()
    used -= _UNUSED_IN_TEXT if stage == "pt" else set()
    present = {name for row in rows for name in row.values}
    for field in fields(Columns):
        column = getattr(entry.columns, field.name)
        if field.name not in used or column is None or column in present or column.lower() in present:
            continue
        if field.name in _OPTIONAL and column == field.default:
            continue
        raise DataError(
            f'found no column "{column}"',
            where=rows[0].place,
            expected=f"the {field.name} of each row, as the entry {entry.name} names it",
            remedy=f"Correct columns; the rows have {', '.join(sorted(present)) or 'none'}.",
        )


def _name_dropped(given: Given, entry: Entry, dropped: Sequence[Dropped], total: int) -> None:
    for why, there in dict.fromkeys((one.why, one.there) for one in dropped):
        places = [one.place for one in dropped if one.why == why]
        more = ", …" if len(places) > _NAMED_PLACES else ""
        also = "LLaMA-Factory drops them too" if there else "LLaMA-Factory trains on them"
        given.remark(
            f"dataset {entry.name}",
            "trap" if there else "differs",
            f"{len(places)} of {total} rows of {entry.name} are left out, {why} "
            f"({', '.join(places[:_NAMED_PLACES])}{more}); {also}.",
        )
