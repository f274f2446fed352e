"""Run a study on a task's own examples, and write its document and page."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

from lastresort.errors import InputError
from lastresort.spec.task import Task, given_task
from lastresort.stop import NEVER, Stop
from lastresort.types import SILENT, JsonObject, Progress, StudyGate, StudyKind

if TYPE_CHECKING:
    from lastresort.records.events.run import StudyBegan
    from lastresort.report.study import StudyDocument
    from lastresort.rungs.forecast import Forecast
    from lastresort.scale.cluster import Connect
    from lastresort.study.rows import CellRow
    from lastresort.study.run import PlannedStudy, StudyRows

STUDIES = Path("studies")
DOCUMENT, PAGE = "study.json", "study.html"


@dataclass(frozen=True, slots=True)
class StudyRequest:
    """A study as its user asks for it; each field is the option of `lastresort study` with its name.

    sizes: numbers of examples, None for some up to all of train. seeds: None for as many as this kind of study usually has. out:
    None for studies/<task>-<kind>. settings: dotted keys that override the task file's. dpo_rate, orpo_rate: learning rates of
    orpo-vs-dpo, None for those of the task; it has no sizes. gate: of each adapter of orpo-vs-dpo, quick or full, None for none.
    ray: local, auto or HOST:PORT; None for this process alone. optimised: the run whose optimised instruction crossover also
    measures.
    """

    kind: StudyKind
    task: Path | Task
    settings: Mapping[str, Any] = field(default_factory=dict)
    sizes: tuple[int, ...] | None = None
    seeds: int | None = None
    out: Path | None = None
    dpo_rate: float | None = None
    orpo_rate: float | None = None
    ray: str | None = None
    gate: str | None = None
    optimised: Path | None = None


@dataclass(frozen=True, slots=True)
class Study:
    """A finished study. document: the content of study.json. folder: where that and study.html are. cells: what was measured."""

    document: StudyDocument
    folder: Path
    cells: tuple[CellRow, ...]

    @property
    def answer(self) -> str:
        return self.document.answer

    @property
    def report(self) -> Path:
        """Where study.html is: one page that opens offline."""
        return self.folder / PAGE

    def rows(self) -> list[JsonObject]:
        """One row for each cell, with way, n, seed and what was measured; `pandas.DataFrame(study.rows())` takes them."""
        return [cell.summary for cell in self.cells]

    def __repr__(self) -> str:
        return f"<Study {self.folder}: {self.answer}>"

    def _repr_html_(self) -> str:
        from lastresort.report.notebook import picture_html
        from lastresort.report.study_page import shown, standing_alone

        return picture_html(self.answer, standing_alone(shown(self.document).pictures[0]))


@dataclass(frozen=True, slots=True)
class StudyForecast:
    """What a study would do and take: each of `ways` on so many examples with each seed, and each of `bases` once. forecast: of all
    cells, with answers as long as allowed. assumed: of several cards, and of workers, which are not counted; "" without such.
    """

    kind: StudyKind
    cells: int
    bases: tuple[str, ...]
    ways: tuple[str, ...]
    sizes: tuple[int, ...]
    seeds: tuple[int, ...]
    forecast: Forecast | None
    assumed: str

    def lines(self) -> list[str]:
        from lastresort.report.words.study import of_cells, of_grid

        cells = of_cells(self.cells, self.cells, self.forecast)
        return [
            " ".join(filter(None, (cells, self.assumed, of_grid(self.bases, self.ways, self.sizes, len(self.seeds)))))
        ]

    def as_dict(self) -> JsonObject:
        """As `lastresort study --dry-run --json` prints it."""
        return asdict(self)


def kind_named(word: str) -> StudyKind:
    """Raises InputError for a study that there is not."""
    from lastresort.spec.values import one_of

    return one_of("study", word, get_args(StudyKind))


def sizes_named(sizes: str | Iterable[object] | None) -> tuple[int, ...] | None:
    """Numbers, or text such as "20,40,80". Raises InputError for what is no whole number."""
    if sizes is None:
        return None
    words = [str(size).strip() for size in (sizes.split(",") if isinstance(sizes, str) else sizes)]
    if not all(word.isascii() and word.isdecimal() for word in words):
        raise InputError(
            f'found "{",".join(words)}"',
            where="--sizes",
            expected="whole numbers",
            remedy="For example: --sizes 20,40,80",
        )
    return tuple(map(int, words))


def gate_named(request: StudyRequest) -> StudyGate | None:
    """Raises InputError for one that there is not, or of a study that has none."""
    from lastresort.spec.values import one_of

    if request.gate is None:
        return None
    if request.kind != "orpo-vs-dpo":
        raise InputError(
            f'found "{request.gate}"',
            where="--gate",
            expected="none: only orpo-vs-dpo gates what it trains",
            remedy="Leave it out.",
        )
    modes: tuple[StudyGate, ...] = get_args(StudyGate)
    return one_of("--gate", request.gate, modes)


def run_study(request: StudyRequest, progress: Progress, stop: Stop = NEVER, connect: Connect | None = None) -> Study:
    """Do the cells that are missing in the study's folder, and write study.json and study.html.

    stop: checked between batches and training steps, as is a file named stop in the folder. connect: None to a cluster of its own.
    The same request goes on with a study that was stopped or killed. Raises InputError for bad input, StoppedError where it
    stopped, BudgetError at a limit.
    """
    study = _planned(request, progress)
    prepared = study.prepared
    task = prepared.task
    from lastresort.app.spread import study_on_ray
    from lastresort.app.start import check_models
    from lastresort.data.split import groups_of
    from lastresort.gate.built_in import check_further_suites
    from lastresort.records.atomic import write_atomically
    from lastresort.report.study_page import study_page
    from lastresort.report.words.progress import folder_line
    from lastresort.study.conclude import MeasuredStudy
    from lastresort.study.kinds import KINDS
    from lastresort.study.run import run_grid, study_task

    check_models(task)
    if study.gate is not None:
        check_further_suites(task)
    folder = request.out or STUDIES / f"{task.task}-{request.kind}"
    progress.say(folder_line("study", folder))

    def concluded(found: StudyRows) -> Study:
        groups, binary = groups_of(prepared.split.dev), prepared.scorer.binary
        measured = MeasuredStudy(task, found.grid, found, groups, binary, prepared.left_out)
        document = KINDS[request.kind].conclude(measured)
        write_atomically(folder / DOCUMENT, document.as_text)
        write_atomically(folder / PAGE, study_page(document))
        return Study(document, folder, tuple(found.rows.values()))

    with (
        _same_command(),
        study_on_ray(request.ray, study_task(task, study.learner.rung), prepared, progress, connect) as workers,
    ):
        return run_grid(study, folder, _began(request, task, folder), progress, stop, concluded, workers=workers)


def _began(request: StudyRequest, task: Task, folder: Path) -> StudyBegan:
    from lastresort.climb.identity import relative_path
    from lastresort.records.events.run import StudyBegan

    task_path = relative_path(task.path, folder) if isinstance(request.task, Path) else None
    workers = request.ray is not None
    return StudyBegan(study=request.kind, task=task_path, options=tuple(_options(request)), workers=workers)


def _options(request: StudyRequest) -> Iterator[str]:
    """Of the command that goes on with it; `--ray` belongs to a command alone."""
    from pydantic_core import to_jsonable_python

    from lastresort.report.commands import set_options

    if request.sizes is not None:
        yield from ("--sizes", ",".join(map(str, request.sizes)))
    for option, value in (
        ("--seeds", request.seeds),
        ("--dpo-rate", request.dpo_rate),
        ("--orpo-rate", request.orpo_rate),
    ):
        if value is not None:
            yield from (option, f"{value!r}")
    if request.gate is not None:
        yield from ("--gate", request.gate)
    if request.optimised is not None:
        yield from ("--optimised", str(request.optimised.absolute()))
    yield from set_options(to_jsonable_python(dict(request.settings)))


@contextmanager
def _same_command() -> Iterator[None]:
    """What stops a study inside says how to go on with it."""
    from lastresort.errors import SAME_COMMAND, OutOfMemoryError, StoppedError

    try:
        yield
    except OutOfMemoryError:  # it says whether the same command can go on
        raise
    except StoppedError as error:
        raise error.going_on(SAME_COMMAND) from error


def ready_study(
    request: StudyRequest, progress: Progress, stop: Stop = NEVER, connect: Connect | None = None
) -> PlannedStudy:
    """The study as it stands before the rows that it compares are made. Its folder, which the request names, is made, its models
    are opened, and its cluster is connected to (connect: None to one of its own). Raises all that `run_study` would before the
    first cell, apart from a lack of such rows.
    """
    from lastresort.app.spread import study_on_ray
    from lastresort.app.start import check_models
    from lastresort.study.run import refuse_before_cells, study_task

    study = _read(request, progress)
    task = study.prepared.task
    check_models(task)
    assert request.out is not None, "the folder is named"
    with _same_command():
        learning = study_task(task, study.learner.rung)
        with study_on_ray(request.ray, learning, study.prepared, SILENT, connect):
            pass  # to see that it can be used
        refuse_before_cells(study, request.out, _began(request, task, request.out), progress, stop)
    return study


def forecast_study(request: StudyRequest, progress: Progress) -> StudyForecast:
    """What the study would do and take. No model is loaded, no code of the user's is run, nothing is written."""
    study = _planned(request, progress, run_code=False)
    from lastresort.report.words.wording import of_one_process
    from lastresort.study.run import forecast

    grid = study.grid
    cells = list(grid.cells())
    expected, assumed = forecast(study, cells, progress)
    if request.ray is not None and expected is not None and expected.seconds is not None:
        assumed = " ".join(filter(None, (assumed, of_one_process("cells"))))
    return StudyForecast(
        request.kind, len(cells), grid.bases, grid.ways, grid.sizes, grid.seeds, forecast=expected, assumed=assumed
    )


