"""The data sets that a file names: read, aligned, sampled and mixed (num_samples, max_samples, mix_strategy)."""

from __future__ import annotations

import math
import random
from collections.abc import Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TypeVar

from lastresort.data.files import read_rows
from lastresort.data.formats.rows import RawRow
from lastresort.errors import DataError, TaskError
from lastresort.foreign import ROWS, read_text
from lastresort.interop.foreign_keys import ForeignKeys, hub_rows
from lastresort.interop.llamafactory.dataset_info import DataSetEntry, DataSetInfo, RowColumns, entry_of
from lastresort.interop.llamafactory.keys import Stage
from lastresort.interop.llamafactory.turns import AlignedRow, DroppedRow, align

Row = TypeVar("Row")
_STRATEGIES = ("concat", "interleave_under", "interleave_over", "interleave_once")


MOST_REPEATED = 1_000_000  # rows that are drawn again and again fill the memory, and teach no more


def sample_rows(rows: Sequence[Row], count: int | None, seed: int) -> list[Row]:
    """`count` rows at random, each once before any comes again; all of them, in order, for None."""
    if count is None:
        return list(rows)
    if count > max(len(rows), MOST_REPEATED):
        raise DataError(
            f"found num_samples: {count:,} of {len(rows):,} rows",
            expected=f"at most {MOST_REPEATED:,} where rows are repeated",
            remedy="Lower num_samples, or raise num_train_epochs.",
        )
    draws = random.Random(seed)
    order = draws.sample(range(len(rows)), len(rows))[:count]
    order += draws.choices(range(len(rows)), k=max(0, count - len(rows)))
    return [rows[number] for number in order]


def mix_rows(given: ForeignKeys, data_sets: Sequence[Sequence[Row]], seed: int) -> list[list[Row]]:
    """The rows of each data set as the strategy takes them; their order does not matter, since rows are shuffled.

    concat and interleave_once: every row once. interleave_under: as many of each as the smallest has. interleave_over: as
    many as the largest has, from the beginning again. With interleave_probs data sets are drawn until one is exhausted,
    or all are.
    """
    strategy = given.choice("mix_strategy", _STRATEGIES, "concat")
    shares = _probabilities(given, strategy, len(data_sets))
    lengths = [len(rows) for rows in data_sets]
    if strategy in ("concat", "interleave_once") or len(data_sets) == 1:
        return [list(rows) for rows in data_sets]
    if shares is None:
        counts = [min(lengths) if strategy == "interleave_under" else max(lengths)] * len(lengths)
    else:
        given.note_difference("interleave_probs", "Data sets are drawn with these chances, from another random stream.")
        counts = _drawn(lengths, shares, strategy == "interleave_over", seed)
    return [
        [rows[number % len(rows)] for number in range(count)] for rows, count in zip(data_sets, counts, strict=True)
    ]


def _probabilities(given: ForeignKeys, strategy: str, count: int) -> list[float] | None:
    value = given.any("interleave_probs")
    if value is None:
        return None
    parts = value.split(",") if isinstance(value, str) else value
    try:
        shares = [float(part) for part in parts]
    except (TypeError, ValueError):
        shares = []
    if strategy == "concat" or len(shares) != count or not all(0 < share < math.inf for share in shares):
        given.refuse(
            "interleave_probs",
            f'"{value}" beside mix_strategy: {strategy}',
            expected=f"{count} chances above 0, one for each data set, with an interleaving strategy",
            remedy="Correct it, or remove it.",
        )
    return shares


def _drawn(lengths: Sequence[int], shares: Sequence[float], until_all: bool, seed: int) -> list[int]:
    draws, counts = random.Random(seed), [0] * len(lengths)
    enough = all if until_all else any
    while not enough(count >= length for count, length in zip(counts, lengths, strict=True)):
        if sum(counts) > MOST_REPEATED + sum(lengths):
            raise DataError(
                f"more than {sum(counts):,} rows are drawn before each data set is exhausted",
                where="interleave_probs",
                expected="chances for which fewer are enough",
                remedy="Raise the smallest chance.",
            )
        counts[draws.choices(range(len(lengths)), weights=shares)[0]] += 1
    return counts


_NAMED_PLACES = 3
_OPTIONAL = frozenset({"query", "system", "tools", "history"})
_UNUSED_IN_TEXT = frozenset({"response", "chosen", "rejected", "kto_tag"})


