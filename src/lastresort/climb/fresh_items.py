"""Fresh items with which a test goes on that ended UNDECIDED: read, checked against all items of the run, and noted."""

from __future__ import annotations

import math
import os
from dataclasses import replace
from pathlib import Path

from lastresort.climb.identity import relative_path
from lastresort.climb.prepare import FreshItems, PreparedTask, check_right_answers, sha256_of
from lastresort.data.check import refuse_invalid_outputs, refuse_synthetic
from lastresort.data.duplicates import normalised
from lastresort.data.held_passages import HeldPassages
from lastresort.data.preferences import without_leaks
from lastresort.data.read import read_examples
from lastresort.data.split import find_leaks, groups_of, ordered
from lastresort.errors import DataError, TaskError
from lastresort.evals.evidence.bar import FALSE_NOT_MET, smallest_deciding_test
from lastresort.evals.evidence.corrected import sides_of
from lastresort.evals.judged import correction_in
from lastresort.records.events.after_test import RepairTested
from lastresort.records.events.run import ErrorShared, ItemsAdded
from lastresort.records.events.search import RungTested
from lastresort.records.record import Record
from lastresort.report.words.wording import counted
from lastresort.rungs.retrieval.rung import cut_for
from lastresort.rungs.rung import rungs_met
from lastresort.spec.task import Task
from lastresort.types import Example, row_named


def with_fresh(prepared: PreparedTask, record: Record, run: Path, more: Path | None) -> PreparedTask:
    """With the fresh items that the record names, and those of `more`, which are checked against all items of the run, and noted.

    Raises TaskError where no test of the run can go on with them, or a noted file is gone or changed; DataError for what is wrong
    with the rows of `more`.
    """
    added_before = record.all(ItemsAdded)
    known_paths = {event.sha256: Path(os.path.normpath(run.resolve() / event.path)) for event in added_before}
    fresh = None if more is None else FreshItems(more, *_read_fresh(prepared, more))
    if fresh is not None and fresh.sha256 in known_paths:
        known_paths[fresh.sha256] = fresh.path  # the same file once more, perhaps from another place
    prepared = replace(
        prepared, fresh=tuple(_noted_file(prepared, path, sha256) for sha256, path in known_paths.items())
    )
    if fresh is None:
        return prepared
    added = ItemsAdded(path=relative_path(fresh.path, run), sha256=fresh.sha256, n=len(fresh.examples))
    if fresh.sha256 not in known_paths:
        _refuse_known(prepared, fresh)
        _refuse_other_groups(prepared, fresh)
        _refuse_too_few(prepared, record, fresh)
        prepared = replace(prepared, fresh=(*prepared.fresh, fresh))
    if added not in added_before:
        record.append(added)
    return prepared


def _read_fresh(prepared: PreparedTask, path: Path) -> tuple[str, tuple[Example, ...]]:
    """sha256 of the file, and its items as the task reads its own, in a random order that depends on nothing but their content."""
    task = prepared.task
    names = None if task.columns is None else task.columns.names
    examples = read_examples(path, group_by=task.split.group_by, names=names)
    refuse_synthetic(examples)
    refuse_invalid_outputs(examples, choices=task.output.choices, json_schema=task.output.json_schema)
    check_right_answers(prepared.scorer, examples)
    return sha256_of(path), ordered(examples, task.split.seed)


def _noted_file(prepared: PreparedTask, path: Path, sha256: str) -> FreshItems:
    if path.is_file() and sha256_of(path) == sha256:
        return FreshItems(path, *_read_fresh(prepared, path))
    raise TaskError(
        f"the fresh items of this run are {'changed' if path.is_file() else 'gone'}",
        where=str(path),
        expected=f"the file with the sha256 {sha256[:16]}…",
        remedy="Restore it, or name it where it is now with --more.",
    )


def _refuse_known(prepared: PreparedTask, fresh: FreshItems) -> None:
    """Raises DataError for a fresh item that repeats another, or one that the run has seen, exactly or nearly, or has its id."""
    remedy = "Remove such rows from the file."
    first_by_input: dict[str, Example] = {}
    for example in sorted(fresh.examples, key=lambda example: example.row):
        twin = first_by_input.setdefault(normalised(example.input_text), example)
        if twin is not example:
            expected = "each input once: a repeated one is no further evidence"
            raise DataError(
                f"found the input of {row_named(twin.row, twin.line)} once more",
                where=_row(fresh, example),
                expected=expected,
                remedy=remedy,
            )
    known_items = _known_items(prepared)
    expected = "items that this run has neither trained nor measured on"
    if leaks := find_leaks(fresh.examples, (), known_items):
        leak = min(leaks, key=lambda leak: leak.train.row)
        alike = "the input" if leak.kind == "exact" else "nearly the input"
        held_place = f"{Path(leak.held.source).name}, {row_named(leak.held.row, leak.held.line)}"
        of_all = f"{len(leaks)} of {len(fresh.examples)} rows are known"
        raise DataError(
            f"found {alike} of {held_place} ({of_all})", where=_row(fresh, leak.train), expected=expected, remedy=remedy
        )
    _refuse_trained_passages(prepared, fresh, expected)
    held_back = prepared.preferences or ()
    if leaking := without_leaks(held_back, (), fresh.examples)[1]:
        raise DataError(
            f"found inputs of {counted(leaking, 'preference')}",
            where=str(fresh.path),
            expected=expected,
            remedy=remedy,
        )
    ids = {example.id for example in known_items}
    for example in fresh.examples:
        if example.id in ids:
            found = f'found the id "{example.id}", which an item of the run has'
            raise DataError(found, where=_row(fresh, example), expected="an id of its own", remedy="Give it another.")


