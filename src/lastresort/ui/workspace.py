"""The folder that the page shows: its runs, what each says in one line, and its tasks. Nothing outside of it is reached."""

from __future__ import annotations

import hashlib
import os
import re
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from queue import SimpleQueue
from typing import Literal

from lastresort.errors import DataError, InputError, LastresortError
from lastresort.records.atomic import is_held, remove_left_over
from lastresort.records.chain import SOURCES, Table
from lastresort.records.clock import RunClock, clock_of
from lastresort.records.decision import RunView
from lastresort.records.events.base import Stage
from lastresort.records.events.run import ClimbStopped, StudyBegan, TaskRead
from lastresort.records.record import FILE_NAME, Record
from lastresort.records.view import fold_of, refuse_study, task_file_of
from lastresort.report.decision import view_of

RUNS, TASKS, HIDDEN = "runs", "tasks", ".lastresort"
FRESH = "fresh"  # the folder of a run with the items that were added to it here
AGAIN_S = 60.0  # after which a check that failed is tried again
_NAME = re.compile(r"[\w][\w.+-]{0,199}")
State = Literal["running", "stopped", "finished"]
Signature = tuple[tuple[int, ...], ...]


@dataclass(frozen=True, slots=True)
class RunState:
    """A run at one moment. view: None before it has read its task. state: stopped where no process works on it before its end.

    home: the folder of its task in `tasks`, for what pages keep of it. began, changed: UTC. fault: why its record cannot be read,
    or is not as the run wrote it, "" where it is. stopped: how a run ended that stopped, None where it died.
    extent: see `Record.newest`. clock: how long it took so far.
    """

    name: str
    state: State
    view: RunView | None = None
    stage: Stage | None = None
    home: str = ""
    began: datetime | None = None
    changed: datetime | None = None
    fault: str = ""
    stopped: ClimbStopped | None = None
    extent: tuple[int, int] = (0, 0)
    clock: RunClock | None = None

    @property
    def clock_runs(self) -> bool:
        """Not while somebody looks at a run that has ended."""
        return self.state == "running" and self.clock is not None and self.clock.runs

    @property
    def took_s(self) -> float:
        """How long it took, up to now where a process works on it."""
        if self.clock is None:
            return 0.0
        return self.clock.at(datetime.now(UTC)) if self.state == "running" else self.clock.noted_s


class NotThere(LookupError):
    """The page names a run or a file that the workspace does not hold."""


@dataclass(frozen=True, slots=True)
class _Known:
    """What was found of a run when its record had this signature. is_whole: whether all of it was checked, by this page or by the
    process that works on it. failed_s: when the check of the rest failed, None where it did not.
    """

    at: Signature
    working: bool
    state: RunState
    is_whole: bool
    failed_s: float | None = None


