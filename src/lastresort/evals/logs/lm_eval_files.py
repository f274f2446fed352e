"""Files of lm-eval: samples_TASK_DATE.jsonl, a document a line, beside results_DATE.json, which says how to read them."""

from __future__ import annotations

import json
import re
from collections import defaultdict
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from lastresort.errors import DataError
from lastresort.evals.logs.lm_eval_results import Results, pooled, results_of
from lastresort.evals.logs.lm_eval_rows import log_of
from lastresort.evals.logs.logged import Found, as_written_by, some

SAMPLES, RESULTS = "samples_*.jsonl", "results_*.json"
LONGEST_LINE, LARGEST_RESULTS = 64 * 1024**2, 256 * 1024**2  # bytes
_NAME = re.compile(r"samples_(?P<task>.+?)(?:_(?P<date>\d{4}-\d{2}-\d{2}T[0-9.\-]+))?")


def lm_eval_file(path: Path) -> Found:
    """The samples of one task. Raises DataError for a file that holds none."""
    return _read(path, results_beside(path))


def lm_eval_folder(folder: Path) -> tuple[Found, list[str]]:
    """All samples below a folder, and notes; tasks that lm-eval averages into a group are one measure, with a stratum a task.

    Raises DataError for a file that is no log, and where two models have logs below the folder.
    """
    files, notes = newest_samples(folder)
    by_results: dict[Path | None, list[Path]] = defaultdict(list)
    for path in files:
        by_results[_results_path(path)].append(path)
    measures, faults = [], []
    for beside, paths in by_results.items():
        results = _loaded(beside)
        read = [_read(path, results) for path in paths]
        measures += pooled([one for found, _ in read for one in found], results, str(folder))
        faults += [fault for _, own in read for fault in own]
    return (measures, faults), notes


def newest_samples(folder: Path) -> tuple[list[Path], list[str]]:
    """The newest of each task, since lm-eval puts every run of a model into one folder, and notes on those passed over.

    Raises DataError where a task has samples in two folders, which are of two models.
    """
    by_task: dict[str, list[Path]] = defaultdict(list)
    for path in sorted(folder.rglob(SAMPLES)):
        by_task[task_of(path)].append(path)
    older = []
    for task, paths in by_task.items():
        parents = list(dict.fromkeys(str(path.parent) for path in paths))
        if len(parents) > 1:
            raise _refused(folder, f"{task} in {some(parents)}", "the logs of one model", "Name the folder of one.")
        if len(paths) > 1:
            older.append(task)
    note = f"{folder}: several runs of {some(older)} lie there; the newest of each was taken."
    return [paths[-1] for paths in by_task.values()], [note] if older else []


def task_of(path: Path) -> str:
    named = _NAME.fullmatch(path.stem)
    return named["task"] if named is not None else path.stem


def results_beside(path: Path) -> Results:
    """Of the same evaluation as the samples; nothing is known where it does not lie beside them."""
    return _loaded(_results_path(path))


def _results_path(path: Path) -> Path | None:
    named = _NAME.fullmatch(path.stem)
    date = named["date"] if named is not None else None
    beside = sorted(path.parent.glob(RESULTS))
    dated = [one for one in beside if date and date in one.stem]
    return next(iter(dated or (beside if len(beside) == 1 else [])), None)


def _loaded(path: Path | None) -> Results:
    if path is None or path.stat().st_size > LARGEST_RESULTS:
        return Results()
    try:
        told = json.loads(path.read_bytes())
    except (ValueError, RecursionError):
        return Results()
    return results_of(told) if isinstance(told, dict) else Results()


def _read(path: Path, results: Results) -> Found:
    rows = list(_rows(path))
    if not rows:
        raise _refused(path, "no sample", "a sample a line", "Name a log of an evaluation that ended.")
    task = task_of(path)
    try:
        with as_written_by("lm-eval", str(path)):
            return [log_of(task, rows, results.higher.get(task, {}), str(path))], []
    except DataError as fault:
        return [], [fault]


def _rows(path: Path) -> Iterator[Mapping[str, Any]]:
    with path.open("rb") as file:
        number = 0
        while line := file.readline(LONGEST_LINE + 1):
            number += 1
            if line.strip():
                yield _row(path, number, line)


def _row(path: Path, number: int, line: bytes) -> Mapping[str, Any]:
    if len(line) > LONGEST_LINE:
        raise _refused(path, f"row {number} longer than {LONGEST_LINE:,} bytes", "a sample a line")
    try:
        row = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise _refused(path, f"row {number}, which is not JSON ({error})", "a sample a line") from error
    if not isinstance(row, dict) or "doc_id" not in row:
        raise _refused(path, f"row {number}, which is no sample of lm-eval", "an object with a doc_id")
    return row


def _refused(path: Path, found: str, expected: str, remedy: str = "Make the log again, or name another.") -> DataError:
    return DataError(f"found {found}", where=str(path), expected=expected, remedy=remedy)
