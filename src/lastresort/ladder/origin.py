"""Where a run came from: the way to its task file, and its documents as they were. A later recheck asks for both."""

from __future__ import annotations

import os
from pathlib import Path

from lastresort.knowledge.changes import file_hashes
from lastresort.records.record import Record
from lastresort.spec.task import Task

TASK, DOCUMENTS = "place", "documents"  # kinds of events


def note_origin(record: Record, task: Task, run: Path) -> None:
    """Note how the task file is reached from the run's folder, anew where it was moved; and the documents, once, at the start.

    A run of an older version that goes on notes no documents: they need no longer be those that it began with.
    """
    way = way_to(task.path, run)
    if (record.last(TASK) or {}).get("task") != way:
        record.note(TASK, {"task": way})
    if task.knowledge is not None and record.last(DOCUMENTS) is None and record.last("sizes") is None:
        record.note(DOCUMENTS, {"files": file_hashes(task.knowledge)})


def task_file_of(record: Record, run: Path) -> Path | None:
    """The task file that the run was last climbed with, as far as it is told; it need not be there any more."""
    noted = record.last(TASK)
    return None if noted is None else Path(os.path.normpath(run.resolve() / noted["task"]))


def documents_of(record: Record) -> dict[str, str] | None:
    """Of each document's file its sha256 when the run began; None where the run did not note it."""
    noted = record.last(DOCUMENTS)
    return None if noted is None else dict(noted["files"])


def way_to(path: Path, run: Path) -> str:
    """Relative, so that run and task may be moved together; absolute where they lie on different drives."""
    try:
        return Path(os.path.relpath(path, run.resolve())).as_posix()
    except ValueError:
        return path.as_posix()
