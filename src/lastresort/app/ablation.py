"""Synthetic rows, and then the study that says whether they help: `lastresort data synth --ablate`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lastresort.app.synth import SynthRequest, synth_data
from lastresort.errors import InputError
from lastresort.report.synthetic import SyntheticRows
from lastresort.spec.task import given_task
from lastresort.spec.values import ReadContext
from lastresort.stop import NEVER, GoOn, Stop
from lastresort.types import Progress

if TYPE_CHECKING:
    from lastresort.app.study import Study


def ablate_rows(
    request: SynthRequest, seeds: int | None, progress: Progress, stop: Stop = NEVER, go_on: GoOn | None = None
) -> tuple[SyntheticRows, Study | None]:
    """Make synthetic rows as `synth_data` does, then train with and without them as the study `synthetic` does; None where not all
    rows were made. The same call goes on. seeds: None for as many as that study usually has.

    Raises what either does. Too few seeds and a model that cannot be trained are refused before any row is made.
    """
    from lastresort.app.study import StudyRequest, run_study
    from lastresort.study.grid import LEAST_SOURCE_SEEDS, SOURCE_SEEDS, seeds_of
    from lastresort.study.run import refuse_nothing_to_train

    task = given_task(request.task, dict(request.settings))
    seeds_of(seeds, SOURCE_SEEDS, LEAST_SOURCE_SEEDS)
    refuse_nothing_to_train(task)
    made = synth_data(request, progress, stop, go_on)
    if made.ended != "rows":
        return made, None
    files = made.sources.with_synthetic(made.path.absolute()).written(ReadContext(task.folder))
    other = {key: value for key, value in request.settings.items() if key.partition(".")[0] != "examples"}
    study = StudyRequest("synthetic", task.path, {**other, "examples": files}, seeds=seeds)
    return made, run_study(study, progress, stop)


def refuse_what_ablates_nothing(*, ablate: bool, seeds: int | None, dry_run: bool) -> None:
    """Raises InputError for options of `data synth` that contradict each other."""
    if ablate and dry_run:
        raise InputError(
            "found --ablate and --dry-run",
            expected="one of them",
            remedy="Once the rows are made, `lastresort study synthetic TASK --dry-run` forecasts the trainings.",
        )
    if seeds is not None and not ablate:
        raise InputError(
            f"found {seeds}",
            where="--seeds",
            expected="--ablate beside it",
            remedy="Add --ablate, or name --seed, which draws the rows to show.",
        )
