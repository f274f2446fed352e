"""What can be done with a run that is there: read it, report it, export its training, hand its winner over."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lastresort.app.arguments import checked
from lastresort.errors import DataError, InputError, LastresortError
from lastresort.stop import NEVER, Stop
from lastresort.types import GateMode, Progress

if TYPE_CHECKING:
    from lastresort.evals.scorers.scorer import AnswerForm
    from lastresort.handoff.write import HandedOver
    from lastresort.interop.exporting.export import ExportedFolder
    from lastresort.interop.exporting.job import ExportableTraining
    from lastresort.records.decision import RunView
    from lastresort.records.measurement import ItemScore, Measurement
    from lastresort.records.record import Record

CANDIDATE_DEPTH = 3  # of a candidate's folder below its run


@dataclass(frozen=True, slots=True)
class Run:
    """A run in its folder, finished or not. Each property reads it again, so that a run at work can be followed.

    It stands for its folder wherever a path is asked for.
    """

    folder: Path

    def __fspath__(self) -> str:
        return str(self.folder)

    def __repr__(self) -> str:
        """The folder and the answer, as far as they can be read."""
        from lastresort.report.words.titles import headline

        with suppress(LastresortError):
            return f"<Run {self.folder}: {headline(self.view)}>"
        return f"<Run {self.folder}>"

    @property
    def finished(self) -> bool:
        from lastresort.climb.workspace import is_finished

        return is_finished(self.folder)

    @property
    def decision(self) -> dict[str, Any]:
        """The decision with its evidence. Raises DataError where the run has not decided, or has gone on up since."""
        from lastresort.report.decision import read_decision

        return read_decision(self.folder).as_json()

    @property
    def view(self) -> RunView:
        """The decision, or what the record holds so far. Raises DataError if the run has not started."""
        from lastresort.report.decision import read_view

        return read_view(self.folder)

    @property
    def report(self) -> Path:
        """Where report.html is: one page that opens offline."""
        from lastresort.report.html import FILE_NAME

        return self.folder / FILE_NAME

    def write_report(self) -> Path:
        """Draw report.html from the record, also of a run that is at work or was stopped."""
        from lastresort.report.html import write_report

        return write_report(self.folder)

    def items(self) -> list[dict[str, Any]]:
        """One row for each answer that was scored, with rung, candidate and split; `pandas.DataFrame(run.items())` takes them.

        split: "dev", "test", "fresh", the items with which an UNDECIDED test went on, or "rest of test", those that the test did
        not need: answered together with the last that it needed, or asked by the gate. Where a test went on, "test" and "fresh"
        together gave the verdict.
        """
        from lastresort.records.record import Record

        with Record.open(self.folder, read_only=True) as record:
            used = _used_items(record)
            return [
                {"rung": found.rung, "candidate": found.candidate, "split": split, **asdict(item)}
                for found in record.measurements()
                for split, item in _by_use(found, used)
            ]

    def task_file(self) -> Path:
        """The task file that the run was last climbed with. Raises DataError where that is not known."""
        from lastresort.records.record import Record
        from lastresort.records.view import task_file_of

        with Record.open(self.folder, read_only=True) as record:
            return task_file_of(record, self.folder)

    @checked
    def resume(
        self,
        *,
        task: str | PathLike[str] | None = None,
        until: str | None = None,
        gate: GateMode | None = None,
        compare: str | None = None,
        compare_seeds: int = 3,
        more: str | PathLike[str] | None = None,
        ray: str | None = None,
        settings: Mapping[str, Any] | None = None,
        progress: Progress | None = None,
        stop: Stop | None = None,
    ) -> Run:
        """Continue the climb where it stopped, as `lastresort.climb(..., resume=True)` with these options does.

        A finished run continues if an option asks for more. task: its task file; by default where the run says. Name it where its
        scores or rewards are Python, or where its model is an endpoint whose host is not in LASTRESORT_API_HOSTS: somebody else may
        have shared run and task file. settings: by default those of its start. more: a file
        of fresh items, with which the tests that ended UNDECIDED go on.
        Raises InputError where its task file is gone or has changed, StoppedError where it stopped again.
        """
        from lastresort.app.runtime import computing
        from lastresort.app.start import ClimbRequest, start_climb
        from lastresort.climb.shared_run import refuse_foreign_task
        from lastresort.records.view import refuse_moved

        path = Path(task) if task is not None else self.task_file()
        if task is None:
            refuse_moved(path, "Name it: resume(task=FILE); its paths to the examples are used.")
            remedy = "Look at it and, if it is yours, name it: resume(task=FILE)."
            refuse_foreign_task(path, settings or {}, remedy=remedy)
        request = ClimbRequest(
            path, settings or {}, self.folder, True, until, gate, compare, compare_seeds,
            None if more is None else Path(more), ray,
        )  # fmt: skip
        with computing(progress) as shown:
            return Run(start_climb(request, shown, stop or NEVER).run)

    def _repr_html_(self) -> str | None:
        """None, so that a notebook shows the folder, where the run has not started or cannot be read."""
        from lastresort.report.notebook import ladder_html

        with suppress(LastresortError):
            return ladder_html(self.view)
        return None


def _used_items(record: Record) -> dict[tuple[str, str], int]:
    """By rung and system, how many test items gave the verdict; nothing of an UNDECIDED, which rests on all that were answered."""
    from lastresort.records.events.after_test import RepairTested
    from lastresort.records.events.search import RungTested

    used: dict[tuple[str, str], int] = {}
    tests: list[RungTested | RepairTested] = [*record.all(RungTested), *record.all(RepairTested)]
    for one in tests:
        n = one.judgement.n_used if one.judgement.unit == "item" else one.items
        if n is not None and one.judgement.outcome != "UNDECIDED":
            used[one.rung, one.system] = n
    return used


def _by_use(found: Measurement, used: dict[tuple[str, str], int]) -> Iterator[tuple[str, ItemScore]]:
    """The items with their split. used: of each test the items still to come, which those of its parts are taken off."""
    from lastresort.records.measurement import FRESH, REST, TEST, whole_of

    split, key = whole_of(found.split), (found.rung, found.candidate)
    n = min(used.get(key, found.n), found.n) if split in (TEST, FRESH) else found.n
    if split in (TEST, FRESH) and key in used:
        used[key] -= n
    yield from ((split if number < n else REST, item) for number, item in enumerate(found.items))


def changed_inputs(folder: Path) -> list[str]:
    """Examples and other files of the task that are not as the run used them. A file that is gone says nothing."""
    from lastresort.records.events.run import FilesRead, TaskPlaced
    from lastresort.records.record import Record
    from lastresort.records.view import task_file_of
    from lastresort.systems.files import file_sha256

    with Record.open(folder, read_only=True, checked=False) as record:
        read, placed = record.last(FilesRead), record.last(TaskPlaced)
        if read is None or placed is None:
            return []
        place = task_file_of(record, folder).parent
    names = [name for name in read.files if not Path(name).is_absolute() and ".." not in Path(name).parts]
    there = {name: place / name for name in names if (place / name).is_file()}
    return sorted(name for name, path in there.items() if file_sha256(path) != read.files[name])


def answer_form(folder: Path) -> AnswerForm:
    """How answers look in the task of this run, or of the run that this saved system belongs to; any text where none is there, or
    its record cannot be read: whoever opens a winner has refused that.
    """
    from lastresort.evals.scorers.scorer import AnswerForm
    from lastresort.records.events.run import TaskRead
    from lastresort.records.record import FILE_NAME, Record

    folder = folder.absolute()
    run = next((one for one in (folder, *folder.parents[:CANDIDATE_DEPTH]) if (one / FILE_NAME).exists()), None)
    if run is None:
        return AnswerForm()
    try:
        with Record.open(run, read_only=True, sources=("event",)) as record:
            read = record.last(TaskRead)
    except DataError:
        return AnswerForm()
    if read is None:
        return AnswerForm()
    choices = (read.task.get("output") or {}).get("choices")
    return AnswerForm(read.json_schema, None if choices is None else tuple(choices))


def has_items(folder: Path, path: Path, *, by_content: bool = False) -> bool:
    """Whether the run's tests went on with this file of items. by_content: or with another of its content."""
    from lastresort.climb.identity import relative_path
    from lastresort.climb.prepare import sha256_of
    from lastresort.records.events.run import ItemsAdded
    from lastresort.records.record import Record

    sha256 = None
    with suppress(LastresortError):  # what cannot be read was not added
        sha256 = sha256_of(path) if by_content else None
    with Record.open(folder, read_only=True, checked=False) as record:
        return any(one.path == relative_path(path, folder) or one.sha256 == sha256 for one in record.all(ItemsAdded))