@dataclass(slots=True)
class Workspace:
    """folder: holds `runs` and `tasks`, which are made when they are first needed. checks_later: a record is shown once its events
    are checked, and somebody else calls `check_next`, for the answers and the curves; else nothing is shown before all of it is.
    """

    folder: Path
    checks_later: bool = False
    clock: Callable[[], float] = time.monotonic
    _known: dict[str, _Known] = field(default_factory=dict)
    _turns: dict[str, threading.Lock] = field(default_factory=dict)
    _unchecked: SimpleQueue[str] = field(default_factory=SimpleQueue)

    @property
    def runs(self) -> Path:
        return self.folder / RUNS

    @property
    def tasks(self) -> Path:
        return self.folder / TASKS

    def run(self, name: str) -> Path:
        """The folder of a run. Raises NotThere for a name that is none of a run here."""
        folder = self._below(self.runs, name)
        if not (folder / FILE_NAME).is_file():
            raise NotThere(f'There is no run "{name}" here.')
        return folder

    def run_folder(self, name: str) -> Path:
        """The folder of a run, which may not have begun yet. Raises NotThere for what cannot be its name."""
        return self._below(self.runs, name)

    def task_folder(self, name: str) -> Path:
        """The folder of a task, which may not be there yet. Raises NotThere for what cannot be its name."""
        return self._below(self.tasks, name)

    def next_copy(self, run: str) -> str:
        """A name for a task that is cloned from this run, which its own run can have as well."""
        return next_name(run, (path.name for path in (*self.runs.glob("*"), *self.tasks.glob("*"))))

    def next_run(self, task: str) -> str:
        """A name for a run that is started from the task in this folder: that of the folder where it is numbered like a run."""
        taken = {path.name.casefold() for path in self.runs.glob("*")}
        return task if re.search(r"-\d+$", task) and task.casefold() not in taken else next_name(task, taken)

    def new_run(self, name: str) -> Path:
        """Make the folder of a run of this name, or of the next free one."""
        self.runs.mkdir(parents=True, exist_ok=True)
        while True:
            folder = self.run_folder(name)
            try:
                folder.mkdir()
            except FileExistsError:
                name = next_name(name, (name, *(path.name for path in self.runs.glob("*"))))
                continue
            return folder

    def own_folder(self, name: str) -> Path:
        """A folder of the page's own, which may not be there yet. Raises NotThere where a link leads elsewhere."""
        path = self.runs / HIDDEN / name
        if any(one.is_symlink() for one in (self.runs, path.parent, path)):
            raise NotThere(f"{RUNS}/{HIDDEN} is a link, or holds one. Remove it.")
        return path

    def task_folders(self) -> list[Path]:
        """Of every task, by name; a link is none."""
        if self.tasks.is_symlink() or not self.tasks.is_dir():
            return []
        found = sorted(self.tasks.iterdir(), key=lambda path: path.name)
        return [path for path in found if _NAME.fullmatch(path.name) and not path.is_symlink() and path.is_dir()]

    def remove_left_over(self) -> None:
        """Remove what pages that were killed in the midst of writing have left here: of uploads, items, texts, talks and
        plans.
        """
        folders = self.task_folders()
        for name in ("talks", "plans"):
            with suppress(NotThere):
                folders.append(self.own_folder(name))
        if not self.runs.is_symlink() and self.runs.is_dir():
            folders += [run / FRESH for run in self.runs.iterdir() if not run.is_symlink()]
        for folder in folders:
            if folder.is_dir() and not folder.is_symlink():
                remove_left_over(folder)

    def states(self) -> list[RunState]:
        """Every run: first those at work, then the newest. Raises NotThere where the folder of all runs is a link."""
        if self.runs.is_symlink():
            raise NotThere(
                f'"{RUNS}" is a link, and nothing outside of this folder is shown. Open the page where it leads.'
            )
        if not self.runs.is_dir():
            return []
        names = [path.parent.name for path in self.runs.glob(f"*/{FILE_NAME}") if _NAME.fullmatch(path.parent.name)]
        found = []
        for name in names:
            with suppress(NotThere, OSError):  # a link, a run that was removed a moment ago, or a disk that fails
                found.append(self.state(name))
        found.sort(key=lambda one: one.began.timestamp() if one.began else 0.0, reverse=True)
        return sorted(found, key=lambda one: one.state != "running")

    def astray(self) -> list[str]:
        """Runs that lie in the folder itself, and not in its `runs`."""
        found = sorted(path.parent for path in self.folder.glob(f"*/{FILE_NAME}") if path.parent != self.runs)
        return [folder.name for folder in found if not is_study(folder)]

    def read_ahead(self) -> None:
        """Read every run, so that the first page waits for none."""
        with suppress(NotThere, OSError):  # which the page says
            self.states()

    def check_next(self) -> None:
        """Wait for a record that is shown and not checked to the end, and check it."""
        name = self._unchecked.get()
        with suppress(NotThere):  # it was removed a moment ago
            known = self._known[name]
            found = None if known.is_whole else self._checked(name, known)
            with self._turns[name]:
                if found is not None and self._known[name] is known:  # else it was read again, and is checked again
                    self._known[name] = found

    def state(self, name: str) -> RunState:
        """A run as it is now; read again only once its record has changed. Raises NotThere."""
        folder = self.run(name)
        with self._turns.setdefault(
            name, threading.Lock()
        ):  # of two requests at once, the second finds what the first one read
            # Before the record is read, so that the record holds what a process wrote at its end.
            working = is_held(folder)
            at, known = signature(folder), self._known.get(name)
            if known is None or (known.at, known.working) != (at, working) or self._is_due_again(known):
                before = known.state if known is not None and known.at[0][:2] == at[0][:2] else None  # of the same file
                # Who writes it has checked it.
                sources: tuple[Table, ...] = () if working else ("event",) if self.checks_later else SOURCES
                found = _read(folder, working, self.tasks, before, sources)
                known = self._known[name] = _Known(at, working, found, is_whole=working or sources == SOURCES)
                if not known.is_whole:
                    self._unchecked.put(name)
            return known.state

    def _checked(self, name: str, known: _Known) -> _Known:
        """It with what all of its record says. Nobody waits for it meanwhile."""
        with suppress(OSError):  # a disk that fails
            folder = self.run(name)
            at = signature(folder)
            found = _read(folder, False, self.tasks, None, SOURCES)
            if (known.at, known.working) == (at, False):
                return _Known(at, False, found, is_whole=True)
        return replace(known, failed_s=self.clock())

    def mark(self, name: str = "") -> str:
        """Changes with a run, or with any of all. Begins with "running" while a process works on it, or on one. Raises NotThere."""
        states = [self.state(name)] if name else self.states()
        seen = [(one.name, one.state, one.fault, signature(self.runs / one.name)) for one in states]
        return mark_of(seen, works=any(one.state == "running" for one in states))

    def is_checked(self, name: str) -> bool:
        """Whether all of its record was checked, also the answers; False while that is to come. Raises NotThere."""
        self.state(name)
        return self._known[name].is_whole

    def could_not_check(self, name: str) -> bool:
        """Whether the check of its answers failed, and is to be tried again. Raises NotThere."""
        self.state(name)
        return self._known[name].failed_s is not None

    def _is_due_again(self, known: _Known) -> bool:
        return known.failed_s is not None and self.clock() - known.failed_s >= AGAIN_S

    def record(self, name: str) -> Record:
        """The record of a run, open to be read. Raises NotThere, and DataError for one that was changed or cannot be read."""
        fault = self.state(name).fault
        if fault:
            raise DataError(fault)
        return Record.open(
            self.run(name), read_only=True, checked=False
        )  # its state is checked, or will be in a moment

    def _below(self, folder: Path, name: str) -> Path:
        path = folder / name
        if not _NAME.fullmatch(name) or path.is_symlink() or folder.is_symlink():
            raise NotThere("This is not a valid name for a run or a task.")
        return path


