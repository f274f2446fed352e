"""Rows that a task holds out: whether a training next to it reads any, and the task's train split as a file to train on."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from lastresort.app.init import free_path
from lastresort.climb.prepare import prepare, read_split
from lastresort.data.duplicates import normalised
from lastresort.data.files import read_rows
from lastresort.data.read import read_prompts
from lastresort.errors import LastresortError
from lastresort.foreign import holds, read_text
from lastresort.records.atomic import write_atomically
from lastresort.report.words.training import of_held_out
from lastresort.spec.document import parse_document
from lastresort.spec.task import Task, task_of
from lastresort.train.files.items import read_units
from lastresort.train.settings import TrainingFile

SUFFIX = ".train.jsonl"
MOST_TASKS = 20


@dataclass(frozen=True, slots=True)
class TrainSplit:
    """path: of the file with the task's training rows. rows: how many it holds. given: of the file that they come from. dev, test:
    items that the task holds out.
    """

    path: Path
    rows: int
    given: int
    dev: int
    test: int


@dataclass(frozen=True, slots=True)
class HeldOutRows:
    """Of the rows of a training, how many ask what the dev or the test items of a task ask. task: the name of its file."""

    task: str
    rows: int
    dev: int
    test: int

    @property
    def leaks(self) -> bool:
        return self.dev + self.test > 0

    @property
    def said(self) -> str:
        return of_held_out(self.task, self.rows, self.dev, self.test)


def write_train_split(task: Task) -> TrainSplit:
    """Write the rows on which a climb of this task would train, as they stand in its data, into a file next to the task.

    A file that is there stays: one with these rows is used again. Raises TaskError and DataError as a climb does.
    """
    source = task.examples.all or task.examples.train
    assert source is not None, "the task file names all or train"
    split = prepare(task, run_code=False, begins=False).split
    kept = {(example.source, example.row) for example in split.train}
    rows = read_rows(source)
    text = "".join(
        json.dumps(row.values, ensure_ascii=False, default=str) + "\n"
        for row in rows
        if (str(source), row.number) in kept
    )
    stem = source.name.partition(".")[0]
    path = task.folder / f"{stem}{SUFFIX}"
    if not holds(path, text):
        path = free_path(task.folder, stem, SUFFIX)
        write_atomically(path, text)
    return TrainSplit(path, text.count("\n"), len(rows), len(split.dev), len(split.test))


def held_out_rows(file: TrainingFile) -> list[HeldOutRows]:
    """What a training reads of the dev and test items of each task file in its folder. Inputs are compared; plain text has none.

    Raises DataError for rows that cannot be read. A task that cannot be read holds nothing out.
    """
    tasks = list(_tasks_next_to(file))
    if not tasks or file.need == "text":
        return []
    inputs = _inputs(file)
    found = []
    for task in tasks:
        try:
            split, _ = read_split(task)
        except LastresortError:
            continue
        dev, test = ({normalised(item.input_text) for item in part} for part in (split.dev, split.test))
        in_test = sum(text in test for text in inputs)
        in_dev = sum(text in dev and text not in test for text in inputs)
        found.append(HeldOutRows(task.path.name, len(inputs), in_dev, in_test))
    return found


def _tasks_next_to(file: TrainingFile) -> Iterator[Task]:
    paths = sorted(path for path in file.folder.glob("*.yaml") if path.is_file() and path != file.path)
    for path in paths[:MOST_TASKS]:
        try:
            document = parse_document(read_text(path), path.name)
            if {"task", "examples"} <= document.values.keys():
                yield task_of(document, path)
        except LastresortError:
            continue


def _inputs(file: TrainingFile) -> list[str]:
    if file.need == "groups":
        found = [example.input_text for path in file.data.train for example in read_prompts(path)[0]]
    else:
        found = [unit.prompt for unit in read_units(file, file.data.train)]
    return list(map(normalised, found))