def _refuse_trained_passages(prepared: PreparedTask, fresh: FreshItems, expected: str) -> None:
    """Raises DataError for fresh items about a passage from which questions were made that the run has trained on."""
    seed_passages = [row.seed_passage for row in prepared.split.train if row.seed_passage is not None]
    if not seed_passages or not any(example.passages for example in fresh.examples):
        return
    states = HeldPassages(cut_for(prepared.task), fresh.examples, seed_passages).states(seed_passages)
    if sections := sorted(
        {passage.section for passage, state in zip(seed_passages, states, strict=True) if state == "held"}
    ):
        raise DataError(
            f"found items about {counted(len(sections), 'passage')} with questions in train, such as {sections[0]}",
            where=str(fresh.path),
            expected=expected,
            remedy="Remove rows that name such passages from the file.",
        )


def _refuse_other_groups(prepared: PreparedTask, fresh: FreshItems) -> None:
    """Raises DataError for a group that the run knows, and where only one of test set and fresh items has groups."""
    known_groups = {example.group for example in _known_items(prepared) if example.group is not None}
    test_has_groups = groups_of(prepared.split.test) is not None
    for example in fresh.examples:
        if example.group is not None and example.group in known_groups:
            raise DataError(
                f'found the group "{example.group}", of which the run has items',
                where=_row(fresh, example),
                expected="groups that are new to it",
                remedy="Remove such rows from the file.",
            )
        if (example.group is not None) != test_has_groups:
            raise DataError(
                f"found {'no' if test_has_groups else 'a'} group",
                where=_row(fresh, example),
                expected=f"{'one' if test_has_groups else 'none'}, as in the run's test set",
                remedy="Write the file with the columns of the task's data.",
            )


def _known_items(prepared: PreparedTask) -> tuple[Example, ...]:
    """All items that the run may have trained or measured on."""
    split = prepared.as_read
    return (*split.train, *split.dev, *split.test, *(example for file in prepared.fresh for example in file.examples))


def _row(fresh: FreshItems, example: Example) -> str:
    return f"{fresh.path}, {row_named(example.row, example.line)}"


def _refuse_too_few(prepared: PreparedTask, record: Record, fresh: FreshItems) -> None:
    """Raises TaskError where no test of the run is UNDECIDED, or even items that are all right, or all wrong, could decide none."""
    tests = [record.last(RungTested, rung) for rung in prepared.task.ladder]
    undecided = [tested for tested in tests if tested is not None and tested.judgement.outcome == "UNDECIDED"]
    if not undecided and any(tested.judgement.outcome == "UNDECIDED" for tested in record.all(RepairTested)):
        raise TaskError(
            "the only test of this run that is UNDECIDED is that of a repaired system",
            where=f"--more {fresh.path}",
            expected="the test of a rung's own system: a repaired one is tested once",
            remedy="Leave --more out, or start a new run with a larger test set.",
        )
    if not undecided:
        raise TaskError(
            "no test of this run is UNDECIDED",
            where=f"--more {fresh.path}",
            expected="a rung whose test can go on",
            remedy="Leave --more out.",
        )
    if not prepared.scorer.binary or groups_of(fresh.examples) is not None:
        return
    smallest = min(_least_deciding(tested, record, prepared.task) for tested in undecided)
    if smallest == math.inf:
        raise TaskError(
            "the labels of this run let no number of fresh items decide",
            where=f"--more {fresh.path}",
            expected="labelled cases that show how the judge errs",
            remedy="Label more cases for `score.judge.labelled`, and start a new run on fresh test items.",
        )
    if (n := len(fresh.examples)) < smallest:
        found = f"{counted(n, 'fresh item')} decide{'s' if n == 1 else ''}"
        raise TaskError(
            f"{found} nothing, even if all are right or all are wrong",
            where=f"--more {fresh.path}",
            expected=f"at least {smallest}",
            remedy="Add items to the file.",
        )


def _least_deciding(test: RungTested, record: Record, task: Task) -> float:
    """The fewest fresh items that can give one of the two verdicts, at the error that the rung's test has now: what has met the bar
    since its last look may have raised it. Infinite where labels let no score decide.
    """
    judgement, error_shares = test.judgement, record.last(ErrorShared)
    correction = None if judgement.judged is None else correction_in(record, task.bar, task.confidence)
    assert error_shares is not None, "shared before anything is tested"
    alpha = error_shares.alpha_of_rung(test.rung, rungs_met(record, task), 1 - task.confidence)
    sides = sides_of(task.bar, alpha, FALSE_NOT_MET, correction)
    score = judgement.score if judgement.judged is None else judgement.judged.score
    for n, share in [(part.n_used, part.score) for part in judgement.parts] or [(judgement.n_used, score)]:
        sides = sides.after(round(share * n), n)
    up, down = sides.up, sides.down
    return min(
        smallest_deciding_test(up.bar, up.errors.alpha) if up.errors.alpha > 0 else math.inf,
        smallest_deciding_test(1 - down.bar, down.errors.beta) if down.errors.beta > 0 else math.inf,
    )
