"""`lastresort data check TASK`: a look at the data before anything is spent on it."""

from __future__ import annotations

from pathlib import Path

import typer
from typer import Argument, Option

from lastresort.app.terminal import print_document, print_text

data_app = typer.Typer(help="Check data before anything is spent on it.", no_args_is_help=True, rich_markup_mode=None)


@data_app.command("check")
def check_command(
    task: Path = Argument(help="The task file (task.yaml)."),
    rows: int = Option(0, "--show", min=0, help="Show the tokens and the training mask of this many rows."),
    as_json: bool = Option(False, "--json", help="Print the findings as one JSON document on stdout."),
) -> None:
    """Check a task's examples and preferences.

    Looks for duplicates, leaks, conflicts and lengths. Exit code 1: something must be fixed first.
    """
    from lastresort.app.data_check import check_task
    from lastresort.spec.task import load_task

    found = check_task(load_task(task), show=rows)
    if as_json:
        print_document(found.as_dict())
    else:
        print_text("\n".join(found.lines()))
    if not found.ok:
        raise typer.Exit(1)
