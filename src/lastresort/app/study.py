"""Run a study on a task's own examples, and write its document and page."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from lastresort.spec.task import Task, given_task
from lastresort.stop import NEVER, Stop
from lastresort.types import Progress

if TYPE_CHECKING:
    from lastresort.climb.prepare import PreparedTask
    from lastresort.report.study import StudyDocument
    from lastresort.study.arms import ArmRates
    from lastresort.study.conclude import MeasuredStudy
    from lastresort.study.grid import Grid, StudyKind

STUDIES = Path("studies")
DOCUMENT, PAGE = "study.json", "study.html"
ORPO_VS_DPO: Literal["orpo-vs-dpo"] = "orpo-vs-dpo"


@dataclass(frozen=True, slots=True)
class StudyRequest:
    """A study as its user asks for it; each field is the option of `lastresort study` with its name.

    sizes: numbers of examples, None for some up to all of train. seeds: None for as many as this kind of study usually has. out:
    None for studies/<task>-<kind>. settings: dotted keys that override the task file's. dpo_rate, orpo_rate: learning rates of
    orpo-vs-dpo, None for those of the task; it has no sizes. ray: local, auto or HOST:PORT; None for this process alone.
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


@dataclass(frozen=True, slots=True)
class Study:
    """A finished study. document: the content of study.json. folder: where that and study.html are."""

    document: StudyDocument
    folder: Path


def run_study(request: StudyRequest, progress: Progress, stop: Stop = NEVER) -> Study:
    """Do the cells that are missing in the study's folder, and write study.json and study.html.

    stop: checked between batches and training steps, as is a file named stop in the folder. The same request goes on with a study
    that was stopped or killed. Raises InputError for bad input, StoppedError where it stopped, BudgetError at a limit.
    """
    prepared, grid, rates = _prepared(request, progress)
    task = prepared.task
    from lastresort.app.spread import measured_on_ray
    from lastresort.app.start import check_models
    from lastresort.climb.workspace import with_rerun_remedy
    from lastresort.data.split import groups_of
    from lastresort.errors import BudgetError, OutOfMemoryError, StoppedError
    from lastresort.records.atomic import write_atomically
    from lastresort.report.schema import write_document
    from lastresort.report.study_page import study_page
    from lastresort.study.compare import orpo_vs_dpo_of
    from lastresort.study.conclude import MeasuredStudy, crossover_of, min_data_of
    from lastresort.study.run import run_grid, study_task

    check_models(task)
    folder = request.out or STUDIES / f"{task.task}-{request.kind}"
    progress.say(f"study: {folder}")
    try:
        with measured_on_ray(request.ray, study_task(task), progress) as executor:
            found = run_grid(prepared, grid, folder, progress, stop, rates=rates, executor=executor)
    except BudgetError as error:  # a limit counts all sessions, so that the same command alone would stop at once
        remedy = f"Raise {error.where} and give the same command again: finished cells are kept."
        raise BudgetError(error.found, where=error.where, expected=error.expected, remedy=remedy) from error
    except OutOfMemoryError:  # it says whether the same command can go on
        raise
    except StoppedError as error:
        raise with_rerun_remedy(error) from error
    dev = prepared.split.dev
    measured = MeasuredStudy(task, found.grid, found, groups_of(dev), prepared.scorer.binary)
    of_kind: dict[StudyKind, Callable[[MeasuredStudy], StudyDocument]] = {
        "crossover": crossover_of,
        "min-data": min_data_of,
        ORPO_VS_DPO: orpo_vs_dpo_of,
    }
    document = of_kind[request.kind](measured)
    write_document(folder / DOCUMENT, document)
    write_atomically(folder / PAGE, study_page(document))
    return Study(document, folder)


def forecast_study(request: StudyRequest, progress: Progress) -> str:
    """What the study would take, in a sentence. No model is loaded, no code of the user's is run, and nothing is written."""
    prepared, grid, _ = _prepared(request, progress, run_code=False)
    from lastresort.report.words.study import of_cells
    from lastresort.study.run import forecast

    cells = list(grid.cells())
    return of_cells(len(cells), len(cells), forecast(prepared, grid, cells, progress))


def _prepared(
    request: StudyRequest, progress: Progress, *, run_code: bool = True
) -> tuple[PreparedTask, Grid, ArmRates | None]:
    task = given_task(request.task, dict(request.settings))
    if request.ray is not None:
        from lastresort.scale.cluster import checked_address

        checked_address(request.ray)
    from lastresort.climb.prepare import prepare
    from lastresort.study.arms import rates_of
    from lastresort.study.grid import grid_of, grid_of_arms, of_different_rows, refuse_rates, refuse_sizes
    from lastresort.study.run import refuse_few_pairs, refuse_nothing_to_train, refuse_one_unit, with_pairs

    refuse_nothing_to_train(task)
    rates = None
    if request.kind == ORPO_VS_DPO:
        refuse_sizes(request.sizes)
        task, rates = with_pairs(task), rates_of(task, request.dpo_rate, request.orpo_rate)
    else:
        refuse_rates({"--dpo-rate": request.dpo_rate, "--orpo-rate": request.orpo_rate})
    progress.stage("reading the examples", None)
    prepared = prepare(task, run_code=run_code, begins=False)
    refuse_one_unit(prepared)
    if rates is not None:
        refuse_few_pairs(prepared)
        return prepared, grid_of_arms(len(prepared.preferences or ()), request.seeds), rates
    train = prepared.split.train
    grid = grid_of(request.kind, task, len(train), request.sizes, request.seeds)
    return prepared, of_different_rows(grid, train, named=request.sizes is not None), None
