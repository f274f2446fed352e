"""Tasks and trainings that are being made: their files below `tasks/NAME/`, what was uploaded, and the text until it is started.

Nothing that was uploaded is executed, and no file that is there is written over but the draft itself.
"""

from __future__ import annotations

import os
import re
import secrets
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path, PurePosixPath
from typing import BinaryIO

import yaml

from lastresort.app import kept, marks
from lastresort.app.held_out import SUFFIX
from lastresort.app.init import EmptyRowsError, InitRequest, free_path, init_task, without_empty_rows
from lastresort.data.files import how_to_convert
from lastresort.errors import InputError, LastresortError, StoppedError, TaskError
from lastresort.foreign import MiB, holds, read_text, read_yaml
from lastresort.records.atomic import disk_errors, new_file, write_atomically
from lastresort.report.words.draft import left_out_line
from lastresort.spec.document import parse_document
from lastresort.spec.edit import with_key
from lastresort.spec.task import Task, task_of
from lastresort.types import Json
from lastresort.ui.guard import LARGEST_UPLOAD
from lastresort.ui.workspace import NotThere, Workspace, safe_name
from lastresort.ui.yaml_form import mark_of, with_plain_ends

DRAFT, FILE = "draft.yaml", "task.yaml"
CHECKED = ".checked.yaml"  # what a check of the data reads, while somebody edits the draft
TRAINING_DRAFT = "train-draft.yaml"
COPIES = "copies.yaml"  # beside the draft: which files are copies
_SUFFIX = re.compile(r"(\.(?:jsonl|ndjson|json|csv|tsv)(?:\.gz)?|\.parquet)$", re.IGNORECASE)
_CHUNK = MiB
_OWN = {kept.EXAMPLES, kept.PAIRS, marks.ANSWERS, marks.PAIRS, marks.PREFERENCES}


@dataclass(frozen=True, slots=True)
class Copied:
    """A file without some rows of one that somebody gave. source: the name of that one. line: what the task says of it."""

    source: str
    line: str


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
        left_out = without_empty_rows(request, columns_in(text))
        changed = _with_examples(text, name if left_out is None else left_out.copy.name)
        changed = _without_lines(changed, folder, _folder_of_examples(text, folder))
        if left_out is not None:
            line = left_out_line(name, left_out.what)
            changed = re.sub(r"^(?=examples:)", lambda _: f"{line}\n", changed, count=1, flags=re.MULTILINE)
            write_atomically(left_out.copy, left_out.text)
            written.append(left_out.copy)
            keep_copied(folder, left_out.copy.name, Copied(name, line))
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


def keep_copied(folder: Path, name: str, copied: Copied) -> None:
    """name: of the copy."""
    found = {**copies_in(folder), name: copied}
    write_atomically(
        folder / COPIES, yaml.safe_dump({name: asdict(one) for name, one in found.items()}, allow_unicode=True)
    )


def copies_in(folder: Path) -> dict[str, Copied]:
    """By the names of the copies; nothing where that cannot be read."""
    path = folder / COPIES
    if path.is_symlink() or not path.is_file():
        return {}
    try:
        found = read_yaml(path)
    except InputError:
        return {}
    if not isinstance(found, dict):
        return {}
    return {
        name: Copied(one["source"], one["line"])
        for name, one in found.items()
        if isinstance(name, str)
        and isinstance(one, dict)
        and all(isinstance(one.get(key), str) for key in ("source", "line"))
    }


def _without_lines(text: str, *folders: Path) -> str:
    """A task's text without what it says of copies in these folders, for one whose examples are another file now."""
    lines = {copied.line for folder in folders for copied in copies_in(folder).values()}
    return "".join(line for line in text.splitlines(keepends=True) if line.rstrip("\n") not in lines)


def columns_in(text: str) -> tuple[str, str] | None:
    """The columns that a text names as input and output; None where it names none, or several for one."""
    named = _named_in(text, "columns")
    source, target = (named.get("input"), named.get("output")) if isinstance(named, Mapping) else (None, None)
    return (source, target) if isinstance(source, str) and isinstance(target, str) else None


def draft_from(data: Path, source: str | None = None, target: str | None = None, leave_out_empty: bool = False) -> None:
    """Write the draft of the task of a data file, as `lastresort init` does but named after its folder.

    leave_out_empty: see `InitRequest`. Raises as `init_task` does.
    """
    path = _free(data.parent)
    drafted = init_task(InitRequest(data, source, target, path, data.parent.name, leave_out_empty))
    if (left_out := drafted.left_out) is not None:
        line = left_out_line(data.name, left_out.what)
        keep_copied(data.parent, left_out.copy.name, Copied(data.name, line))
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
