"""Tasks and trainings that are being made: their files below `tasks/NAME/`, what was uploaded, and the text until it is started.

Nothing that was uploaded is executed, and no file that is there is written over but the draft itself.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import BinaryIO

import yaml

from lastresort.advice.draft import ColumnFacts, OpenColumns, choose_columns, facts_of, known_shape
from lastresort.app import kept, marks
from lastresort.app.held_out import SUFFIX
from lastresort.app.init import EmptyRowsError, InitRequest, free_path, init_task, without_empty_rows
from lastresort.climb.identity import settings_of
from lastresort.climb.shared_run import code_of, endpoints_of, refuse_foreign_task
from lastresort.data.files import how_to_convert, read_rows
from lastresort.data.formats import SHAPES
from lastresort.errors import InputError, LastresortError, StoppedError, TaskError
from lastresort.foreign import MiB, holds, opened, read_text
from lastresort.records.atomic import disk_errors, new_file, write_atomically
from lastresort.records.events import TaskRead
from lastresort.records.view import task_file_of
from lastresort.report.words.draft import left_out_line
from lastresort.spec.document import parse_document
from lastresort.spec.edit import moved, with_key
from lastresort.spec.task import FILE_KEYS, Task, load_task, task_of
from lastresort.spec.values import Section
from lastresort.types import Json, JsonObject
from lastresort.ui import copies
from lastresort.ui.copies import Copied
from lastresort.ui.guard import LARGEST_UPLOAD
from lastresort.ui.workspace import NotThere, Workspace, safe_name
from lastresort.ui.yaml_form import mark_of, with_plain_ends

DRAFT, FILE = "draft.yaml", "task.yaml"
CHECKED = ".checked.yaml"  # what a check of the data reads, while somebody edits the draft
TRAINING_DRAFT = "train-draft.yaml"
_SUFFIX = re.compile(r"(\.(?:jsonl|ndjson|json|csv|tsv)(?:\.gz)?|\.parquet)$", re.IGNORECASE)
_CHUNK = MiB
_OWN = {kept.EXAMPLES, kept.PAIRS, marks.ANSWERS, marks.PAIRS, marks.PREFERENCES}
MOST_CODE = 256 * 1024


@dataclass(frozen=True, slots=True)
class TableColumns:
    """The columns of a file, and which of them were found to be input and output, "" where that is open. shape: what the rows
    are by their keys alone, "" where columns have to be named.
    """

    facts: tuple[ColumnFacts, ...]
    rows: int
    input: str = ""
    output: str = ""
    shape: str = ""


@dataclass(frozen=True, slots=True)
class ForeignCode:
    """What a task names that runs Python or writes files. text: of its file, "" where it is no file of Python."""

    key: str
    names: str
    text: str


@dataclass(frozen=True, slots=True)
class Consent:
    """What a person has to agree to before a task runs. mark: changes with everything that is shown."""

    code: tuple[ForeignCode, ...]
    endpoints: tuple[str, ...]

    @property
    def needed(self) -> bool:
        return bool(self.code or self.endpoints)

    @property
    def mark(self) -> str:
        return hashlib.sha256(repr((self.code, self.endpoints)).encode()).hexdigest()[:32]


class ColumnsOpen(Exception):
    """Which column is which is for a person to say."""


def keep_upload(workspace: Workspace, given_name: str, name: str, file: BinaryIO) -> Path:
    """Write an uploaded file into a new folder of the tasks and return its path.

    given_name: of the file, as the browser says it. name: of the task, "" for the file's. Raises InputError for a name that cannot
    be one, a kind of file that is not read, and more than LARGEST_UPLOAD.
    """
    stem, suffix = file_name_of(given_name)
    folder = new_folder(workspace, safe_name(name) if name.strip() else stem)
    try:
        return write_upload(folder, f"{stem}{suffix}", file)
    except LastresortError:
        folder.rmdir()
        raise


def file_name_of(given: str) -> tuple[str, str]:
    """A name for the file, safe, and its suffix. Raises InputError."""
    last = PurePosixPath(given.replace("\\", "/")).name
    suffix = _SUFFIX.search(last)
    if suffix is None:
        raise InputError(
            f'found a file called "{last[:60]}"',
            where="upload",
            expected=".csv, .tsv, .jsonl, .json (each also with .gz) or .parquet",
            remedy=how_to_convert(last),
        )
    stem, kind = safe_name(last[: suffix.start()]), suffix[0].lower()
    if _is_own(f"{stem}{kind}"):
        raise InputError(
            f'found a file called "{stem}{kind}"',
            where="upload",
            expected="another name, as this one is that of a file of marks, kept answers, a train split or a schema",
            remedy="Rename it.",
        )
    return stem, kind


def _is_own(name: str) -> bool:
    """Whether it is what pages and drafts write beside the rows, so that it is never taken for them."""
    return name.lower() in _OWN or name.lower().endswith((".schema.json", SUFFIX))


def new_folder(workspace: Workspace, name: str) -> Path:
    """Make `tasks/NAME`, or the next free `tasks/NAME-N`."""
    number = 1
    while True:
        folder = workspace.task_folder(name if number == 1 else f"{name}-{number}")
        with disk_errors(folder):
            folder.parent.mkdir(exist_ok=True)
            try:
                folder.mkdir()
            except FileExistsError:
                number += 1
                continue
        return folder


def write_upload(folder: Path, name: str, file: BinaryIO) -> Path:
    """Copy an uploaded file into a folder: whole or not at all, and never over one that is there.

    Raises InputError for one that is too large, and where another of this name is there.
    """
    path, size = folder / name, 0
    with disk_errors(path):
        try:
            with new_file(path) as target:
                while part := file.read(_CHUNK):
                    size += len(part)
                    if size > LARGEST_UPLOAD:
                        raise InputError(
                            f"found more than {LARGEST_UPLOAD // MiB} MiB",
                            where=name,
                            expected="less",
                            remedy="Use `lastresort init` in a terminal for it.",
                        )
                    target.write(part)
        except FileExistsError:
            raise InputError("already exists", where=name, remedy="Rename the file that you upload.") from None
    return path


def data_file(folder: Path) -> Path | None:
    """The file of rows that was uploaded into a folder; of several, the one that the task names."""
    if not folder.is_dir():
        return None
    named = [path for path in sorted(folder.iterdir()) if _SUFFIX.search(path.name) and not _is_own(path.name)]
    files = [path for path in named if path.is_file()]
    wanted = _named_in(text_of(folder) or "", "examples") if len(files) > 1 else None
    return next((path for path in files if path.name == wanted), files[0] if files else None)


def _named_in(text: str, key: str) -> Json:
    """What a text says under a key, None where it cannot be read."""
    try:
        return parse_document(text, FILE).values.get(key)
    except TaskError:
        return None


def replace_data(
    folder: Path, text: str, given_name: str, file: BinaryIO, *, seen: str, leave_out_empty: bool = False
) -> None:
    """Write an uploaded file next to a task and make the task's text read it. All else of the text stays, and so does the file that
    it read before: an earlier run may be resumed. seen: as in `keep_text`. leave_out_empty: see `InitRequest`.

    Raises as `keep_upload` and `draft_from` do, and InputError for a text that names several files.
    """
    name = free_path(folder, *file_name_of(given_name)).name
    path = write_upload(folder, name, file)
    written = [path]
    try:
        request = InitRequest(path, task_file=folder / DRAFT, leave_out_empty=leave_out_empty)
        left_out = without_empty_rows(read_rows(path), columns_in(text), request)
        changed = _with_examples(text, name if left_out is None else left_out.copy.name)
        changed = copies.without_lines(changed, folder, _folder_of_examples(text, folder))
        if left_out is not None:
            line = left_out_line(name, left_out.what)
            changed = re.sub(r"^(?=examples:)", lambda _: f"{line}\n", changed, count=1, flags=re.MULTILINE)
            write_atomically(left_out.copy, left_out.text)
            written.append(left_out.copy)
            copies.keep(folder, left_out.copy.name, Copied(name, line))
        keep_text(folder, changed, seen=seen)
    except LastresortError as error:
        for one in written:
            one.unlink(missing_ok=True)
        raise by_its_name(error, path) from error


def _folder_of_examples(text: str, folder: Path) -> Path:
    """Where the file lies that a text in `folder` reads: in the folder of another task, where it is a clone; else `folder`."""
    named = _named_in(text, "examples")
    name = next(iter(named.values()), None) if isinstance(named, Mapping) else named
    found = Path(os.path.normpath(folder / name)).parent if isinstance(name, str) else folder
    return found if found.parent == folder.parent else folder


def _with_examples(text: str, name: str) -> str:
    before = parse_document(text, FILE).values.get("examples")
    if not isinstance(before, Mapping):
        return with_key(text, "examples", name)
    if len(before) > 1:
        raise InputError(
            f"found a file for each of {', '.join(before)}",
            where=f'{FILE}, key "examples"',
            expected="one file of examples",
            remedy="Put your files next to the task, and name them in its text.",
        )
    return with_key(text, f"examples.{next(iter(before), 'all')}", name)


def columns_of(data: Path) -> TableColumns:
    """Raises DataError for a file that cannot be read."""
    rows = read_rows(data)
    facts = facts_of(rows)
    shape = known_shape(rows) or ""
    chosen = (SHAPES[shape].cells(frozenset(rows[0].values)) if shape else None) or choose_columns(facts, len(rows))
    if isinstance(chosen, OpenColumns):
        return TableColumns(facts, len(rows), shape=shape)
    return TableColumns(facts, len(rows), *chosen, shape=shape)


def columns_in(text: str) -> tuple[str, str] | None:
    """The columns that a text names as input and output; None where it names none, or several for one."""
    named = _named_in(text, "columns")
    source, target = (named.get("input"), named.get("output")) if isinstance(named, Mapping) else (None, None)
    return (source, target) if isinstance(source, str) and isinstance(target, str) else None


def draft_from(data: Path, source: str | None = None, target: str | None = None, leave_out_empty: bool = False) -> None:
    """Write the draft of the task of a data file, as `lastresort init` does but named after its folder.

    leave_out_empty: see `InitRequest`. Raises ColumnsOpen where somebody has to say which columns are meant, EmptyRowsError where
    rows could be left out, DataError for rows that cannot be used.
    """

    def ask(found: OpenColumns) -> str:
        raise ColumnsOpen(found.side)

    path = _free(data.parent)
    drafted = init_task(InitRequest(data, source, target, path, data.parent.name, leave_out_empty), ask)
    if (left_out := drafted.left_out) is not None:
        line = left_out_line(data.name, left_out.what)
        copies.keep(data.parent, left_out.copy.name, Copied(data.name, line))
    with disk_errors(path):
        path.replace(data.parent / DRAFT)


def _free(folder: Path, text: str | None = None, stem: str = "task") -> Path:
    """The first of task.yaml, task-2.yaml, … that is not there, or that holds this text."""
    number = 1
    while True:
        path = folder / f"{stem}{'' if number == 1 else f'-{number}'}.yaml"
        if not os.path.lexists(path) and (text is not None or not path.with_name(f"{path.stem}.schema.json").exists()):
            return path
        if text is not None and holds(path, text):
            return path
        number += 1


def settled(folder: Path, text: str, stem: str = "task") -> Path:
    """Write the file that is run: a run that was started earlier keeps its own. Two that start at once get a file each."""
    with kept.writing(folder):
        path = _free(folder, text, stem)
        if not path.exists():
            write_atomically(path, text)
        return path


def keep_text(folder: Path, text: str, draft: str = DRAFT, *, seen: str = "") -> None:
    """seen: the mark of the text that somebody changed, "" where nobody did. Raises InputError where another is there."""
    path = folder / draft
    with kept.writing(folder):
        if seen and path.is_file() and not path.is_symlink():
            there = with_plain_ends(read_text(path))
            if there != text and mark_of(there) != seen:
                what = "task" if draft == DRAFT else "training"
                raise InputError(f"This {what} was changed in another window", remedy="Reload the page.")
        write_atomically(path, text)


def text_of(folder: Path, draft: str = DRAFT, stem: str = "task") -> str | None:
    """What is being made in a folder, its lines ended by LF: the draft, else its newest file. None where there is neither."""
    named = (path for path in folder.glob(f"{stem}*.yaml") if path.name not in (draft, DRAFT, TRAINING_DRAFT))
    files = sorted(named, key=lambda path: (len(path.name), path.name))
    for path in (folder / draft, *reversed(files)):
        if path.is_file() and not path.is_symlink():
            return with_plain_ends(read_text(path))
    return None


def task_from(text: str, folder: Path) -> Task:
    """Raises TaskError, which calls the text task.yaml."""
    return task_of(parse_document(text, FILE), folder / DRAFT)


def text_of_run(workspace: Workspace, name: str, folder: Path) -> str:
    """The task of a run as a file in `folder` says it: its file, where that still says what was run, else what the record holds.

    Raises InputError for a task file outside of the workspace that names code, or an endpoint that is not allowed.
    """
    run = workspace.run(name)
    with workspace.record(name) as record:
        read, path = record.last(TaskRead), task_file_of(record, run)
    settings = settings_of(run)
    if not path.resolve().is_relative_to(workspace.folder):
        refuse_foreign_task(path, settings, remedy=f"Look at it and start it in a terminal: lastresort climb {path}")
    ran = {} if read is None else {key: value for key, value in read.task.items() if key in FILE_KEYS}
    text = written_out(ran)
    if path.is_file() and not settings:
        try:
            says = json.loads(json.dumps(load_task(path).resolved()))
            same = {key: value for key, value in says.items() if key in ran} == ran  # limits are in no record
        except LastresortError:
            same = not ran
        text = read_text(path) if same else text
    return moved(text, path.parent, folder)


def written_out(values: JsonObject) -> str:
    """A resolved task as a file, a key a line, without what is so by default."""
    kept: JsonObject = {}
    for key, value in values.items():
        default = Task.model_fields[key].get_default(call_default_factory=True)
        usual = default.model_dump(mode="json") if isinstance(default, Section) else default
        if key in ("task", "about", "model", "score", "bar") or value not in (None, [], {}, usual):
            given = value
            if isinstance(value, Mapping):
                base = usual if isinstance(usual, Mapping) else {}
                given = {name: one for name, one in value.items() if one is not None and one != base.get(name)}
            kept[key] = given
    return yaml.safe_dump(kept, sort_keys=False, allow_unicode=True, width=110, default_flow_style=None)


def consent_of(task: Task) -> Consent:
    """What this task would run, and where it would send examples."""
    code = []
    for key, names in code_of(task).items():
        path = task.folder / names.rpartition(":")[0]
        code.append(ForeignCode(key, names, code_text(path) if path.suffix == ".py" else ""))
    return Consent(tuple(code), tuple(sorted(endpoints_of(task))))


def code_text(path: Path) -> str:
    """Of a file that would be run. Raises InputError where there is none."""
    try:
        with opened(path, MOST_CODE) as file:
            return file.read(MOST_CODE + 1).decode("utf-8", "replace")
    except (FileNotFoundError, IsADirectoryError) as error:
        raise InputError(
            "found no such file", where=path.name, expected="a file of Python", remedy="Correct it."
        ) from error


def names_in(workspace: Workspace) -> list[str]:
    """The folders of tasks, the newest first."""
    found = []
    for folder in workspace.task_folders():
        only_data = data_file(folder) is not None and not (folder / TRAINING_DRAFT).is_file()
        if any((folder / name).is_file() for name in (DRAFT, FILE)) or only_data:
            found.append((folder.stat().st_mtime, folder.name))
    return [name for _, name in sorted(found, reverse=True)]


def unused_in(workspace: Workspace) -> set[str]:
    """The tasks that can be removed: drafts from which nothing was started, trained or kept."""
    used = {state.home for state in workspace.states()}
    return {folder.name for folder in workspace.task_folders() if folder.name not in used and not _has_results(folder)}


def _has_results(folder: Path) -> bool:
    started = (path for stem in ("task", "train") for path in folder.glob(f"{stem}*.yaml"))
    return any(started) or (folder / "train-out").exists() or any((folder / name).exists() for name in _OWN)


def remove(workspace: Workspace, name: str) -> Path:
    """Take a draft away, into a folder of the page's own, which is returned: nobody loses a file by a wrong click.

    Raises NotThere where there is no such task, InputError for one that something was made from.
    """
    folder = workspace.task_folder(name)
    if not folder.is_dir() or folder.is_symlink():
        raise NotThere("There is no such task.")
    if name not in unused_in(workspace):
        raise InputError(
            "a run, a training or kept rows belong to this task",
            where=name,
            expected="a draft from which nothing was started",
            remedy="Remove its folder yourself if you need none of them.",
        )
    to = workspace.own_folder("removed") / f"{name}.{secrets.token_hex(4)}"
    with disk_errors(folder):
        to.parent.mkdir(parents=True, exist_ok=True)
        folder.rename(to)
    return to


def by_its_name(error: LastresortError, path: Path) -> LastresortError:
    """The same fault, with the file as its user knows it."""
    where = error.where.replace(str(path), path.name)
    found = type(error)(error.found, where=where, expected=error.expected, remedy=error.remedy)
    if isinstance(found, EmptyRowsError) and isinstance(error, EmptyRowsError):
        found.without_input, found.without_output = error.without_input, error.without_output
    if isinstance(found, StoppedError) and isinstance(error, StoppedError):
        return found.going_on(error.resume)
    return found
