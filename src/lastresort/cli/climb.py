"""`lastresort climb TASK`, the main job."""

from __future__ import annotations

import re
from functools import partial
from pathlib import Path
from typing import Any, get_args

import typer
from typer import Argument, Option
from typer.core import TyperCommand

from lastresort.app.terminal import consent
from lastresort.cli.options import GATE_MODES, TASK_SETTINGS, TRAINING_RAY, names_a_task, parse_settings
from lastresort.types import WayName


class ClimbCommand(TyperCommand):
    """Takes `--resume RUN` for `--resume --run RUN`.

    The word after `--resume` is a run unless it is another option, or a file, which can only be the task.
    """

    def get_help(self, ctx: Any) -> str:
        """Typer gives a flag no metavar."""
        return re.sub(r"--resume {7}", "--resume [RUN] ", super().get_help(ctx))

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        return super().parse_args(ctx, _with_run(args))


def _with_run(arguments: list[str]) -> list[str]:
    words: list[str] = []
    for word in arguments:
        if word.startswith("--resume="):
            words += ["--resume", "--run", word.removeprefix("--resume=")]
        elif words and words[-1] == "--resume" and not (word.startswith("-") or names_a_task(word)):
            words += ["--run", word]
        else:
            words.append(word)
    if sum(word == "--run" or word.startswith("--run=") for word in words) > 1:
        raise typer.BadParameter("name the run once, after --resume or after --run")
    return words


def climb_command(
    task: Path = Argument(help="The task file (task.yaml)."),
    run: Path | None = Option(None, "--run", help="Folder of the run. Default: runs/<task>-<n>."),
    resume: bool = Option(
        False, "--resume", help="Resume this run. Default: the task's newest unfinished run whose start did not fail."
    ),
    until: str | None = Option(
        None,
        "--until",
        metavar="RUNG",
        help="Last rung to try. Default: the top of the ladder, or what the resumed run was started with.",
    ),
    gate: str | None = Option(
        None,
        "--gate",
        metavar=GATE_MODES,
        help="How to check a tuned model before it can win. quick: at most 1,024 compared items of each suite (hours on a slow "
        "machine). full: as many as a verdict needs. none: no check. Default: full, or what the resumed run was started with.",
    ),
    compare: str | None = Option(
        None,
        "--compare",
        metavar="WAY,WAY",
        help="After the verdict, train the SFT winner in several ways and compare them on the test set. Two or more of "
        f"{', '.join(get_args(WayName))}; the first is the baseline. none: stop comparing. Default: what the resumed "
        "run started with.",
    ),
    compare_seeds: int = Option(3, "--compare-seeds", help="Seeds to train each method with."),
    more: Path | None = Option(
        None,
        "--more",
        metavar="FILE",
        help="With --resume: fresh items to continue the tests that ended UNDECIDED. Rows like the task's data, none of which "
        "the run has seen.",
    ),
    ray: str | None = TRAINING_RAY,
    dry_run: bool = Option(False, "--dry-run", help="Forecast what each rung would do and cost. Runs nothing."),
    yes: bool = Option(
        False,
        "--yes",
        help="Do not ask. Default: at a terminal, ask before a rung forecast to take more than an hour (without limits.hours) "
        "or $5 (without limits.usd), and if SFT does not point at the bar after its first third. Without an answer in 10 "
        "minutes, the climb continues.",
    ),
    verbose: bool = Option(False, "--verbose", help="With --dry-run: also show how each figure is computed."),
    settings: list[str] = TASK_SETTINGS,
    as_json: bool = Option(False, "--json", help="Print the decision as one JSON document on stdout."),
) -> None:
    """Find the cheapest rung that meets the bar.

    Climbs the ladder of a task: each rung is measured on held-out examples, and the climb stops at the first that meets the bar.
    """
    from lastresort.app.console import progress
    from lastresort.app.runs import resume_command_here, took_less_here
    from lastresort.app.start import ClimbRequest, forecast_climb, start_climb
    from lastresort.cli.border import show_document, stoppable
    from lastresort.report.forecast import forecast_table
    from lastresort.report.terminal import ladder_table
    from lastresort.report.words.answer import how_to_use
    from lastresort.report.words.next_step import next_step

    request = ClimbRequest(task, parse_settings(settings), run, resume, until, gate, compare, compare_seeds, more, ray)
    if dry_run:
        with progress() as shown:
            forecast = forecast_climb(request, shown)
        show_document(forecast, partial(forecast_table, verbose=verbose), as_json=as_json)
        return
    with stoppable() as (shown, stop):
        climbed = start_climb(request, shown, stop, consent(yes=yes))
    said = next_step(climbed.decision, resume_command_here(climbed.run, Path.cwd()))
    lines = [took_less_here(climbed.run), said, f"report: {climbed.report}", *how_to_use(climbed.decision, climbed.run)]
    show_document(climbed.decision, ladder_table, as_json=as_json, last_line="\n".join(filter(None, lines)))
