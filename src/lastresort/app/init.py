"""From a data file of one's own to a task file: read, draft, write, and check that it loads. No model is run."""

from __future__ import annotations

import csv
import io
import json
import math
import os
import re
import unicodedata
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lastresort.advice.columns import facts_of, group_column, known_shape
from lastresort.advice.draft import LADDERS, FewUnitsError, TaskDraft, draft
from lastresort.app.columns import Ask, columns_of
from lastresort.data.files import read_rows, stem_of
from lastresort.data.formats import COMMON_COLUMNS, SHAPES
from lastresort.data.formats.rows import RawRow
from lastresort.data.formats.shape import no_answer, no_question
from lastresort.data.read import examples_of, own_names, renamed
from lastresort.data.split import UnitSize, groups_of, unit_sizes
from lastresort.errors import DataError, InputError, LastresortError, SplitError
from lastresort.records.atomic import disk_errors, write_atomically
from lastresort.records.data_report import DataReport
from lastresort.report.words.data import lines
from lastresort.report.words.draft import DraftFacts, Ungrouped, drafted_line, few_test_items, rows_without, task_text
from lastresort.spec.sections import SplitSettings

if TYPE_CHECKING:
    from lastresort.app.dry_run import FewItems

DEV_STEMS, TEST_STEMS = ("dev", "valid", "validation", "val"), ("test",)
NOUNS = frozenset(
    "question query sentence message utterance request comment review ticket email description document article title".split()
)


@dataclass(frozen=True, slots=True)
class InitRequest:
    """data: the file of labelled rows. input, output: its columns, None where they are to be found. task_file: what is written.
    name: of the task, "" for the file's. leave_out_empty: a copy of the file without rows that lack an input or an answer is
    written next to the task file, and used.
    """

    data: Path
    input: str | None = None
    output: str | None = None
    task_file: Path = Path("task.yaml")
    name: str = ""
    leave_out_empty: bool = False


class EmptyRowsError(DataError):
    """Some rows lack an input or an answer, and the others can be used without them.

    without_input, without_output: how many rows; one that lacks both counts as without an answer.
    """

    without_input = without_output = 0


@dataclass(frozen=True, slots=True)
class LeftOut:
    """The rows that are kept. copy: the file that holds them alone, with its text. what: those left out, in words."""

    rows: list[RawRow]
    copy: Path
    text: str
    what: str


@dataclass(frozen=True, slots=True)
class Drafted:
    """A task file that was written. files: it, and the schema where there is one. report: what checking its data found. left_out:
    None where the task reads the file that was given. few: None where the test items are enough for a verdict near the bar.
    """

    draft: TaskDraft
    task_file: Path
    files: tuple[Path, ...]
    report: DataReport
    left_out: LeftOut | None = None
    few: FewItems | None = None

    def lines(self) -> list[str]:
        """What the check found, as `lastresort init` prints it."""
        few = () if self.few is None else (few_test_items(self.few.n, self.few.enough, self.draft.bar),)
        return lines(self.report, None, *few)

    def __repr__(self) -> str:
        return f"<Drafted {self._in_short}>"

    def _repr_html_(self) -> str:
        from lastresort.report.notebook import lines_html

        return lines_html(self._in_short, self.lines())

    @property
    def _in_short(self) -> str:
        return f"{self.task_file}: {drafted_line(self.draft.rows, self.draft.score, self.draft.bar)}"

    def as_dict(self) -> dict[str, object]:
        """As `lastresort init --json` prints it."""
        return {
            "task_file": str(self.task_file),
            "files": [str(path) for path in self.files],
            "rows": self.draft.rows,
            "answers": self.draft.answers.kind,
            "score": self.draft.score,
            "bar": self.draft.bar,
            "data": self.report.as_json(),
            "few_test_items": None if self.few is None else asdict(self.few),
        }


