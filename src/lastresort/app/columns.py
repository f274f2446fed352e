"""Which columns of a data file hold the inputs and the answers: found, or asked for."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from lastresort.advice.columns import ColumnFacts, OpenColumns, choose_columns, facts_of, known_shape
from lastresort.data.files import read_rows
from lastresort.data.formats import COMMON_COLUMNS, SHAPES
from lastresort.data.formats.rows import RawRow
from lastresort.data.read import own_names
from lastresort.errors import DataError, InputError
from lastresort.report.words.draft import values_shown
from lastresort.report.words.wording import capital
from lastresort.spec.values import nearest_column

MOST_COLUMNS_SHOWN = 12
Ask = Callable[[OpenColumns], str | None]


class OpenColumnsError(InputError):
    """Which column is which is for a person to say."""


@dataclass(frozen=True, slots=True)
class TableColumns:
    """The columns of a file, and which of them are probably input and output, "" where several are equally plausible. shape: what
    the rows are by their keys alone, "" where columns have to be named. is_open: whether a person has to say which they are.
    """

    facts: tuple[ColumnFacts, ...]
    rows: int
    input: str = ""
    output: str = ""
    shape: str = ""
    is_open: bool = False


def table_columns(data: Path) -> TableColumns:
    """Raises DataError for a file that cannot be read."""
    rows = read_rows(data)
    facts = facts_of(rows)
    shape = known_shape(rows) or ""
    cells = SHAPES[shape].cells(frozenset(rows[0].values)) if shape else None
    is_open = cells is None and isinstance(choose_columns(facts, len(rows)), OpenColumns)
    return TableColumns(facts, len(rows), *(cells or _probable(facts, len(rows))), shape=shape, is_open=is_open)


def columns_of(
    data: Path,
    rows: Sequence[RawRow],
    facts: Sequence[ColumnFacts],
    given: tuple[str | None, str | None],
    ask: Ask | None,
) -> tuple[str, str] | None:
    """None where the rows' own shape says which they are. given: input and output, as they are named."""
    source, target = (None if name is None else own_names(rows, (name,))[0] for name in given)
    refuse_one_for_both(source, target, str(data))
    _refuse_unknown(facts, len(rows), {"--input": source, "--output": target})
    if source is None and target is None and known_shape(rows) is not None:
        return None
    while True:
        chosen = choose_columns(facts, len(rows), given_input=source, given_output=target)
        if not isinstance(chosen, OpenColumns):
            return chosen
        if len(facts) < 2:
            raise _too_few(facts, rows, data)
        if ask is None:
            next_choice = choose_columns(facts, len(rows), given_input=chosen.candidates[0].name, given_output=target)
            raise _unclear(
                [chosen, next_choice] if chosen.side == "input" and isinstance(next_choice, OpenColumns) else [chosen],
                data,
            )
        name = ask(chosen) or chosen.candidates[0].name
        source, target = (name, target) if chosen.side == "input" else (source, name)


def refuse_one_for_both(source: str | None, target: str | None, where: str) -> None:
    """Raises DataError where input and answer are the same column. where: the file."""
    if source is not None and source == target:
        raise DataError(
            f'found "{source}" for both',
            where=where,
            expected="one for the input and another for the answer",
            remedy="Choose a column for the answer.",
        )


def _too_few(facts: Sequence[ColumnFacts], rows: Sequence[RawRow], data: Path) -> DataError:
    filled = {one.name for one in facts}
    empty = dict.fromkeys(name for row in rows for name in row.values if name not in {*COMMON_COLUMNS, *filled})
    found = f'found no value in column "{next(iter(empty))}" of any row' if empty else "found one column"
    remedy = "Fill it in, or name another file." if empty else ""
    return DataError(found, where=str(data), expected="one for the input and one for the output", remedy=remedy)


def only_plausible(data: Path) -> Ask:
    """Answers with the most plausible column, without a person. Raises InputError where several are equally so."""

    def answer(column: OpenColumns) -> str:
        if column.likely > 1:
            raise _unclear([column], data)
        return column.candidates[0].name

    return answer


def _unclear(open_columns: Sequence[OpenColumns], data: Path) -> OpenColumnsError:
    """open_columns: what is open, the first of it with all columns that it could be."""
    columns = open_columns[0].candidates
    shown = sorted(columns[:MOST_COLUMNS_SHOWN], key=lambda one: one.place)
    listed = [f"{one.name} ({values_shown(one.samples, one.distinct)})" for one in shown]
    more = len(columns) - len(listed)
    options = " and ".join(f"--{one.side} COLUMN" for one in open_columns)
    remedy = f"Name {'it' if len(open_columns) == 1 else 'them'} with {options}"
    if all(one.likely == 1 for one in open_columns):
        remedy += ", or give --yes to take " + " and ".join(f'"{one.candidates[0].name}"' for one in open_columns)
    question = (
        f"column is the {open_columns[0].side}" if len(open_columns) == 1 else "columns are the input and the output"
    )
    return OpenColumnsError(
        f"cannot tell which {question}",
        where=str(data),
        expected=f"{'one' if len(open_columns) == 1 else 'two'} of {'; '.join(listed)}"
        + (f"; and {more} more" if more else ""),
        remedy=f"{remedy}.",
    )


def _refuse_unknown(facts: Sequence[ColumnFacts], rows: int, given: Mapping[str, str | None]) -> None:
    """given: by option."""
    names = [one.name for one in facts]
    unknown = {option: name for option, name in given.items() if name is not None and name not in names}
    if not unknown:
        return
    source, target = _probable(facts, rows)
    others = {"--input": target, "--output": source}
    nearest = {
        option: nearest_column(name, [one for one in names if one != others[option]])
        for option, name in unknown.items()
    }
    remedies = [
        f'write {option} "{name}"' if name else f"name one of them with {option}" for option, name in nearest.items()
    ]
    raise InputError(
        " and ".join(f'no column "{name}"' for name in unknown.values()),
        where=" and ".join(unknown),
        expected=", ".join(names),
        remedy=f"{capital(' and '.join(remedies))}.",
    )


def _probable(facts: Sequence[ColumnFacts], rows: int) -> tuple[str, str]:
    """Input and output, with the most plausible column where one is open; "" where several are equally plausible."""
    source = target = None
    while True:
        choice = choose_columns(facts, rows, given_input=source, given_output=target)
        if not isinstance(choice, OpenColumns):
            return choice
        name = choice.candidates[0].name if choice.likely == 1 else ""
        source, target = (name, choice.other) if choice.side == "input" else (choice.other, name)
        if not name or len(facts) < 2:
            return source or "", target or ""
