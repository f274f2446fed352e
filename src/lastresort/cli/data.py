"""`lastresort data`: look at data before anything is spent on it."""

from __future__ import annotations

from pathlib import Path

import typer

from lastresort.cli.document import print_document
from lastresort.cli.terminal import print_text

app = typer.Typer(help="Look at data before anything is spent on it.", no_args_is_help=True, rich_markup_mode=None)


@app.callback()
def root() -> None:
    """Look at data before anything is spent on it."""


@app.command("check")
def check_command(
    task: Path = typer.Argument(help="The task file (task.yaml)."),
    rows: int = typer.Option(0, "--show", min=0, help="Show tokens and training mask of this many rows."),
    as_json: bool = typer.Option(False, "--json", help="Print the findings as one JSON document on stdout."),
) -> None:
    """Check a task's examples and preferences: duplicates, leaks, conflicts, lengths. Exit 1 where something must be mended."""
    from lastresort.app.data_check import check_task
    from lastresort.spec.task import load_task

    found = check_task(load_task(task), show=rows)
    if as_json:
        print_document(found.as_dict())
    else:
        print_text("\n".join(found.lines()))
    if found.must_mend:
        raise typer.Exit(1)
