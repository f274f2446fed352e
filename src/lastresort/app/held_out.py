"""Rows that a task holds out: whether a training next to it reads any, and the task's train split as a file to train on."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from lastresort.app.init import free_path
from lastresort.climb.prepare import held_passages, prepare, read_split
from lastresort.data.duplicates import normalised
from lastresort.data.files import read_rows, stem_of
from lastresort.data.read import read_prompts
from lastresort.data.split import Split, clean, find_leaks
from lastresort.errors import InputError, LastresortError
from lastresort.foreign import holds, read_text
from lastresort.records.atomic import write_atomically
from lastresort.report.words.training import of_held_out, of_unread_task
from lastresort.spec.document import parse_document
from lastresort.spec.task import Task, task_of
from lastresort.train.files.items import Conversation, TrainingUnit, read_units
from lastresort.train.settings import TrainingFile
from lastresort.types import Example, Message

SUFFIX = ".train.jsonl"
KEYS = {"task", "examples"}  # of every task file
MOST_NEAR = 5000  # rows that are also compared with slips of the pen, which takes a second for a thousand of them


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
    """Of the rows of a training, how many repeat dev or test items of a task, also with slips of the pen. task: the name of its
    file.
    """

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


@dataclass(frozen=True, slots=True)
class UnreadTask:
    """A task next to a training whose held-out rows nobody knows. fault: why it cannot be read."""

    task: str
    fault: str

    @property
    def leaks(self) -> bool:
        """It may."""
        return True

    @property
    def said(self) -> str:
        return of_unread_task(self.task, self.fault)


def write_train_split(task: Task) -> TrainSplit:
    """Write the rows on which a climb of this task would train, as they stand in its data, into a file next to the task.

    A file that is there stays: one with these rows is used again. Raises TaskError and DataError as a climb does.
    """
    source = task.examples.all or task.examples.train
    assert source is not None, "the task file names all or train"
    split = prepare(task, run_code=False, begins=False).split
    train_places = {(example.source, example.row) for example in split.train}
    rows = read_rows(source)
    text = "".join(
        json.dumps(row.values, ensure_ascii=False, default=str) + "\n"
        for row in rows
        if (str(source), row.number) in train_places
    )
    stem = stem_of(source)
    path = task.folder / f"{stem}{SUFFIX}"
    if not holds(path, text):
        path = free_path(task.folder, stem, SUFFIX)
        write_atomically(path, text)
    return TrainSplit(path, text.count("\n"), len(rows), len(split.dev), len(split.test))


def held_out_rows(file: TrainingFile) -> list[HeldOutRows | UnreadTask]:
    """What a training reads of the dev and test items of each task file in its folder. Inputs are compared; plain text has none.

    Exact and near copies count as in a climb (`find_leaks`), beyond `MOST_NEAR` rows exact ones only. System turns are not
    compared, and the last user turn of a conversation may be an item too. Raises DataError for rows that cannot be read.
    """
    tasks = list(_tasks_next_to(file))
    if not tasks or file.need == "text":
        return []
    inputs = _inputs(file)
    results: list[HeldOutRows | UnreadTask] = []
    for task in tasks:
        if isinstance(task, UnreadTask):
            results.append(task)
            continue
        try:
            split, _ = read_split(task)
            dev, test = _repeated(inputs, split, task)
        except LastresortError as error:
            results.append(UnreadTask(task.path.name, str(error)))
            continue
        results.append(HeldOutRows(task.path.name, len(inputs), dev, test))
    return results


def refuse_held_out(file: TrainingFile, task: Task | None) -> None:
    """Raises InputError for a training whose rows a task next to it holds out, or may hold out. task: of the same rows, whose train
    split can be named instead; None where there is none.
    """
    for result in held_out_rows(file):
        if isinstance(result, UnreadTask):
            raise InputError(
                result.said.rstrip("."),
                expected="tasks next to the training whose dev and test items are known",
                remedy="Correct that file, or move it to another folder.",
            )
        if result.leaks:
            raise InputError(
                f"found {result.dev} dev items and {result.test} test items of {result.task} among the {result.rows} training rows",
                where=f'{file.path.name}, key "data"',
                expected="rows that a gate or a climb of that task is not tested on",
                remedy=_train_split_named(task) or "Name other rows.",
            )


def _train_split_named(task: Task | None) -> str:
    if task is None:
        return ""
    try:
        split = write_train_split(task)
    except LastresortError:
        return ""
    return f"Write data: {split.path.name}, its train split of {split.rows} rows."


def _repeated(inputs: Sequence[tuple[Message, ...]], split: Split, task: Task) -> tuple[int, int]:
    """How many of the inputs are in dev, and how many in test. What a climb of the task trains on itself is in neither."""
    finds_near = len(inputs) + len(split.train) <= MOST_NEAR
    train_rows = clean(split, held_passages(task, split)).split.train if finds_near else split.train
    held_inputs = {normalised(item.input_text) for item in (*split.dev, *split.test)}
    train_inputs = {normalised(example.input_text) for example in train_rows} - held_inputs
    examples = [Example(str(number), turns, "") for number, turns in enumerate(inputs)]
    examples = [one for one in examples if normalised(one.input_text) not in train_inputs]
    forms = [replace(one, input=form) for one in examples for form in _forms(one.input)]
    dev, test = ([replace(item, input=_bare(item.input)) for item in part] for part in (split.dev, split.test))
    if not finds_near:
        bare = {normalised(item.input_text) for item in (*dev, *test)}
        forms = [form for form in forms if normalised(form.input_text) in bare]
    leaks = find_leaks(forms, dev, test)
    in_test = {leak.train.id for leak in leaks if leak.side == "test"}
    return len({leak.train.id for leak in leaks} - in_test), len(in_test)


def _forms(turns: tuple[Message, ...]) -> list[tuple[Message, ...]]:
    """An input without its system turns, and its last user turn where other turns come before it."""
    bare_turns = _bare(turns)
    return [bare_turns] if len(bare_turns) == 1 or bare_turns[-1].role != "user" else [bare_turns, bare_turns[-1:]]


def _bare(turns: tuple[Message, ...]) -> tuple[Message, ...]:
    """Without system turns, unless there are no others."""
    return tuple(turn for turn in turns if turn.role != "system") or turns


def files_that_hold_out(file: TrainingFile) -> list[Path]:
    """All that `held_out_rows` reads of the tasks in the folder of a training: their files, and those of their rows."""
    paths = []
    for task in _tasks_next_to(file):
        if isinstance(task, UnreadTask):
            paths.append(file.folder / task.task)
        else:
            paths += [task.path, *task.examples.files]
    return paths


def _yaml_files(file: TrainingFile) -> list[Path]:
    """Without hidden ones, which a program keeps for itself."""
    paths = [*file.folder.glob("[!.]*.yaml"), *file.folder.glob("[!.]*.yml")]
    return sorted(path for path in paths if path.is_file() and path != file.path)


def _tasks_next_to(file: TrainingFile) -> Iterator[Task | UnreadTask]:
    for path in _yaml_files(file):
        text = None
        try:
            text = read_text(path)
            document = parse_document(text, path.name)
            if document.values.keys() >= KEYS:
                yield task_of(document, path)
        except LastresortError as error:
            if text is None or all(key in text for key in KEYS):  # else it is the file of another program
                yield UnreadTask(path.name, str(error))


def _inputs(file: TrainingFile) -> list[tuple[Message, ...]]:
    if file.need == "groups":
        return [example.input for path in file.data.train for example in read_prompts(path)[0]]
    return [_input(unit) for unit in read_units(file, file.data.train)]


def _input(unit: TrainingUnit) -> tuple[Message, ...]:
    text = unit.texts[0]
    if not isinstance(text, Conversation):
        return (Message("user", unit.prompt),)
    answer = text.turns if isinstance(text.turns, int) else 1
    return text.messages[: len(text.messages) - answer]