def init_task(
    request: InitRequest, ask: Ask | None = None, leave_out: Callable[[EmptyRowsError], bool] | None = None
) -> Drafted:
    """Draft the task of a data file and write it; what was written goes again where it does not load.

    ask: which column is meant where that is open; gives None for "the first". Without it, an open column is an error. leave_out:
    whether to leave out the rows that an error is about.
    Raises DataError for rows that cannot be used, EmptyRowsError where some could be left out, OpenColumnsError for columns that
    are open, InputError for a file that is there already.
    """
    rows = read_rows(request.data)
    if request.task_file.exists():
        raise InputError(
            "already exists",
            where=str(request.task_file),
            remedy="Remove it, or name another file with --task.",
        )
    if not request.task_file.absolute().parent.is_dir():
        raise InputError(
            "no such folder",
            where=str(request.task_file.parent),
            remedy="Make it, or name another file with --task.",
        )
    facts = facts_of(rows)
    columns = columns_of(request.data, rows, facts, (request.input, request.output), ask)
    try:
        left_out = without_empty_rows(request, columns, rows)
    except EmptyRowsError as error:
        if leave_out is None or not leave_out(error):
            raise
        left_out = without_empty_rows(replace(request, leave_out_empty=True), columns, rows)
    if left_out is not None:
        rows, facts = left_out.rows, facts_of(left_out.rows)
    group_facts = group_column(facts, len(rows), columns or ())
    names_groups = group_facts is not None and all(isinstance(row.values[group_facts.name], str | int) for row in rows)
    examples = examples_of(_used(rows, columns), request.data)
    beside = {
        part: path
        for part, stems in (("dev", DEV_STEMS), ("test", TEST_STEMS))
        if (path := _beside(request.data, stems))
    }
    row_counts = {part: len(read_rows(path)) for part, path in beside.items()}
    outputs = [one.output for one in examples]
    as_in_file = None if columns is None else _as_in_header(columns, rows[0].header)

    def drafter(group: str | None) -> Callable[..., TaskDraft]:
        grouped = examples if group is None else examples_of(_used(rows, columns, group), request.data, group_by=group)
        units, has_groups = unit_sizes(grouped, SplitSettings().seed), groups_of(grouped) is not None
        # Whether a test file of its own has groups shows once it is read with the task.
        has_groups = has_groups and "test" not in beside
        return partial(_draft, outputs, units, has_groups, as_in_file, row_counts, beside, request, group)

    ungrouped: Ungrouped = "files" if names_groups else "type"
    group = group_facts.name if group_facts and names_groups and not beside else None
    make_draft = drafter(group)
    try:
        task_draft = make_draft()
    except FewUnitsError as error:
        if group is None:
            raise
        ungrouped = error.cause
        make_draft = drafter(None)
        task_draft = make_draft()
    schema_file = request.task_file.with_name(f"{request.task_file.stem}.schema.json")
    schema = None if task_draft.answers.schema is None else schema_file
    if schema is not None and schema.exists():
        raise InputError(
            "already exists", where=str(schema), remedy="Remove it, or name another task file with --task."
        )
    facts_of_draft = _facts(task_draft, request, beside, schema, group_facts.name if group_facts else None, left_out)
    facts_of_draft = replace(facts_of_draft, ungrouped=ungrouped)
    return _written(task_draft, make_draft, request, facts_of_draft, schema, left_out)


def without_empty_rows(
    request: InitRequest, columns: tuple[str, str] | None, rows: list[RawRow] | None = None
) -> LeftOut | None:
    """None where every row has an input and an answer, or none has. columns: None where the rows' own shape says which they are.
    rows: of the request's data, None to read them. Raises EmptyRowsError where nobody said to leave the others out.
    """
    rows = read_rows(request.data) if rows is None else rows
    shape = known_shape(rows)
    shape_keys = SHAPES[shape].cells(frozenset(rows[0].values)) if shape else None
    keys = shape_keys if columns is None else own_names(rows, columns)
    if keys is None:
        return None
    filled = [row for row in rows if not no_answer(row.values.get(keys[1]))]
    complete = [row for row in filled if not no_question(row.values.get(keys[0]))]
    if not complete or len(complete) == len(rows):
        return None
    missing = len(filled) - len(complete), len(rows) - len(filled)
    if request.leave_out_empty:
        stem, suffix = stem_of(request.data), ".csv" if rows[0].in_table else ".jsonl"
        copy = free_path(request.task_file.parent, f"{stem}-complete", suffix)
        return LeftOut(complete, copy, _as_file(complete), rows_without(*missing))
    try:
        examples_of(_used(rows, columns), request.data)
    except DataError as error:
        refusal = EmptyRowsError(error.found, where=error.where, expected=error.expected, remedy=error.remedy)
        refusal.without_input, refusal.without_output = missing
        raise refusal from error
    return None