def _planned(request: StudyRequest, progress: Progress, *, run_code: bool = True) -> PlannedStudy:
    """With a size for each different subset of train. Raises also where train is nothing to compare trainings on."""
    study = _read(request, progress, run_code=run_code)
    named = request.sizes is not None
    grid, _ = study.learner.subsets(study.grid, study.prepared.split.train, named=named)
    return replace(study, grid=grid)


def _read(request: StudyRequest, progress: Progress, *, run_code: bool = True) -> PlannedStudy:
    task = given_task(request.task, dict(request.settings))
    if request.ray is not None:
        from lastresort.scale.cluster import checked_address

        checked_address(request.ray)
    from lastresort.app.spread import machines_of
    from lastresort.climb.prepare import prepare
    from lastresort.climb.room import refuse_beyond_cards
    from lastresort.study.kinds import KINDS, StudyOptions, optimised_in
    from lastresort.study.run import PlannedStudy, refuse_few_units, refuse_nothing_to_train, study_task

    gate = gate_named(request)
    if request.optimised is not None and request.kind != "crossover":
        raise InputError(
            f"found {request.optimised}",
            where="--optimised",
            expected="none: only crossover compares ways to prompt",
            remedy="Leave it out.",
        )
    kind = KINDS[request.kind]
    options = StudyOptions(request.sizes, request.seeds, request.dpo_rate, request.orpo_rate, request.optimised)
    refuse_nothing_to_train(task)
    task, learner = kind.learning(task, options)
    machines = machines_of(request.ray)
    refuse_beyond_cards(task, study_task(task, learner.rung).ladder, may_end_before=False, machines=machines)
    progress.stage("reading the examples", None)
    prepared = prepare(task, run_code=run_code, begins=False)
    refuse_few_units(prepared, kind.least_units)
    optimised = None if request.optimised is None else optimised_in(request.optimised, prepared)
    return PlannedStudy(prepared, kind.grid(prepared, options), learner, gate, optimised)
