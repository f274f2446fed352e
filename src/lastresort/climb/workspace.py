"""The folders of a climb: which run, whose turn, what is shared between runs."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from shlex import quote

from lastresort.errors import (
    BudgetError,
    InfrastructureError,
    InputError,
    LastresortError,
    PrerequisiteError,
    StopRequestedError,
    TaskError,
)
from lastresort.records import atomic as lock
from lastresort.records.document import ReuseView
from lastresort.records.events.base import OfRung
from lastresort.records.events.run import BudgetSpent, ClimbResumed, ClimbStopped, ModelOpened
from lastresort.records.events.search import RungGivenUp, RungGoneOn, RungPlanned, RungSkipped, SystemFrozen
from lastresort.records.ledger import Ledger, item_hash
from lastresort.records.record import FILE_NAME, Record
from lastresort.records.record_file import RecordGoneError
from lastresort.records.view import Fold, fold_of, refuse_study
from lastresort.report.words.data import of_reuse
from lastresort.stop import StopFile
from lastresort.types import Example

SHARED, LEDGER, RESPONSES = ".lastresort", "ledger.sqlite", "responses.sqlite"


def new_run(runs: Path, task: str) -> Path:
    """Make the next free `<task>-<n>` below `runs`."""
    numbers = [run_number(path, task) for path in runs.glob(f"{task}-*")]
    number = max([n for n in numbers if n is not None], default=0) + 1
    while True:
        folder = runs / f"{task}-{number}"
        try:
            folder.mkdir(parents=True)
        except FileExistsError:
            number += 1
            continue
        return folder


def newest_run(runs: Path, task: str, *, unfinished: bool) -> Path:
    """The newest run of the task; unfinished: that has not finished. One that neither began a rung nor was stopped by its user or a
    limit, such as one whose start failed, counts only where there is no other. Raises TaskError where there is none.
    """
    numbered = [
        (number, path)
        for path in runs.glob(f"{task}-*")
        if (number := run_number(path, task)) is not None and (path / FILE_NAME).is_file()
    ]
    paths = [path for _, path in sorted(numbered, reverse=True) if not (unfinished and _is_over(path))]
    run = next(filter(_goes_on, paths), next(iter(paths), None))
    if run is None:
        raise TaskError(
            f"no {'unfinished ' if unfinished else ''}run of task {task}",
            where=f"{runs}/",
            expected="a run to resume",
            remedy="Start one with `lastresort climb TASK`, or take a finished run further up with --resume RUN --until RUNG.",
        )
    return run


def _is_over(run: Path) -> bool:
    """Whether no climb goes on there: it has finished, or the folder is that of a study."""
    with Record.open(run, read_only=True, checked=False) as record:
        fold = fold_of(record)
    return fold.finished or fold.study is not None


def _goes_on(run: Path) -> bool:
    """Whether the run holds work, or was stopped and said that --resume goes on with it."""
    with Record.open(run, read_only=True, checked=False) as record:
        was_asked = any(stopped.by != "error" for stopped in record.all(ClimbStopped))
        return has_begun(record) or bool(record.curves()) or was_asked


def has_begun(record: Record, rung: str | None = None) -> bool:
    """Whether the record holds anything of the rung's work, or of any rung's."""
    kinds_before = (RungPlanned, RungSkipped, RungGoneOn)
    works = (event for _, event in record.since() if isinstance(event, OfRung) and not isinstance(event, kinds_before))
    return any(rung in (None, event.rung) for event in works)


def has_result(record: Record, rung: str) -> bool:
    """Which the rung keeps, whatever machine the climb goes on with."""
    return any(record.last(kind, rung) is not None for kind in (SystemFrozen, RungGivenUp))


def is_finished(run: Path) -> bool:
    """Whether the run's climb came to its end and has not gone on since. Raises DataError where there is no run."""
    with Record.open(run, read_only=True, checked=False) as record:  # of all runs of a workspace at once
        return fold_of(record).finished


def run_number(path: Path, task: str) -> int | None:
    rest = path.name.removeprefix(f"{task}-")
    return int(rest) if path.is_dir() and rest.isascii() and rest.isdecimal() else None


def shared_folder(run: Path) -> Path:
    """What neighbouring runs share: the response cache and the ledger of test items."""
    folder = run.parent / SHARED
    folder.mkdir(parents=True, exist_ok=True)
    return folder


@contextmanager
def withdrawn_if_refused(run: Path, *, made_here: bool) -> Iterator[None]:
    """Delete a new run if its input is refused, or something outside fails, before it starts.

    made_here: whether this command made the folder; else it is kept.
    """
    shared = run.parent / SHARED
    is_first = not shared.exists()
    try:
        yield
    except RecordGoneError:  # what is left of a run that was moved is not ours to delete
        raise
    except (InputError, PrerequisiteError, InfrastructureError):
        if made_here and _withdraw(run) and is_first and not any(run.parent.glob(f"*/{FILE_NAME}")):
            shutil.rmtree(shared, ignore_errors=True)
        raise


