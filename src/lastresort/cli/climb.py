"""`lastresort climb TASK`: the main job."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import typer

RUNS = Path("runs")


def climb_command(
    task: Path = typer.Argument(help="The task file (task.yaml)."),
    run: Path | None = typer.Option(
        None, "--run", help="Folder of the run. Default: runs/<task>-<n>, the next free n."
    ),
    resume: bool = typer.Option(
        False, "--resume", help="Go on with --run, or with the newest unfinished run of this task."
    ),
    until: str | None = typer.Option(None, "--until", help="The last rung to try."),
    dry_run: bool = typer.Option(False, "--dry-run", help="Say what would be done and what it would cost; do nothing."),
    settings: list[str] = typer.Option(
        [], "--set", help="Override a key of the task file: --set split.seed=3.", metavar="KEY=VALUE"
    ),
    as_json: bool = typer.Option(False, "--json", help="Print the decision as one JSON document on stdout."),
) -> None:
    """Climb the ladder of a task and stop at the cheapest rung that meets its bar."""
    from lastresort.cli.settings import parse_settings
    from lastresort.spec.task import load_task

    loaded = load_task(task, parse_settings(settings))
    if dry_run:
        _print_forecast(loaded, until, as_json)
        return
    from lastresort.cli.progress import progress
    from lastresort.ladder.climb import climb
    from lastresort.ladder.prepare import prepare

    prepare(loaded)  # refuse bad input before a folder is made
    folder = _folder(loaded.task, run, resume)
    with progress() as shown:
        shown.say(f"run: {folder}")
        climbed = climb(loaded, folder, until=until, progress=shown)
    if as_json:
        print(json.dumps(climbed.decision, ensure_ascii=False, indent=2))
        return
    from rich.console import Console

    from lastresort.report.terminal import ladder_table

    Console().print(ladder_table(climbed.decision))
    print(f"report: {climbed.report}")


def _folder(name: str, run: Path | None, resume: bool) -> Path:
    from lastresort.errors import InputError
    from lastresort.ladder.workspace import new_run, newest_unfinished

    if run is None:
        return newest_unfinished(RUNS, name) if resume else new_run(RUNS, name)
    if resume and not (run / "record.sqlite").is_file():
        raise InputError(
            "no record.sqlite there",
            where=str(run),
            expected="a run to resume",
            remedy="Leave --resume out to start one.",
        )
    if not resume and run.exists() and any(run.iterdir()):
        raise InputError(
            "the folder is not empty",
            where=str(run),
            expected="a new folder",
            remedy="Add --resume to go on, or name another.",
        )
    return run


def _print_forecast(task: Any, until: str | None, as_json: bool) -> None:
    from lastresort.ladder.dry_run import dry_run
    from lastresort.report.forecast import forecast_table

    found = dry_run(task, until)
    if as_json:
        print(json.dumps(found, ensure_ascii=False, indent=2))
        return
    from rich.console import Console

    Console(file=sys.stdout).print(forecast_table(found))
