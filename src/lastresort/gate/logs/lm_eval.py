"""Logs of lm-eval: samples_TASK_DATE.jsonl with one document per line, and results_DATE.json, which holds the direction of each
metric and the tasks of each group. A row is a document under a filter, in memory as in files.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from lastresort.errors import DataError, InputError
from lastresort.foreign import opened, parse_json, read_json
from lastresort.gate.logs.logged import (
    LONGEST,
    LoggedItem,
    LoggedMeasure,
    MeasuresAndFaults,
    as_written_by,
    fingerprint,
    first_few,
    number_of,
    refuse_outside,
    refuse_repeated,
)
from lastresort.report.words import gate as words
from lastresort.spec.sections import PREFIX


@dataclass(frozen=True, slots=True)
class Results:
    """higher: whether more is better, by task and metric. groups: the tasks of each group that lm-eval averages; of nested groups
    only the outermost.
    """

    higher: Mapping[str, Mapping[str, bool]] = field(default_factory=dict)
    groups: Mapping[str, frozenset[str]] = field(default_factory=dict)


def results_of(document: Mapping[str, Any]) -> Results:
    """document: a results file, or what `simple_evaluate` returns. Parts of another shape are ignored."""
    higher = {
        str(task): {str(name): bool(up) for name, up in directions.items() if up is not None}
        for task, directions in _mapping(document.get("higher_is_better")).items()
        if isinstance(directions, Mapping)
    }
    children = {
        name: below for name, below in _mapping(document.get("group_subtasks")).items() if isinstance(below, list)
    }
    averaged = [name for name in _mapping(document.get("groups")) if name in children]
    inner = {below for name in averaged for below in _below(name, children) if below != name}
    groups = {name: frozenset(_below(name, children) - children.keys()) for name in averaged if name not in inner}
    return Results(higher, groups)


def pooled(logs: Sequence[LoggedMeasure], results: Results, source: str) -> list[LoggedMeasure]:
    """The tasks of a group as one measure, with the task as the stratum of an item. Tasks with different metrics stay apart."""
    by_task = {log.name.removeprefix(PREFIX): log for log in logs}
    unpooled, measures = dict(by_task), []
    for group, tasks in results.groups.items():
        parts = {task: by_task[task] for task in sorted(tasks) if task in unpooled}
        if len(parts) > 1 and len({log.metric for log in parts.values()}) == 1:
            measures.append(_pooled_group(group, parts, source))
            unpooled = {task: log for task, log in unpooled.items() if task not in parts}
    return [*measures, *unpooled.values()]


def _pooled_group(group: str, parts: Mapping[str, LoggedMeasure], source: str) -> LoggedMeasure:
    items = tuple(
        replace(item, id=f"{task}/{item.id}", stratum=task) for task, log in parts.items() for item in log.items
    )
    metric = next(iter(parts.values())).metric
    others = dict.fromkeys(other for log in parts.values() for other in log.others)
    return LoggedMeasure(f"{PREFIX}{group}", metric, items, source, others=tuple(others))


def _below(name: str, children: Mapping[str, list[Any]]) -> set[str]:
    """A group with all groups and tasks below it."""
    names, open_ = set(), [name]
    while open_:
        current = open_.pop()
        if current not in names:
            names.add(current)
            open_ += [str(child) for child in children.get(current, ())]
    return names


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


Row = Mapping[str, Any]

_NO_METRICS = frozenset(
    "doc_id doc target arguments resps filtered_resps filter metrics doc_hash prompt_hash target_hash".split()
)
# Directions of lm-eval's own metrics, for logs without a results file.
HIGHER = frozenset(
    "acc acc_norm acc_bytes acc_mutual_info exact_match f1 em bleu chrf rouge1 rouge2 rougeL rougeLsum likelihood mcc contains "
    "prompt_level_strict_acc prompt_level_loose_acc".split()
)
LOWER = frozenset("perplexity word_perplexity byte_perplexity bits_per_byte brier_score ter wer".split())


@dataclass(frozen=True, slots=True)
class Metric:
    """higher: whether more is better; otherwise the score is 1 - value."""

    name: str
    higher: bool = True

    @property
    def label(self) -> str:
        return self.name if self.higher else f"1 - {self.name}"


def log_of(task: str, rows: Sequence[Row], higher: Mapping[str, bool], where: str) -> LoggedMeasure:
    """All rows of a task, at least one. The first metric and the first filter count.

    higher: as for `metric_of`. Raises what `metric_of`, `item_of` and `refuse_repeated` raise.
    """
    filtered = first_filter(rows)
    metric = metric_of(task, filtered[0], higher, where)
    items = tuple(item_of(task, row, metric, where) for row in filtered)
    refuse_repeated(task, (item.id for item in items), where)
    label = f"{metric.label}, filter {filtered[0].get('filter')}" if len(filtered) < len(rows) else metric.label
    others = [name for name in _metrics(filtered[0]) if name != metric.name]
    others += list(
        dict.fromkeys(f"filter {row.get('filter')}" for row in rows if row.get("filter") != filtered[0].get("filter"))
    )
    return LoggedMeasure(f"{PREFIX}{task}", label, items, where, others=tuple(others))


def metric_of(task: str, row: Row, higher: Mapping[str, bool], where: str) -> Metric:
    """The first metric of a task for which more is better; without one, the first metric as 1 - value.

    higher: by metric, from lm-eval's results; the directions of lm-eval's own metrics are known without it. Raises DataError if a
    row has no metric, or if a metric of unknown direction comes first.
    """
    names = _metrics(row)
    directions = {name: _direction(name, higher) for name in names}
    for name in names:
        if directions[name] is None:
            raise DataError(
                f'the direction of the metric "{name}" of {task} is unknown',
                where=where,
                expected="the results_*.json of the same evaluation next to the samples",
                remedy="Put it there.",
            )
        if directions[name]:
            return Metric(name)
    if not names:
        raise DataError(
            f"found no metric in the samples of {task}",
            where=where,
            expected="samples with their scores",
            remedy="Evaluate with --log_samples, and without --predict_only.",
        )
    return Metric(names[0], higher=False)


def _metrics(row: Row) -> list[str]:
    """The metrics of a row, in the order of the task's list."""
    return [str(name) for name in row.get("metrics") or [key for key in row if key not in _NO_METRICS] if name in row]