@dataclass(frozen=True, slots=True)
class NamedRows:
    name: str
    rows: tuple[AlignedRow, ...]


def read_data_sets(
    given: ForeignKeys, info: DataSetInfo, names: Sequence[str], stage: Stage, seed: int
) -> tuple[NamedRows, ...]:
    """Raises TaskError for an entry that does not serve the stage, DataError for a data set of which no row is left."""
    found = [_read(given, entry_of(info, name), info, stage, seed) for name in dict.fromkeys(names)]
    rows = mix_rows(given, [data_set.rows for data_set in found], seed) if found else []
    return tuple(NamedRows(one.name, tuple(kept)) for one, kept in zip(found, rows, strict=True))


def _read(given: ForeignKeys, entry: DataSetEntry, info: DataSetInfo, stage: Stage, seed: int) -> NamedRows:
    _refuse_other_stage(entry, info, stage)
    rows = _rows(entry, given)
    _refuse_absent_columns(entry, stage, rows)
    kept = sample_rows(rows, entry.num_samples, seed)
    kept = kept[: given.count("max_samples", len(kept), least=1)]
    if entry.num_samples is not None:
        given.note_difference(
            f"{entry.name}.num_samples",
            f"{entry.num_samples} rows of {entry.name} are drawn as num_samples says, but from another random stream.",
        )
    found = [align(entry, stage, row) for row in kept]
    dropped = [one for one in found if isinstance(one, DroppedRow)]
    left = tuple(one for one in found if isinstance(one, AlignedRow))
    _note_dropped(given, entry, dropped, len(kept))
    if not left:
        raise DataError(
            f"no row of {len(kept)} can be trained on: {dropped[0].why}",
            where=dropped[0].place,
            expected=f'rows as the entry "{entry.name}" of {info.name} describes them',
            remedy="Correct the entry or the rows.",
        )
    return NamedRows(entry.name, left)


def _refuse_other_stage(entry: DataSetEntry, info: DataSetInfo, stage: Stage) -> None:
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


def _rows(entry: DataSetEntry, given: ForeignKeys) -> list[RawRow]:
    if entry.hub is not None:
        hub = entry.hub
        where = given.where("dataset" if entry.name in given.names("dataset") else "eval_dataset")
        return hub_rows(hub.name, where=where, name=hub.subset, split=hub.split, revision=None, data_dir=hub.folder)
    return [row for file in entry.files for row in _file_rows(file)]


def _file_rows(file: Path) -> list[RawRow]:
    """A text file has a row for each line, under `text`."""
    if file.suffix == ".txt":
        try:
            lines = read_text(file, ROWS, raised=DataError).split("\n")
        except OSError as error:
            raise DataError("found no file", where=str(file), remedy="Correct file_name.") from error
        lines = lines[:-1] if lines[-1] == "" else lines
        return [
            RawRow({"text": line.removesuffix("\r")}, number, f"{file}, row {number}")
            for number, line in enumerate(lines, start=1)
        ]
    return read_rows(file)


def _refuse_absent_columns(entry: DataSetEntry, stage: Stage, rows: Sequence[RawRow]) -> None:
    """A column that no row has is a misspelt name."""
    used = {"messages", "system", "tools", "chosen", "rejected", "kto_tag"}
    if entry.formatting == "alpaca":
        used = {field.name for field in fields(RowColumns)} - {"messages"}
        used -= {"response"} if entry.ranking else set()
    used -= _UNUSED_IN_TEXT if stage == "pt" else set()
    present = {name for row in rows for name in row.values}
    for field in fields(RowColumns):
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


def _note_dropped(given: ForeignKeys, entry: DataSetEntry, dropped: Sequence[DroppedRow], total: int) -> None:
    for why, there in dict.fromkeys((one.why, one.there) for one in dropped):
        places = [one.place for one in dropped if one.why == why]
        named = ", ".join(places[:_NAMED_PLACES]) + (", …" if len(places) > _NAMED_PLACES else "")
        sentence = f"{len(places)} of {total} rows of {entry.name} are left out, {why} ({named}); LLaMA-Factory"
        if there:
            given.note_trap(f"dataset {entry.name}", f"{sentence} drops them too.")
        else:
            given.note_difference(f"dataset {entry.name}", f"{sentence} trains on them.")
