"""Read labelled examples, or prompts, from a file: its type by its suffix, the rows' shape by their keys.

A task file may name the columns under their owner's names; they are then called input and output.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NoReturn

from lastresort.data.files import read_rows
from lastresort.data.formats import COMMON_COLUMNS, KNOWN_COLUMNS, SHAPES, RowShape
from lastresort.data.formats.rows import RawRow, compact_json, in_rows, kind_of, more_in, row_json
from lastresort.data.formats.shape import input_turns, no_answer, no_question, without_spaces
from lastresort.errors import DataError
from lastresort.foreign import NotJson, parse_json
from lastresort.types import Example, Message, SeedPassage, row_of_file

Names = Mapping[str, Sequence[str]]  # our key -> the file's columns; several become one object


class MissingColumnError(DataError):
    """A file has no column of a name that the task gives. key: that gives it. column: the name. known: the file's columns. free:
    those of them that it may have meant.
    """

    def __init__(self, row: RawRow, key: str, column: str, known: Sequence[str], free: Sequence[str]) -> None:
        super().__init__(
            f'no column "{column}"',
            where=row.place,
            expected=f"one of {', '.join(known) or 'none'}",
            remedy=f"Correct `{key}`.",
        )
        self.key, self.column, self.known, self.free = key, column, known, free


def renamed(rows: Sequence[RawRow], names: Names, keep: Collection[str] = ()) -> list[RawRow]:
    """The rows with the columns of `names` under our keys, and those of `keep` as they are; all others are left out.

    names: "input" and "output" at least. Raises MissingColumnError where no row has one of the columns, DataError for a row that
    lacks one.
    """
    known = sorted({column for row in rows for column in row.values})
    names = {key: own_names(rows, columns) for key, columns in names.items()}
    for key, columns in names.items():
        for column in columns:
            if rows and column not in known:
                named = {other for columns in names.values() for other in columns}
                free = [other for other in known if other not in named]
                raise MissingColumnError(rows[0], f"columns.{key}", column, known, free)
    return [_renamed(row, names, keep) for row in rows]


def own_names(rows: Sequence[RawRow], columns: Sequence[str]) -> tuple[str, ...]:
    """The columns by the names under which the rows are read: a known one may be named in any case, as a header may spell it."""
    read = {column for row in rows for column in row.values}
    lower = KNOWN_COLUMNS & read
    return tuple(column.lower() if column not in read and column.lower() in lower else column for column in columns)


def _renamed(row: RawRow, names: Names, keep: Collection[str]) -> RawRow:
    named = {column for columns in names.values() for column in columns}
    values = {
        key: row.values[key]
        for key in keep
        if key in row.values and not (key == "synthetic" and key in named)  # a label of that name is no mark
    }
    values |= {key: _value(row, columns) for key, columns in names.items()}
    own = {key: ", ".join(row.header.get(column, column) for column in columns) for key, columns in names.items()}
    return RawRow(values, row.number, row.place, row.in_table, own, line=row.line)


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


PROMPT_KEYS = ("prompt", "messages", "input", "question", "query", "instruction")


def read_prompts(path: Path) -> tuple[list[Example], dict[str, Mapping[str, Any]]]:
    """The prompts of a file, for GRPO, and the columns of their rows by example id.

    A file in one of the labelled shapes is read as such. Any other needs a prompt (text or turns); its examples have an
    empty output. Raises DataError naming file, row and key.
    """
    rows = read_rows(path)
    if shape_of(frozenset(rows[0].values)) is not None and not _ends_with_user(rows[0]):
        examples = read_examples(path)
    else:
        examples = _prompts(rows, str(path))
    by_number = {row.number: row.values for row in rows}
    return examples, {example.id: by_number[example.row] for example in examples}


def _ends_with_user(row: RawRow) -> bool:
    turns = row.values.get("messages")
    return isinstance(turns, list) and bool(turns) and isinstance(turns[-1], dict) and turns[-1].get("role") == "user"


def _prompts(rows: list[RawRow], source: str) -> list[Example]:
    key = next((key for key in PROMPT_KEYS if key in rows[0].values), None)
    if key is None:
        found = ", ".join(sorted(rows[0].values)) or "none"
        raise DataError(
            f"found the keys {found}",
            where=rows[0].place,
            expected=f"one of {', '.join(PROMPT_KEYS)}",
            remedy="Rename the column of prompts to prompt.",
        )
    examples, occurrences = [], Counter[str]()
    for row in rows:
        turns = input_turns(row, key)
        if turns[-1].role == "assistant":
            raise DataError(
                "found a prompt that ends with an answer",
                where=row.at(key),
                expected="a last turn of the user",
                remedy="Remove the answer, or write it in all rows as labelled examples.",
            )
        content = content_hash(turns, "")
        occurrences[content] += 1
        given = f"{content}-{occurrences[content]}"
        examples.append(Example(given, turns, "", row=row.number, source=source, line=row.line))
    return examples


def read_examples(path: Path, *, group_by: str | None = None, names: Names | None = None) -> list[Example]:
    """The labelled examples of a file, in its order.

    group_by: the column that names a row's group; without it, a column `group` if there is one. names: the columns that are input
    and output, where they are called otherwise.
    A row without an id gets a hash of its content and the number of its occurrence, so ids survive reordering.
    Raises DataError naming file, row and key.
    """
    rows = read_rows(path)
    if group_by is not None:
        (group_by,) = own_names(rows, (group_by,))
        if not any(group_by in row.values for row in rows):
            known = sorted({column for row in rows for column in row.values})
            raise MissingColumnError(rows[0], "split.group_by", group_by, known, known)
    if names is not None:
        rows = renamed(rows, names, COMMON_COLUMNS if group_by is None else {*COMMON_COLUMNS, group_by})
    return examples_of(rows, path, group_by=group_by)


def examples_of(rows: list[RawRow], path: Path, *, group_by: str | None = None) -> list[Example]:
    """Like read_examples, from rows. path: their file."""
    shape = _shape_of_file(rows, path)
    _refuse_empty(rows, shape)
    examples = []
    occurrences: Counter[str] = Counter()
    for row in rows:
        _refuse_unsupported(row)
        turns, output = shape.parse(row)
        given = _scalar(row, "id")
        if given is None:
            content = content_hash(turns, output)
            occurrences[content] += 1
            given = f"{content}-{occurrences[content]}"
        group = _group(row, group_by)
        passages, made = _passages(row), _provenance(row)
        seeds, passage = _seeds(row, made), _seed_passage(row, made)
        _, target = shape.cells(frozenset(row.values)) or ("", "")
        cell = row.values.get(target)
        stripped = row.in_table and cell != without_spaces(cell)
        place = row.number, str(path)
        examples.append(Example(given, turns, output, group, passages, *place, seeds, passage, stripped, row.line))
    _check_ids(examples)
    return examples


def content_hash(turns: Iterable[Message], output: str) -> str:
    """Twelve hex digits of what the example says, wherever it is."""
    text = compact_json([[turn.as_dict() for turn in turns], output], "content")
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:12]


def shape_of(keys: frozenset[str]) -> RowShape | None:
    """The first shape that a row of these columns has."""
    return next((shape for shape in SHAPES.values() if shape.fits(keys)), None)


def _shape_of_file(rows: list[RawRow], path: Path) -> RowShape:
    """The shape of the first row, which every other row must have. Raises DataError naming the first that differs."""
    first = rows[0]
    first_named = row_of_file(first.number, first.line, str(path))
    _refuse_pairs(first)
    shape = shape_of(frozenset(first.values))
    if shape is None:
        _raise_unknown(first)
    for row in rows[1:]:
        keys = frozenset(row.values)
        other = shape_of(keys)
        if other is shape:
            continue
        if other is None:
            missing = sorted(key for key in shape.keys & frozenset(first.values) if key not in keys)
            raise DataError(
                f"found the keys {_listed(keys)}",
                where=f'{row.place}, key "{missing[0]}"' if missing else row.place,
                expected=f"the keys of {first_named}: {_listed(frozenset(first.values))}",
                remedy="Fill in what is missing or remove the row.",
            )
        raise DataError(
            f"found the shape {other.name}",
            where=row.place,
            expected=f"{shape.name} as in {first_named}",
            remedy="Write all rows of a file in one shape.",
        )
    return shape


def _refuse_pairs(row: RawRow) -> None:
    keys = frozenset(row.values)
    if {"chosen", "rejected"} <= keys or {"chosen_messages", "rejected_messages"} <= keys:
        raise DataError(
            "found preference pairs",
            where=row.place,
            expected="labelled examples",
            remedy="Name this file under `preferences:` in the task file.",
        )


def _raise_unknown(row: RawRow) -> NoReturn:
    keys = frozenset(row.values)
    header = "The first line of a table must name its columns. " if row.in_table else ""
    raise DataError(
        f"found the keys {_listed(keys)}",
        where=row.place,
        expected="one of " + ", ".join(shape.looks for shape in SHAPES.values()),
        remedy=f"{header}Name two of them in the task file: columns: {{input: COLUMN, output: COLUMN}}.",
    )


def _refuse_unsupported(row: RawRow) -> None:
    """Raises DataError for columns that change the meaning of a row but would be ignored."""
    if isinstance(row.values.get("label"), bool) and not {"text", "question", "input"} & frozenset(row.values):
        raise DataError(
            "found answers marked good or bad",
            where=row.at("label"),
            expected="labelled examples",
            remedy="Name this file under `preferences:` in the task file.",
        )
    if row.values.get("tools") not in (None, "", [], "[]"):
        raise DataError(
            "found a list of tools in the row",
            where=row.at("tools"),
            expected="tools that are the same for all rows",
            remedy="Put them under `chat_template_kwargs: {tools: […]}` in the task file and remove the column.",
        )


def _refuse_empty(rows: list[RawRow], shape: RowShape) -> None:
    """Raises DataError where several inputs or outputs are empty, naming the rows of both at once. Parsing reports a single one."""
    empty: dict[str, list[RawRow]] = {}
    for row in rows:
        source, target = shape.cells(frozenset(row.values)) or (None, None)
        for key, is_empty in ((source, no_question), (target, no_answer)):
            if key is not None and is_empty(row.values[key]):
                empty.setdefault(key, []).append(row)
    if sum(map(len, empty.values())) < 2:
        return
    (key, (first, *rest)), *others = empty.items()
    more = [more_in([row.number for row in rest])] if rest else []
    more += [f"{len(at)} in {at[0].called(name)}, {in_rows([row.number for row in at])}" for name, at in others]
    raise DataError(
        f"found {kind_of(first.values[key])} ({'; '.join(more)})",
        where=first.at(key),
        expected="a value in every row",
        remedy="Fill them in or remove the rows.",
    )


def _listed(keys: frozenset[str]) -> str:
    return ", ".join(sorted(keys)) or "none"


_NO_MARK = frozenset({"", "0", "false", "no", "none", "null", "nan"})  # of a column `synthetic`, in lower case


def _scalar(row: RawRow, key: str) -> str | None:
    value = row.values.get(key)
    if value is None or value == "":
        return None
    if isinstance(value, (str, int)) and not isinstance(value, bool):
        return str(value)
    raise DataError(
        f"found {kind_of(value)}", where=row.at(key), expected="text or a whole number", remedy="Write it as text."
    )


def _group(row: RawRow, group_by: str | None) -> str | None:
    group = _scalar(row, group_by or "group")
    if group is None and group_by is not None:
        raise DataError(
            "found nothing" if group_by not in row.values else f"found {kind_of(row.values[group_by])}",
            where=row.at(group_by),
            expected="the row's group, as split.group_by asks for",
            remedy=f"Fill in the column, or change group_by (this row has: {_listed(frozenset(row.values))}).",
        )
    return group


def _passages(row: RawRow) -> tuple[str, ...]:
    """A list of texts; in a table a JSON list, or one passage."""
    value = row.values.get("passages")
    if isinstance(value, str) and value.lstrip().startswith("["):
        value = row_json(value, row.at("passages"))
    if value is None or value == "":
        return ()
    found = [value] if isinstance(value, str) else value
    if isinstance(found, list) and all(isinstance(item, str) for item in found):
        return tuple(found)
    raise DataError(
        f"found {kind_of(value)}",
        where=row.at("passages"),
        expected="a list of passage names such as document#chunk",
        remedy="Write each name as text.",
    )


def _provenance(row: RawRow) -> Any:
    """What `lastresort data synth` notes of a row that it made, in a table as JSON text, or the mark of another tool."""
    made = row.values.get("synthetic")
    if isinstance(made, str) and made.lstrip().startswith("{"):
        try:
            return parse_json(made)
        except NotJson as error:
            raise DataError(
                f"found an object that is not JSON ({error.reason})",
                where=row.at("synthetic"),
                expected="JSON, or nothing",
                remedy="Write the cell with json.dumps, or use the JSON Lines file that `lastresort data synth` wrote.",
            ) from error
    return made


def _seed_passage(row: RawRow, made: Any) -> SeedPassage | None:
    """None for a row that was made without one."""
    passage = made.get("passage") if isinstance(made, Mapping) and "seed_inputs" in made else None
    if passage is None:
        return None
    match passage:
        case {
            "document": str(document),
            "section": str(section),
            "start": int(start),
            "end": int(end),
            "text_hash": str(text_hash),
        } if 0 <= start <= end:
            return SeedPassage(document, section, start, end, text_hash)
    raise DataError(
        "found a synthetic row whose passage cannot be read",
        where=row.at("synthetic"),
        expected="document, section, start, end and text_hash, as `lastresort data synth` wrote them",
        remedy="Take the row as it was written; without it the row may ask what dev or test asks.",
    )


def _seeds(row: RawRow, made: Any) -> tuple[str, ...] | None:
    """Hashes of the inputs that a row was made from. None for a row that is not marked, () for the mark of another tool."""
    if isinstance(made, str):
        return None if made.strip().lower() in _NO_MARK else ()
    if not isinstance(made, Mapping):
        return () if made and made == made else None  # an empty cell may be NaN
    seeds = made.get("seed_inputs")
    if isinstance(seeds, list) and all(isinstance(seed, str) for seed in seeds):
        return tuple(seeds)
    if made.keys() & {"seed_inputs", "seeds", "teacher"}:
        raise DataError(
            "found a synthetic row whose seed_inputs are not a list of texts",
            where=row.at("synthetic"),
            expected="the hashes that `lastresort data synth` wrote",
            remedy="Take the row as it was written; without them it may repeat a row of dev or test.",
        )
    return ()


def _check_ids(examples: list[Example]) -> None:
    seen: dict[str, Example] = {}
    for example in examples:
        before = seen.setdefault(example.id, example)
        if before is not example:
            raise DataError(
                f'found "{example.id}", which is also the id of {row_of_file(before.row, before.line, before.source)}',
                where=f'{example.place}, key "id"',
                expected="unique ids",
                remedy="Make the ids unique, or leave the column out.",
            )