def _withdraw(run: Path) -> bool:
    """Whether its record said that it never began: then what runs share holds nothing of it. Without a record nobody knows."""
    if not run.is_dir():
        return False
    with suppress(InputError), run_lock(run):  # a process that came in between keeps what it holds
        has_record = (run / FILE_NAME).is_file()
        if not _began(run):
            shutil.rmtree(run, ignore_errors=True)
            return has_record
    return False


def _began(run: Path) -> bool:
    """Whether the run got as far as to have opened its model and measured its data."""
    if not (run / FILE_NAME).is_file():
        return False
    with Record.open(run, read_only=True) as record:
        return record.last(ModelOpened) is not None


@contextmanager
def run_lock(run: Path, *, instead: str = ", or start a new run without --resume") -> Iterator[None]:
    """Hold the run, so that no second process climbs it; the hold ends with the process, however it ends. instead: of waiting."""
    remedy = f"Wait for it (`lastresort watch {quote(str(run))}` shows how far it is){instead}."
    with lock.held(run, "another process is climbing this run", expected="one process a run", remedy=remedy):
        yield


@contextmanager
def noted_stop(record: Record, file: StopFile, *, begins: bool) -> Iterator[None]:
    """Record a climb that ends inside because somebody asked for it, or a limit did, so that nobody takes it for one that died; and
    that it goes on, where it had died. Of one that had finished that is noted with its first work, and of one that had stopped by
    `note_resumed`: they may be refused. begins: whether the run is new. Raises DataError where the record is that of a study.
    """
    refuse_study(record)
    fold = fold_of(record)
    if not begins and not fold.finished and fold.stopped is None:
        record.append(ClimbResumed())
    with noted_end(record, file):
        yield


def note_resumed(record: Record, note_time: Callable[[], None]) -> None:
    """Record that a climb which had stopped goes on, once nothing refuses it any more: one that is refused stays stopped.
    note_time: puts the time that opening the model took into the record, since the clock of the run goes on from here.
    """
    fold = fold_of(record)
    if fold.stopped is not None:
        note_time()
        record.append(ClimbResumed())


@contextmanager
def noted_end(record: Record, file: StopFile) -> Iterator[None]:
    """Record how a climb or a study ends inside: by a request, a limit, or an error of ours. A session that is refused before it
    begins or goes on leaves the earlier end as it was, also that of one that died. Of a study that never got to its cells there is
    none to leave: its folder stays, and says why it was refused.
    """
    newest = record.newest()[0]
    try:
        yield
    except (KeyboardInterrupt, StopRequestedError):
        record.append(ClimbStopped(by="file" if file.requested() is not None else "signal"))
        raise
    except BudgetError:
        record.append(ClimbStopped(by="limit"))
        raise
    except LastresortError as error:
        with suppress(LastresortError):  # such as a full disk again
            if _is_at_work(record, newest) or _is_unplanned(fold_of(record)):
                record.append(ClimbStopped(by="error", error=str(error)))
        raise


def _is_at_work(record: Record, since: int) -> bool:
    """Whether the session that began after this event has got past all that could refuse it, as the time that it noted last says,
    and its climb or study has not finished.
    """
    spent = [event for _, event in record.since(since) if isinstance(event, BudgetSpent)]
    return bool(spent) and not spent[-1].left and not fold_of(record).finished


def _is_unplanned(fold: Fold) -> bool:
    """Whether it is of a study whose cells are not known yet, and of which no end is noted."""
    return fold.study is not None and fold.study.keys is None and fold.stopped is None


def count_use(shared: Path, examples: Sequence[Example], look: str) -> ReuseView:
    """Enter a look at these test items into the ledger of the workspace, and say how often they were used before."""
    hashes = [item_hash(example) for example in examples]
    with Ledger(shared / LEDGER) as ledger:
        ledger.use(hashes, look)
        return of_reuse(ledger.reuse(hashes, look))


def earlier_use(runs: Path, examples: Sequence[Example]) -> ReuseView | None:
    """How often earlier runs in this folder used these test items, those left out that still go on; None where none did."""
    path = runs / SHARED / LEDGER
    if not path.is_file():
        return None
    with Ledger(path) as ledger:
        reuse = of_reuse(ledger.reuse([item_hash(example) for example in examples], *_going_on(runs)))
    return reuse if reuse.used else None


def _going_on(runs: Path) -> Iterator[str]:
    """The ids of the runs that processes hold."""
    for path in runs.glob(f"*/{FILE_NAME}"):
        if lock.is_held(path.parent):
            with suppress(LastresortError), Record.open(path.parent, read_only=True, checked=False) as record:
                yield record.run_id