def is_study(folder: Path) -> bool:
    """Whether the record in this folder is that of a study; False where it cannot be read."""
    with suppress(Exception), Record.open(folder, read_only=True, checked=False) as record:  # it may be somebody else's
        return record.last(StudyBegan) is not None
    return False


def mark_of(seen: object, *, works: bool) -> str:
    """Of what a page shows: changes with it, and begins with "running" while a process works on it."""
    return f"{'running' if works else 'idle'}-{hashlib.sha256(repr(seen).encode()).hexdigest()[:16]}"


def signature(folder: Path) -> Signature:
    """Changes whenever the record of a run does, and not where somebody reads it, who makes an empty log beside it."""
    record, log = (_stat(folder / name) for name in (FILE_NAME, f"{FILE_NAME}-wal"))
    return (
        () if record is None else state_of(record),
        () if log is None else (log.st_mtime_ns, log.st_size),  # SQLite sets its owner again whenever root reads it
    )


def state_of(file: os.stat_result) -> tuple[int, ...]:
    """Changes with the file: whoever edits it may set its time back, but not that of its inode."""
    return file.st_dev, file.st_ino, file.st_mtime_ns, file.st_ctime_ns, file.st_size


def _stat(path: Path) -> os.stat_result | None:
    """None for a file that is missing or empty."""
    with suppress(OSError):
        found = path.stat()
        return found if found.st_size else None
    return None


def _read(folder: Path, working: bool, tasks: Path, before: RunState | None, sources: Sequence[Table]) -> RunState:
    """before: as it was, where its file is still the same one. sources: what of it is checked."""
    try:
        with Record.open(folder, read_only=True, checked=bool(sources), sources=sources) as record:
            extent = record.newest()
            if working and before is not None and (before.state, before.extent[0]) == ("running", extent[0]):
                return replace(before, stage=record.stage(), extent=extent)  # all else comes from the events
            refuse_study(record)
            fold = fold_of(record)
            began, changed = record.times()
            state: State = "running" if working else "finished" if fold.finished else "stopped"
            home = _home(record, folder, tasks)
            return RunState(
                folder.name, state, view_of(fold), record.stage(), home, began, changed,
                stopped=fold.stopped, extent=extent, clock=clock_of(record),
            )  # fmt: skip
    except LastresortError as error:
        fault = str(error)
    except IndexError:
        fault = "The run has not started yet."
    except Exception as error:  # noqa: BLE001 - a run may be somebody else's, and must hide no other
        fault = f"Its record holds what no run writes ({type(error).__name__})."
    return RunState(folder.name, "running" if working else "stopped", fault=fault)


def _home(record: Record, run: Path, tasks: Path) -> str:
    """The folder of the task file that the run climbs, as several may hold one name; the name where the file is elsewhere."""
    with suppress(DataError, ValueError):
        parts = task_file_of(record, run).relative_to(tasks.resolve()).parts
        if len(parts) == 2 and _NAME.fullmatch(parts[0]):
            return parts[0]
    read = record.last(TaskRead)
    with suppress(InputError):
        return safe_name(str(read.task.get("task", "")) if read is not None else "")
    return run.name


def next_name(name: str, taken: Iterable[str]) -> str:
    """`tickets` or `tickets-1` -> `tickets-2`: the number after those that are taken. A name without one counts as the first.
    Some disks take `Tickets` and `tickets` for one name.
    """
    base = re.sub(r"-\d+$", "", name)
    pattern = re.compile(rf"{re.escape(base.casefold())}(?:-(\d+))?")
    numbers = [int(found[1] or 1) for one in taken if (found := pattern.fullmatch(one.casefold()))]
    return f"{base}-{max(numbers, default=0) + 1}"


def safe_name(text: str) -> str:
    """A text as the name of a task or a file. Raises InputError where nothing of it can stay."""
    name = re.sub(r"[^\w.+-]+", "-", text.strip()).strip("-.")[:80]
    if not _NAME.fullmatch(name):
        raise InputError(
            f'found "{text[:40]}"', where="name", expected="letters, digits, - and _", remedy="Choose another."
        )
    return name
