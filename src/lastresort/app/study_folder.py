"""What the folder of a study says: what it found, or how far it is and how to go on with it."""

from __future__ import annotations

import shlex
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from lastresort.app.runs import from_folder
from lastresort.app.study import DOCUMENT, PAGE
from lastresort.app.watch import State, follow
from lastresort.errors import DataError, InfrastructureError
from lastresort.foreign import DOCUMENT as MOST
from lastresort.foreign import read_content
from lastresort.records.events.run import ClimbStopped, StudyBegan

if TYPE_CHECKING:
    from lastresort.report.study import StudyDocument


@dataclass(frozen=True, slots=True)
class StudyFolder:
    """done: how many of its cells have a row; None until it is known which cells it has. document: what the study found, None until
    it has finished.
    """

    folder: Path
    began: StudyBegan
    state: State
    stopped: ClimbStopped | None
    done: int | None
    document: StudyDocument | None

    @property
    def page(self) -> Path:
        return self.folder / PAGE

    @property
    def progress(self) -> str:
        """Of one that has not finished."""
        from lastresort.report.words.study import of_unfinished

        cells = None if self.began.keys is None or self.done is None else (self.done, len(self.began.keys))
        return of_unfinished(self.began.study, cells, running=self.state == "running")

    def how_to_go_on(self, start: Path) -> str:
        """Of an unfinished study that no process is working on."""
        from lastresort.report.words.study import how_to_go_on

        makes_rows = self.began.study == "synthetic" and self.began.task is None and self.began.keys is None
        return how_to_go_on(self.stopped, self.command(start), makes_rows=makes_rows, workers=self.began.workers)

    def unfinished(self) -> DataError:
        """Of one that was expected to have finished."""
        return DataError(
            "the study has not finished",
            where=str(self.folder),
            expected="a study with a result",
            remedy=f"`lastresort report {shlex.quote(str(self.folder))}` says how to go on with it.",
        )

    def command(self, start: Path) -> str | None:
        """That goes on with it, as typed in the folder `start`; None where a command of another name, or a program, began it."""
        if self.began.task is None:
            return None
        task = from_folder(start, self.folder.resolve() / self.began.task)
        out = from_folder(start, self.folder)
        return shlex.join(["lastresort", "study", self.began.study, task, "--out", out, *self.began.options])


def study_in(folder: Path) -> StudyFolder | None:
    """None where the folder holds the run of a climb.

    Raises DataError where it holds neither, or its record or study.json is damaged.
    """
    from lastresort.study.rows import rows_kept

    snapshot = next(follow(folder))
    if snapshot.study is None:
        return None
    document = _document(folder / DOCUMENT) if snapshot.state == "finished" else None
    done = None if snapshot.study.keys is None or document is not None else rows_kept(folder, snapshot.study.keys)
    return StudyFolder(folder, snapshot.study, snapshot.state, snapshot.stopped, done, document)


def redraw(found: StudyFolder) -> str:
    """Write the page of a finished study again. Returns what to say where the disk does not take it, else ""."""
    from lastresort.records.atomic import write_atomically
    from lastresort.report.study_page import study_page
    from lastresort.report.words.next_step import not_redrawn

    if found.document is not None:
        try:
            write_atomically(found.page, study_page(found.document))
        except InfrastructureError as error:
            return not_redrawn(PAGE, error)
    return ""


def _document(path: Path) -> StudyDocument:
    from pydantic import TypeAdapter, ValidationError

    from lastresort.report.study import StudyDocument

    remedy = "Give the study's command again: it writes the file from the rows that are kept."
    try:
        return TypeAdapter[StudyDocument](StudyDocument).validate_json(read_content(path, MOST, raised=DataError))
    except (FileNotFoundError, ValidationError) as error:
        found = "found no file" if isinstance(error, FileNotFoundError) else "found no document of a study"
        raise DataError(found, where=str(path), expected="what a finished study wrote", remedy=remedy) from error