def took_less_here(run: Path) -> str | None:
    """A sentence where the run took less time than the costs of its rungs add up to."""
    from lastresort.records.record import Record
    from lastresort.report.decision import view_in
    from lastresort.report.story import gather
    from lastresort.report.words.titles import took_less

    with Record.open(run, read_only=True, checked=False) as record:
        story = gather(record, view_in(record))
    return took_less(story.total, story.ran_s)


def resume_command_here(folder: Path, start: Path) -> str:
    """The command that takes up a run on this machine, as typed in the folder `start`, with all settings that it was started with:
    endpoints and code are never taken from a record alone. TASK stands for a task file that is unknown or missing.
    """
    from lastresort.climb.identity import settings_of
    from lastresort.report.commands import climb_command

    task, settings = "TASK", dict[str, Any]()
    with suppress(LastresortError):
        settings, path = settings_of(folder), Run(folder).task_file()
        task = from_folder(start, path) if path.is_file() else task
    return climb_command(task, from_folder(start, folder), settings)


def from_folder(start: Path, path: Path) -> str:
    """How a file or folder is named in a command that is typed in the folder `start`."""
    found, start = path.resolve(), start.resolve()
    return str(found.relative_to(start)) if found.is_relative_to(start) else str(found)


def open_run(folder: Path) -> Run:
    """Raises DataError where the folder holds no run, or its record is damaged."""
    from lastresort.records.record import Record

    Record.open(folder, read_only=True).close()
    return Run(folder)