def free_path(folder: Path, stem: str, suffix: str) -> Path:
    """A file of this name that is not there yet, with a number where the name is taken."""
    path, number = folder / f"{stem}{suffix}", 1
    while os.path.lexists(path):
        number += 1
        path = folder / f"{stem}-{number}{suffix}"
    return path


def _as_file(rows: Sequence[RawRow]) -> str:
    """A table as CSV, all else as JSON Lines."""
    if not rows[0].in_table:
        return "".join(json.dumps(_finite(row.values), ensure_ascii=False, default=str) + "\n" for row in rows)
    table = io.StringIO()
    # Unquoted, a lone carriage return would end a row.
    writer = csv.writer(table, lineterminator="\n", quoting=csv.QUOTE_ALL)
    writer.writerow(rows[0].values)
    writer.writerows(row.values.values() for row in rows)
    return table.getvalue()


def _finite(value: Any) -> Any:
    """Without the numbers that JSON does not have, which Parquet writes for what is missing."""
    if isinstance(value, Mapping):
        return {key: _finite(one) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(one) for one in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _as_in_header(columns: tuple[str, str], header: Mapping[str, str]) -> tuple[str, str]:
    source, target = columns
    return header.get(source, source), header.get(target, target)


def _used(rows: list[RawRow], columns: tuple[str, str] | None, *others: str) -> list[RawRow]:
    if columns is None:
        return rows
    return renamed(rows, {"input": (columns[0],), "output": (columns[1],)}, COMMON_COLUMNS.union(others))


def _beside(data: Path, stems: Sequence[str]) -> Path | None:
    """Beside a file called train: the file called dev or test."""
    if data.name.split(".")[0].lower() != "train":
        return None
    suffixes = "".join(data.suffixes)
    return next((path for stem in stems if (path := data.with_name(stem + suffixes)).is_file()), None)


def _draft(
    outputs: Sequence[str],
    together: Sequence[UnitSize],
    grouped: bool,
    columns: tuple[str, str] | None,
    counted: dict[str, int],
    beside: dict[str, Path],
    request: InitRequest,
    group_by: str | None,
    skipped: Collection[str] = (),
    units: int | None = None,
    test_grouped: bool | None = None,
) -> TaskDraft:
    return draft(
        outputs,
        columns=columns,
        group_by=group_by,
        grouped=grouped if test_grouped is None else test_grouped,
        together=together,
        n_dev=counted.get("dev"),
        n_test=counted.get("test"),
        where=str(request.data),
        where_test=str(beside.get("test", "")),
        skipped=skipped,
        units=units,
    )


def _facts(
    task_draft: TaskDraft,
    request: InitRequest,
    beside: dict[str, Path],
    schema: Path | None,
    group: str | None,
    left_out: LeftOut | None,
) -> DraftFacts:
    task_folder = request.task_file.absolute().parent
    paths = {"train": request.data if left_out is None else left_out.copy, **beside}
    names = {part: os.path.relpath(path.absolute(), task_folder).replace(os.sep, "/") for part, path in paths.items()}
    answers, schema_of_answers = task_draft.answers, task_draft.answers.schema or {}
    required = schema_of_answers.get("required", ())
    return DraftFacts(
        name=_name(request),
        data=request.data.name,
        examples=names if beside else names["train"],
        rows=task_draft.rows,
        source=next((name for name in (task_draft.columns or ())[:1] if name.lower() in NOUNS), "text"),
        kind=answers.kind,
        score=task_draft.score,
        bar=task_draft.bar,
        majority=answers.majority,
        most_frequent=answers.labels[0] if answers.labels else "",
        ladder=task_draft.ladder,
        untested=tuple(rung for rung in LADDERS[0] if rung not in task_draft.ladder),
        dev=task_draft.dev,
        test=task_draft.test,
        labels=answers.labels,
        respelt=answers.respelt,
        misspelt=answers.misspelt,
        perhaps_labels=answers.distinct if answers.repeat else 0,
        keys=tuple(required),
        optional=tuple(key for key in schema_of_answers.get("properties", ()) if key not in required),
        schema_file=schema.name if schema else None,
        columns=task_draft.columns,
        group=group,
        grouped=task_draft.group_by is not None,
        left_out="" if left_out is None else left_out.what,
    )


def _name(request: InitRequest) -> str:
    """A task's name: as it was given, else from the file's; of a file called train, from its folder's."""
    if request.name:
        return _plain(request.name, r"[^A-Za-z0-9._-]+")
    stem = stem_of(request.data)
    stem = request.data.absolute().parent.name if stem.lower() == "train" else stem
    return _plain(stem.casefold(), r"[^a-z0-9._]+")


def _plain(text: str, others: str) -> str:
    """others: a pattern of the letters that a name cannot hold."""
    ascii_text = "".join(letter for letter in unicodedata.normalize("NFKD", text) if not unicodedata.combining(letter))
    return re.sub(others, "-", ascii_text).strip("._-")[:80] or "task"


def _written(
    task_draft: TaskDraft,
    draft_again: Callable[[Collection[str], int, bool], TaskDraft],
    request: InitRequest,
    facts: DraftFacts,
    schema: Path | None,
    left_out: LeftOut | None,
) -> Drafted:
    """With the ladder that a climb of these rows would try, and the bar that its test items can show. draft_again: the same
    draft without some rungs, for so many test items, or groups.
    """
    from lastresort.app.dry_run import few_items
    from lastresort.climb.prepare import data_report, prepare
    from lastresort.climb.shares import refuse_few_items
    from lastresort.rungs.rung import find_rung
    from lastresort.spec.task import load_task

    files = (request.task_file, *([schema] if schema else []), *([left_out.copy] if left_out else []))
    try:
        with disk_errors(request.task_file):
            if schema is not None:
                write_atomically(schema, json.dumps(task_draft.answers.schema, ensure_ascii=False, indent=2) + "\n")
            if left_out is not None:
                write_atomically(left_out.copy, left_out.text)
            write_atomically(request.task_file, task_text(facts))
        prepared = prepare(load_task(request.task_file), run_code=False, begins=False)
        whys = {rung: find_rung(rung).skip_reason(prepared.task, prepared.split.train) for rung in LADDERS[0]}
        skipped = {rung: why for rung, why in whys.items() if why is not None}
        # A test file may have groups where the others have none.
        fitting_draft = draft_again(skipped, prepared.n_units, groups_of(prepared.split.test) is not None)
        if skipped or fitting_draft != task_draft:
            task_draft = fitting_draft
            untested = tuple(rung for rung in LADDERS[0] if rung not in (*task_draft.ladder, *skipped))
            facts = replace(facts, bar=task_draft.bar, ladder=task_draft.ladder, untested=untested, skipped=skipped)
            with disk_errors(request.task_file):
                write_atomically(request.task_file, task_text(facts))
            prepared = prepare(load_task(request.task_file), run_code=False, begins=False)
        refuse_few_items(prepared)
        few = few_items(prepared, task_draft.ladder)
        report = data_report(prepared, None, None)
    except LastresortError as error:
        for path in files:
            path.unlink(missing_ok=True)
        if isinstance(error, SplitError) and task_draft.dev is not None:
            # The keys that it names have gone with the draft.
            remedy = "Add labelled examples with other inputs."
            raise SplitError(error.found, where=error.where, expected=error.expected, remedy=remedy) from error
        raise
    return Drafted(task_draft, request.task_file, files, report, left_out, few)
