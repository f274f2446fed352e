"""What a check of a task's data found, with the rows that it is about."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from lastresort.app.data_check import first_rows, rows_by_number
from lastresort.data.formats.rows import RawRow
from lastresort.foreign import escaped
from lastresort.records.data_report import DataReport, Finding, Place, PreferenceReport
from lastresort.report.words import data as words
from lastresort.spec.task import Task
from lastresort.types import row_of_file
from lastresort.ui.workspace import state_of

SHOWN = 5  # occurrences of a finding
MOST_CHARACTERS = 20_000  # of a row
FilesState = tuple[tuple[str, tuple[int, ...]], ...]


@dataclass(frozen=True, slots=True)
class ShownRow:
    """place: where it stands. text: of its values, cut after MOST_CHARACTERS."""

    place: str
    text: str


@dataclass(frozen=True, slots=True)
class FoundRows:
    """A finding and some of its occurrences, each with the rows that it is about. more: that are not shown."""

    finding: Finding
    occurrences: tuple[tuple[str, tuple[ShownRow, ...]], ...]
    more: int


@dataclass(frozen=True, slots=True)
class CheckedData:
    """lines: name and figures, as the report has them. reused: what earlier runs used of the test items, "" for nothing."""

    ok: bool
    lines: tuple[tuple[str, str], ...]
    findings: tuple[FoundRows, ...]
    reused: str = ""


def findings_of(text: str, task: Task) -> CheckedData:
    """text: what `lastresort data check --json` printed of this task."""
    values = json.loads(text)
    preferences, reuse = values.pop("preferences", None), values.pop("test_reuse", None)
    values.pop("masks", None)
    report = DataReport.model_validate(values)
    judged = None if preferences is None else PreferenceReport.model_validate(preferences)
    lines = [(name, shown[0]) for name, shown in words.rows(report) if name != "findings"]
    lines += [("preferences", line) for line in words.preference_lines(judged)] if judged is not None else []
    named = {place.source for finding in report.findings for places in finding.places for place in places}
    rows = {str(path): rows_by_number(path) for path in task.examples.files if str(path) in named}
    found = tuple(_found(one, rows) for one in words.in_order(report))
    return CheckedData(report.ok, tuple(lines), found, "" if reuse is None else str(reuse["text"]))


def masks_of(text: str) -> str:
    """The training rows token by token. text: as for `findings_of`, of a check that shows some."""
    return "\n".join(map(escaped, json.loads(text)["masks"])).lstrip("\n")


def _found(finding: Finding, rows: Mapping[str, Mapping[int, RawRow]]) -> FoundRows:
    occurrences = []
    for index in range(min(SHOWN, finding.count)):
        places = finding.places[index] if index < len(finding.places) else ()
        detail = finding.details[index] if index < len(finding.details) else ""
        shown = tuple(ShownRow(str(place), _text(place, rows)) for place in places)
        if shown or detail:
            occurrences.append((detail, shown))
    return FoundRows(finding, tuple(occurrences), max(0, finding.count - len(occurrences)))


def _text(place: Place, rows: Mapping[str, Mapping[int, RawRow]]) -> str:
    row = rows.get(place.source, {}).get(place.row)
    return "" if row is None else text_of_row(row)


def shown_rows(task: Task, count: int) -> tuple[ShownRow, ...]:
    """The first rows of the examples."""
    path = task.examples.all or task.examples.train
    rows = () if path is None else first_rows(path, count)
    return tuple(ShownRow(row_of_file(row.number, row.line, str(path)), text_of_row(row)) for row in rows)


def text_of_row(row: RawRow) -> str:
    lines = [f"{key}: {value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)}"
             for key, value in row.values.items()]  # fmt: skip
    text = "\n".join(lines)
    return text if len(text) <= MOST_CHARACTERS else f"{text[:MOST_CHARACTERS]}… ({len(text):,} characters)"


def files_state(paths: Sequence[Path]) -> FilesState:
    """Changes with the files, as far as they are there."""
    return tuple((str(path), state_of(path.stat())) for path in paths if path.is_file())