def export_training(
    source: Path,
    to: str | None,
    *,
    out: Path | None = None,
    rung: str | None = None,
    base: str | None = None,
    with_base: bool = False,
    gpu: str | None = None,
    task: Path | None = None,
) -> ExportedFolder:
    """Write a training as another framework's configuration, with its rows.

    source: a climb's run, the output folder of a training, or a training file. out: None for export-TO next to it or in it.
    rung: of a climb, None for the winner's. gpu: for skypilot, None for the cheapest that fits. task: of a climb, where its task
    file is now, None for where the run says.
    Raises InputError for options that do not go together and settings that the framework lacks, DataError for a training that is
    not finished or has changed.
    """
    from lastresort.interop.exporting import TARGETS
    from lastresort.spec.values import one_of

    to = one_of("--to", to, tuple(TARGETS))
    if base is not None and with_base:
        raise InputError("--base with --with-base", expected="one of them", remedy="Leave one out.")
    if gpu is not None and to != "skypilot":
        raise InputError(f"--gpu with --to {to}", expected="it only with --to skypilot", remedy="Leave it out.")
    from lastresort.interop.exporting.export import export

    out = out or (source if source.is_dir() else source.parent) / f"export-{to}"
    details = {} if gpu is None else {"gpu": gpu}
    return export(_training(source, rung, task), to, out, base=base, with_base=with_base, **details)


def _training(source: Path, rung: str | None, task: Path | None) -> ExportableTraining:
    from lastresort.interop.exporting.trained import is_output_folder, training_from_file, training_from_output
    from lastresort.records.record import FILE_NAME
    from lastresort.train.files.run_folder import BEGUN

    if (source / FILE_NAME).is_file():
        from lastresort.app.exported import of_climb

        return of_climb(source, rung, task)
    if given := [name for name, value in (("--rung", rung), ("--task", task)) if value is not None]:
        raise InputError(
            f"{given[0]} for a source that is not a climb",
            where=str(source),
            expected="it only for the run of a climb",
            remedy="Leave it out.",
        )
    if is_output_folder(source):
        return training_from_output(source)
    if (source / BEGUN).is_file():
        raise InputError(
            "this training has not finished",
            where=str(source),
            expected="one that ran to its end",
            remedy="Finish it with `lastresort train FILE --resume`. FILE itself can be exported already.",
        )
    return training_from_file(source)


def hand_over(
    run: Path,
    to: str | None,
    *,
    merged: bool = False,
    out: Path | None = None,
    name: str | None = None,
    allow_held: bool = False,
    port: int | None = None,
    progress: Progress | None = None,
) -> HandedOver:
    """Write the folder for another server.

    run: a finished run, or a saved system. out: None for handoff-TO in the run, or FOLDER-handoff-TO next to a saved system.
    name: None for that of the run's folder. port: where the server listens, None for its usual one. Raises InputError for a winner
    that is held or that the server cannot serve, DataError for one that is not what the run measured.
    """
    from lastresort.app.runtime import computing
    from lastresort.handoff import known_target, target_of

    to = known_target(to)
    target_of(to, port)  # before libraries and a model are loaded
    from lastresort.handoff.source import open_winner
    from lastresort.handoff.write import write_handoff

    with computing(progress) as shown:
        shown.stage("opening the winner", None)
        winner = open_winner(run, allow_held=allow_held)
        where = out or winner.handoff_folder(to)
        return write_handoff(winner, to, where, merged=merged, name=name, port=port, progress=shown)
