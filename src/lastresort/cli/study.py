"""`lastresort study …`: how many examples SFT needs to beat prompting, or the base prompt at all; ORPO against SFT then
DPO; and whether synthetic rows help.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer
from typer import Argument, Option

from lastresort.cli.options import TASK_SETTINGS, TRAINING_RAY, parse_settings

if TYPE_CHECKING:
    from lastresort.app.study import StudyRequest
    from lastresort.app.study_folder import StudyFolder
    from lastresort.report.study import StudyDocument

study_app = typer.Typer(
    help="Measure how many examples it takes, or which training is better.",
    no_args_is_help=True,
    rich_markup_mode=None,
)
TASK: Any = Argument(help="The task file (task.yaml).")
SIZES: Any = Option(None, "--sizes", metavar="N,N", help="Numbers of examples. Default: spread up to all of train.")
FIXED = "Number of seeds, fixed before the first result. Each trains"


def _seeds(what: str, least: int, usual: int) -> Any:
    return Option(None, "--seeds", help=f"{what} At least {least}, default {usual}.")


SEEDS = _seeds("Number of draws of the examples. Each trains once per size.", 2, 3)
ARM_SEEDS, SOURCE_SEEDS = _seeds(f"{FIXED} both ways.", 2, 5), _seeds(f"{FIXED} all three.", 3, 5)
RATE = "Default: the middle of preference.learning_rates, or if they are auto,"
DPO_RATE: Any = Option(None, "--dpo-rate", help=f"Learning rate of DPO. {RATE} 4.5e-5.")
ORPO_RATE: Any = Option(None, "--orpo-rate", help=f"Learning rate of ORPO. {RATE} 1.7e-4.")
GATE: Any = Option(None, "--gate", metavar="quick|full", help="Also gate each adapter. Default: none.")
OPTIMISED: Any = Option(None, "--optimised", metavar="RUN", help="Also measure the prompt that this climb optimised.")
OUT: Any = Option(None, "--out", help="Folder of the study. Default: studies/<task>-<kind>.")
DRY: Any = Option(False, "--dry-run", help="Forecast time and cost. Runs no model and none of your code.")
JSON: Any = Option(False, "--json", help="Print the result as one JSON document on stdout.")


@study_app.command("crossover")
def crossover_command(
    task: Path = TASK,
    sizes: str | None = SIZES,
    seeds: int | None = SEEDS,
    optimised: Path | None = OPTIMISED,
    out: Path | None = OUT,
    ray: str | None = TRAINING_RAY,
    dry_run: bool = DRY,
    settings: list[str] = TASK_SETTINGS,
    as_json: bool = JSON,
) -> None:
    """How many examples does SFT need to beat prompting?

    Measures zero-shot, few-shot, the nearest shots, constrained decoding and SFT on dev, for several numbers of examples.

    Run the same command again to resume an interrupted study.
    """
    from lastresort.app.study import StudyRequest, sizes_named

    known, named = parse_settings(settings), sizes_named(sizes)
    _run(StudyRequest("crossover", task, known, named, seeds, out, ray=ray, optimised=optimised), dry_run, as_json)


@study_app.command("min-data", short_help="How many examples does LoRA need to beat the base prompt?")
def min_data_command(
    task: Path = TASK,
    sizes: str | None = SIZES,
    seeds: int | None = SEEDS,
    out: Path | None = OUT,
    ray: str | None = TRAINING_RAY,
    dry_run: bool = DRY,
    settings: list[str] = TASK_SETTINGS,
    as_json: bool = JSON,
) -> None:
    """How many examples does LoRA need to beat the base prompt, and what would more of them do?

    Trains on several numbers of examples, tests each on dev against the base prompt, and looks for overfitting.

    Run the same command again to resume an interrupted study.
    """
    from lastresort.app.study import StudyRequest, sizes_named

    request = StudyRequest("min-data", task, parse_settings(settings), sizes_named(sizes), seeds, out, ray=ray)
    _run(request, dry_run, as_json)


@study_app.command("orpo-vs-dpo")
def orpo_vs_dpo_command(
    task: Path = TASK,
    seeds: int | None = ARM_SEEDS,
    dpo_rate: float | None = DPO_RATE,
    orpo_rate: float | None = ORPO_RATE,
    gate: str | None = GATE,
    out: Path | None = OUT,
    ray: str | None = TRAINING_RAY,
    dry_run: bool = DRY,
    settings: list[str] = TASK_SETTINGS,
    as_json: bool = JSON,
) -> None:
    """Is ORPO better than SFT then DPO, at equal compute?

    Trains both on the task's preference pairs, and compares them on dev, on held-out pairs, and by what else they changed.

    Run the same command again to resume an interrupted study.
    """
    from lastresort.app.study import StudyRequest

    request = StudyRequest("orpo-vs-dpo", task, parse_settings(settings), seeds=seeds, out=out, ray=ray, gate=gate)
    _run(replace(request, dpo_rate=dpo_rate, orpo_rate=orpo_rate), dry_run, as_json)


@study_app.command("synthetic")
def synthetic_command(
    task: Path = TASK,
    seeds: int | None = SOURCE_SEEDS,
    out: Path | None = OUT,
    ray: str | None = TRAINING_RAY,
    dry_run: bool = DRY,
    settings: list[str] = TASK_SETTINGS,
    as_json: bool = JSON,
) -> None:
    """Do the synthetic rows of train help?

    Trains on real rows, on synthetic rows and on both, for the same number of steps, and compares them on dev.

    Run the same command again to resume an interrupted study.
    """
    from lastresort.app.study import StudyRequest

    _run(StudyRequest("synthetic", task, parse_settings(settings), None, seeds, out, ray=ray), dry_run, as_json)


def _run(request: StudyRequest, dry: bool, as_json: bool) -> None:
    from lastresort.app.console import progress
    from lastresort.app.study import forecast_study, run_study
    from lastresort.app.terminal import print_document, print_text
    from lastresort.cli.border import stoppable

    if dry:
        with progress() as shown:
            forecast = forecast_study(request, shown)
        print_document(forecast.as_dict()) if as_json else print_text("\n".join(forecast.lines()))
        return
    with stoppable() as (shown, stop):
        found = run_study(request, shown, stop)
    show_study(found.document, found.report, as_json=as_json)


def show_study(document: StudyDocument, page: Path, *, as_json: bool) -> None:
    from lastresort.cli.border import show_document
    from lastresort.report.study_page import study_text

    show_document(document, study_text, as_json=as_json, last_line=f"report: {page}" if page.is_file() else None)


def show_study_folder(found: StudyFolder, *, as_json: bool = False) -> None:
    """What the study found, or how far it is and how to go on with it."""
    from lastresort.app.terminal import print_note, print_text

    if found.document is not None:
        show_study(found.document, found.page, as_json=as_json)
        return
    if as_json:
        raise found.unfinished()
    print_text(found.progress)
    if found.state == "stopped":
        print_note(found.how_to_go_on(Path.cwd()))
