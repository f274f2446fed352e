"""Synthetic rows, and then the study that says whether they help: `lastresort data synth --ablate`.

All that the study could refuse is refused before a row is made, and the paid calls of its judge are asked about then.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from lastresort.app.study import STUDIES, Study, StudyRequest, ready_study, run_study
from lastresort.app.synth import SynthRequest, made_at_workers, rows_file
from lastresort.errors import SAME_COMMAND, BudgetError, InputError, StopRequestedError
from lastresort.report.words import study_synthetic as words
from lastresort.report.words.synthetic import SyntheticRows
from lastresort.scale.cluster import Connect
from lastresort.spec.paths import is_paid
from lastresort.spec.task import Task, given_task
from lastresort.stop import NEVER, GoOn, Stop
from lastresort.types import Progress

if TYPE_CHECKING:
    from lastresort.study.run import PlannedStudy


@dataclass(frozen=True, slots=True)
class Ablation:
    """A study of rows that are still to be made. limit_usd: on rows and study together, None without one. limit: what sets it.
    connect: to a cluster that the study shares with the making of the rows at workers, None to one of its own.
    """

    task: Task
    seeds: int | None
    folder: Path
    ray: str | None
    limit_usd: float | None
    limit: str
    connect: Connect | None = None

    def studied(self, synthetic_rows: SyntheticRows, progress: Progress, stop: Stop = NEVER) -> Study:
        """Train with and without the rows, for what is left of the money. The same call goes on.

        Raises BudgetError where the rows took all of it and a paid judge is still to be asked, and what `run_study` does.
        """
        task = self.task.model_copy(update={"examples": synthetic_rows.sources.with_synthetic(synthetic_rows.path)})
        if self.limit_usd is not None and _pays_judge(task):
            usd_left = self.limit_usd - synthetic_rows.tally.usd
            if usd_left <= 0:
                raise BudgetError(
                    f"{synthetic_rows.tally.usd:.2f} USD are spent on rows",
                    where=self.limit,
                    expected=f"less than {self.limit_usd:g}: the study asks a judge",
                    remedy="Raise it.",
                    resume=SAME_COMMAND,
                )
            task = task.model_copy(update={"limits": task.limits.model_copy(update={"usd": usd_left})})
        try:
            return run_study(replace(self._request, task=task), progress, stop, self.connect)
        except BudgetError as error:
            if error.where != "limits.usd":
                raise
            raise BudgetError(
                error.found,
                where=self.limit,
                expected=f"{error.expected}, which the rows left of it",
                remedy=error.remedy,
                resume=error.resume,
            ) from error

    @property
    def _request(self) -> StudyRequest:
        return StudyRequest("synthetic", self.task, seeds=self.seeds, out=self.folder, ray=self.ray)


def planned_ablation(
    request: SynthRequest,
    seeds: int | None,
    progress: Progress,
    stop: Stop = NEVER,
    go_on: GoOn | None = None,
    connect: Connect | None = None,
) -> Ablation:
    """The study of the rows that `synth_data` makes of the same request. seeds: None for as many as that study usually has. Its
    folder is named after their file. go_on: asks the user before a paid judge, None to go on without. connect: as of `Ablation`.

    Raises what that study could raise before its first cell, with the rows that are there, and StopRequestedError where the answer
    is no.
    """
    task, out = given_task(request.task, dict(request.settings)), rows_file(request)
    rows = tuple(path for path in task.examples.synthetic if path.resolve() != out.resolve())
    name = f"{task.task}-synthetic"
    ablation = Ablation(
        task=task.model_copy(update={"examples": task.examples.model_copy(update={"synthetic": rows})}),
        seeds=seeds,
        folder=STUDIES / (name if out.stem == name else f"{name}-{out.stem}"),
        ray=request.ray,
        limit_usd=task.limits.usd if request.usd is None else request.usd,
        limit="limits.usd" if request.usd is None else "--usd",
        connect=connect,
    )
    judge = task.score.judge
    if ablation.limit_usd is not None and judge is not None and not judge.price_known:
        raise InputError(
            f"a limit of {ablation.limit_usd:g} USD without the prices of the judge {judge.model}",
            where=ablation.limit,
            expected="what its tokens cost, since the study asks it",
            remedy="Add prompt_price and output_price under score.judge, in USD per million tokens.",
        )
    # Nobody would watch a connection for the hours in which an endpoint writes the rows.
    study = ready_study(ablation._request, progress, stop, connect if made_at_workers(request) else None)
    if go_on is not None and _pays_judge(task) and not go_on(_question(study), stop):
        raise StopRequestedError(
            "nobody agreed to the paid calls of the judge",
            where=f'{task.path.name}, key "score.judge"',
            remedy="Answer y, or add --yes. Nothing was spent.",
        )
    return ablation


def _pays_judge(task: Task) -> bool:
    judge = task.score.judge
    return judge is not None and is_paid(judge.model) and (judge.prompt_price, judge.output_price) != (0.0, 0.0)


def _question(study: PlannedStudy) -> str:
    from lastresort.study.run import forecast_of_verdicts

    judge, verdicts_forecast = study.prepared.task.score.judge, forecast_of_verdicts(study)
    assert judge is not None, "only a judge is asked about"
    usd = verdicts_forecast.usd if verdicts_forecast is not None and judge.price_known else None
    return words.question(study.answers, judge.model, usd)


def refuse_what_ablates_nothing(*, ablate: bool, seeds: int | None, dry_run: bool) -> None:
    """Raises InputError for options of `data synth` that contradict each other."""
    if ablate and dry_run:
        raise InputError(
            "found --ablate and --dry-run",
            expected="one of them",
            remedy="Leave --ablate out. Once the rows are made and the task names their file, `lastresort study synthetic TASK "
            "--dry-run` forecasts the trainings.",
        )
    if seeds is not None and not ablate:
        raise InputError(
            f"found {seeds}",
            where="--seeds",
            expected="--ablate beside it",
            remedy="Add --ablate, or name --seed, which draws the rows to show.",
        )
