"""`lastresort demo [NAME]`: climb an example that comes with the program, from any folder."""

from __future__ import annotations

from pathlib import Path

import typer

from lastresort.cli.climb import climb_command
from lastresort.cli.terminal import print_note, print_text


def demo_command(
    name: str = typer.Argument("tickets", help="Which example.", metavar="[NAME]"),
    gate: str = typer.Option(
        "quick", "--gate", metavar="quick|full|none", help="How to check a tuned model; see climb."
    ),
    run: Path | None = typer.Option(None, "--run", help="Folder of the run. Default: runs/<task>-<n>."),
    list_: bool = typer.Option(False, "--list", help="List the examples and where their files are. Runs nothing."),
) -> None:
    """Climb an example with the embedded model.

    The examples come with the program, so this runs from any folder. Their task files are a good start for your own.
    """
    from lastresort.app.examples import example_task, example_tasks

    if list_:
        for found, path in example_tasks().items():
            print_text(f"{found}: {path}")
        return
    task = example_task(name)
    print_note(f"example: {task}")
    climb_command(task, run, False, None, gate, None, 3, False, [], False)
