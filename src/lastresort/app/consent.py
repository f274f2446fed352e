"""What a task, a run or a training would run and reach, for a person to agree to: each may be somebody else's.

Also the task of such a run, as a value and as a text.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from shlex import quote
from typing import Any

from lastresort.app.runs import Run, resume_command_here
from lastresort.climb.identity import settings_in, settings_of
from lastresort.climb.shared_run import (
    SCRIPTED,
    all_endpoints_of,
    asks_endpoint,
    code_of,
    endpoints_of,
    refuse_foreign_task,
)
from lastresort.errors import InputError, LastresortError
from lastresort.foreign import opened, read_text
from lastresort.models.endpoint import parse_endpoint
from lastresort.models.scripted import writes_elsewhere
from lastresort.records.events.run import TaskRead
from lastresort.records.record import Record
from lastresort.records.view import task_file_of
from lastresort.spec.edit import moved, written_task
from lastresort.spec.task import FILE_KEYS, Task, load_task
from lastresort.train.settings import TrainingFile

MOST_CODE = 256 * 1024
SENDING = ("mlflow", "wandb", "trackio")  # trackers that may send figures away


@dataclass(frozen=True, slots=True)
class ForeignCode:
    """What a task names that runs Python or writes files. text: of its file, "" where it is no file of Python."""

    key: str
    names: str
    text: str


@dataclass(frozen=True, slots=True)
class Consent:
    """What a person has to agree to before a task runs. mark: changes with everything that is shown. reaches: all that its process
    may need a key for, also endpoints on this machine.
    """

    code: tuple[ForeignCode, ...]
    endpoints: tuple[str, ...]
    reaches: tuple[str, ...]

    @property
    def needed(self) -> bool:
        return bool(self.code or self.endpoints)

    @property
    def mark(self) -> str:
        return hashlib.sha256(repr((self.code, self.endpoints)).encode()).hexdigest()[:32]


def consent_of(task: Task) -> Consent:
    """What this task would run, and where it would send examples."""
    code = []
    for key, names in code_of(task).items():
        path = task.folder / names.rpartition(":")[0]
        code.append(ForeignCode(key, names, _code_text(path) if path.suffix == ".py" else ""))
    return Consent(tuple(code), tuple(sorted(endpoints_of(task))), tuple(sorted(all_endpoints_of(task))))


def consent_for(file: TrainingFile) -> Consent:
    """What this training would run, and where it would send anything: to trackers that may send figures away, and to endpoints."""
    code, reaches, groups = list[ForeignCode](), {str(name) for name in file.track if name in SENDING}, file.groups
    for number, term in enumerate(groups.reward if groups is not None else ()):
        key, judge = f"reward[{number}]", str(term.parameters["model"]) if term.name == "judge" else ""
        if term.name == "python":
            path = Path(str(term.parameters["file"]))
            code.append(ForeignCode(key, f"{path.name}:{term.parameters['function']}", _code_text(path)))
        elif judge.startswith(SCRIPTED) and writes_elsewhere(file.folder / judge.removeprefix(SCRIPTED)):
            code.append(ForeignCode(key, judge, ""))
        elif asks_endpoint(judge):
            reaches.add(judge)
    if groups is not None and groups.server is not None:
        reaches.add(groups.server.model)
    sends = (one for one in sorted(reaches) if one in SENDING or not parse_endpoint(one).host.is_this_machine)
    return Consent(tuple(code), tuple(sends), tuple(sorted(reaches)))


def _code_text(path: Path) -> str:
    """Of a file that would be run. Raises InputError where there is none."""
    try:
        with opened(path, MOST_CODE) as file:
            return file.read(MOST_CODE + 1).decode("utf-8", "replace")
    except (FileNotFoundError, IsADirectoryError) as error:
        raise InputError(
            "found no such file", where=path.name, expected="a file of Python", remedy="Create it, or correct the path."
        ) from error


def task_of_run(run: Path, within: Path) -> tuple[Task, dict[str, Any]]:
    """The task of a run, and the settings of whoever started it, which override its file. What it would run or send is for its user
    to allow, wherever it lies: a run may be somebody else's, and name any file.

    Raises InputError for one outside of `within` that would do either.
    """
    path, settings = Run(run).task_file(), settings_of(run)
    if not path.resolve().is_relative_to(within):
        refuse_foreign_task(path, settings, remedy=f"Resume it in a terminal: {resume_command_here(run, within)}")
    return load_task(path, settings), settings


def text_of_run(record: Record, folder: Path, within: Path) -> str:
    """The task of a run as a file in `folder` says it: its file, where that still says what was run, else what the record holds.

    Raises InputError for a task file outside of `within` that names code, or an endpoint that is not allowed.
    """
    read, path, settings = record.last(TaskRead), task_file_of(record, record.folder), settings_in(record)
    if not path.resolve().is_relative_to(within):
        refuse_foreign_task(
            path, settings, remedy=f"Look at it and start it in a terminal: lastresort climb {quote(str(path))}"
        )
    ran = {} if read is None else {key: value for key, value in read.task.items() if key in FILE_KEYS}
    text = written_task(ran)
    if path.is_file() and not settings:
        try:
            says = json.loads(json.dumps(load_task(path).resolved()))
            is_same = {key: value for key, value in says.items() if key in ran} == ran  # limits are in no record
        except LastresortError:
            is_same = not ran
        text = read_text(path) if is_same else text
    return moved(text, path.parent, folder)