def _direction(name: str, higher: Mapping[str, bool]) -> bool | None:
    if name in higher:
        return bool(higher[name])
    return True if name in HIGHER else False if name in LOWER else None


def item_of(task: str, row: Row, metric: Metric, where: str, *, stratum: str = "") -> LoggedItem:
    """Raises DataError if the value of the metric is not a number from 0 to 1."""
    value = number_of(row.get(metric.name))
    refuse_outside(task, metric.name, [value], where)
    assert value is not None
    requests = requests_of(row)
    return LoggedItem(
        id=str(row["doc_id"]),
        score=value if metric.higher else 1 - value,
        same=_same(row, requests),
        asked=_question(requests),
        answered=_answer(row, requests)[:LONGEST],
        stratum=stratum,
        chance=_chance(metric, requests),
    )


def first_filter(rows: Sequence[Row]) -> list[Row]:
    """With several filters each document has one row per filter: the rows of the first filter."""
    if not rows:
        return []
    first = rows[0].get("filter")
    return [row for row in rows if row.get("filter") == first]


def requests_of(row: Row) -> list[list[Any]]:
    """The requests: pairs of a context and a continuation, or of a context and settings. In files they are numbered objects."""
    requests = row.get("arguments") or []
    if isinstance(requests, Mapping):
        return [list(args.values()) if isinstance(args, Mapping) else [args] for args in requests.values()]
    return [list(args) if isinstance(args, list | tuple) else [args] for args in requests]


def _same(row: Row, requests: list[list[Any]]) -> dict[str, str]:
    hashes = {
        part: str(row[key]) for part, key in (("document", "doc_hash"), ("target", "target_hash")) if row.get(key)
    }
    hashes.setdefault("document", fingerprint(row.get("doc")))
    if requests:
        hashes["prompt"] = fingerprint(requests)
    elif row.get("prompt_hash"):
        hashes["prompt"] = str(row["prompt_hash"])
    return hashes


def _chance(metric: Metric, requests: list[list[Any]]) -> float | None:
    """1 / the number of choices for an accuracy among choices; unknown otherwise."""
    choices = [args for args in requests if len(args) > 1 and isinstance(args[1], str)]
    # Each choice may occur a second time, without its question.
    conditional = [args for args in choices if args[0]] or choices
    is_choice = metric.name.startswith("acc") and metric.higher and len(conditional) > 1
    return 1 / len(conditional) if is_choice else None


def _question(requests: list[list[Any]]) -> str:
    """The end of the first context: the question follows the solved examples."""
    return str(requests[0][0])[-LONGEST:] if requests and requests[0] else ""


def _answer(row: Row, requests: list[list[Any]]) -> str:
    """The likeliest of several choices, else the text."""
    replies = row.get("filtered_resps") or []
    logps = [_logp(reply) for reply in replies]
    if len(requests) > 1 and len(logps) == len(requests) and all(logp is not None for logp in logps):
        best = max(range(len(logps)), key=lambda index: logps[index] or 0.0)
        return str(requests[best][-1]).strip()
    if not replies:
        return ""
    first = replies[0]
    return str(first[0] if isinstance(first, list | tuple) and first else first).strip()


def _logp(reply: Any) -> float | None:
    """A likelihood is a pair: a number, as text in files, and whether the choice is the greedy answer."""
    if not isinstance(reply, list | tuple) or len(reply) != 2:
        return None
    try:
        return float(reply[0])
    except (TypeError, ValueError):
        return None


SAMPLES, RESULTS = "samples_*.jsonl", "results_*.json"
LONGEST_LINE, LARGEST_RESULTS = 64 * 1024**2, 256 * 1024**2  # bytes
_NAME = re.compile(r"samples_(?P<task>.+?)(?:_(?P<date>\d{4}-\d{2}-\d{2}T[0-9.\-]+))?")


def lm_eval_file(path: Path) -> MeasuresAndFaults:
    """The samples of one task. Raises DataError for a file that holds none."""
    return _read(path, results_beside(path))


def lm_eval_folder(folder: Path) -> tuple[MeasuresAndFaults, list[str]]:
    """All samples below a folder, and notes. Tasks that lm-eval averages into a group are one measure, with a stratum per task.

    Raises DataError for a file that is not a log, and for logs of two models in the folder.
    """
    files, notes = newest_samples(folder)
    by_results: dict[Path | None, list[Path]] = defaultdict(list)
    for path in files:
        by_results[_results_path(path)].append(path)
    measures, faults = [], []
    for results_path, paths in by_results.items():
        results = _results_at(results_path)
        parts = [_read(path, results) for path in paths]
        measures += pooled([log for logs, _ in parts for log in logs], results, str(folder))
        faults += [fault for _, faults_of_task in parts for fault in faults_of_task]
    return (measures, faults), notes


def newest_samples(folder: Path) -> tuple[list[Path], list[str]]:
    """The newest samples of each task, since lm-eval puts every run of a model into one folder, and notes on those left out.

    Raises DataError if a task has samples in two folders, which belong to two models.
    """
    by_task: dict[str, list[Path]] = defaultdict(list)
    for path in sorted(folder.rglob(SAMPLES)):
        by_task[task_of(path)].append(path)
    older = []
    for task, paths in by_task.items():
        parents = list(dict.fromkeys(str(path.parent) for path in paths))
        if len(parents) > 1:
            raise _refused(
                folder, f"{task} in {first_few(parents)}", "the logs of one model", "Name the folder of one."
            )
        if len(paths) > 1:
            older.append(task)
    notes = [words.newest_used(str(folder), first_few(older))] if older else []
    return [paths[-1] for paths in by_task.values()], notes


def task_of(path: Path) -> str:
    match = _NAME.fullmatch(path.stem)
    return match["task"] if match is not None else path.stem


def results_beside(path: Path) -> Results:
    """The results of the same evaluation; empty if they are not next to the samples."""
    return _results_at(_results_path(path))


def _results_path(path: Path) -> Path | None:
    match = _NAME.fullmatch(path.stem)
    date = match["date"] if match is not None else None
    candidates = sorted(path.parent.glob(RESULTS))
    dated = [path for path in candidates if date and date in path.stem]
    return next(iter(dated or (candidates if len(candidates) == 1 else [])), None)


def _results_at(path: Path | None) -> Results:
    if path is None:
        return Results()
    try:
        document = read_json(path, LARGEST_RESULTS, lenient=True)
    except (OSError, InputError):
        return Results()
    return results_of(document) if isinstance(document, dict) else Results()


def _read(path: Path, results: Results) -> MeasuresAndFaults:
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
    with opened(path, raised=DataError) as file:
        number = 0
        while line := file.readline(LONGEST_LINE + 1):
            number += 1
            if line.strip():
                yield _row(path, number, line)


def _row(path: Path, number: int, line: bytes) -> Mapping[str, Any]:
    if len(line) > LONGEST_LINE:
        raise _refused(path, f"row {number} longer than {LONGEST_LINE:,} bytes", "a sample a line")
    try:
        row = parse_json(line.decode(), lenient=True)
    except ValueError as error:
        raise _refused(path, f"row {number}, which is not JSON ({error})", "a sample a line") from error
    if not isinstance(row, dict) or "doc_id" not in row:
        raise _refused(path, f"row {number}, which is no sample of lm-eval", "an object with a doc_id")
    return row


def _refused(path: Path, found: str, expected: str, remedy: str = "Make the log again, or name another.") -> DataError:
    return DataError(f"found {found}", where=str(path), expected=expected, remedy=remedy)
