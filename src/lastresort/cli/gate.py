"""`lastresort gate TASK --base M --tuned A`: is the tuned model better, and did nothing else break?"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import typer

from lastresort.cli.document import print_document

GATES, RUNS = Path("gates"), Path("runs")


def gate_command(
    task: Path = typer.Argument(help="The task file (task.yaml)."),
    tuned: str = typer.Option(
        ...,
        "--tuned",
        help="The tuned model: a PEFT adapter's folder, a model's folder or name, or the winner/ of a run.",
    ),
    base: str | None = typer.Option(
        None, "--base", help="The model that it was tuned from. Default: the one that the task may train."
    ),
    quick: bool = typer.Option(
        False, "--quick", help="Ask a bounded number of items, which can cost power and nothing else."
    ),
    seed: int = typer.Option(0, "--seed", min=0, help="Of the items: another one draws fresh items."),
    junit: Path | None = typer.Option(None, "--junit", help="Also write the findings as JUnit XML to this file."),
    markdown: Path | None = typer.Option(None, "--markdown", help="Also write them as Markdown, for a pull request."),
    out: Path | None = typer.Option(None, "--out", help="Folder of gate.json. Default: gates/<task>-<n>."),
    as_json: bool = typer.Option(False, "--json", help="Print the findings as one JSON document on stdout."),
) -> None:
    """Compare a tuned model with its base: on the task, and on what else the base can do. Exit code 1 where it is rejected.

    The same command given again goes on with a gate that was cut off; what the base said is kept for later gates.
    """
    from lastresort.cli.progress import progress
    from lastresort.ladder.gate.command import Question, gate_alone
    from lastresort.spec.task import load_task

    question = Question(load_task(task), tuned, base, quick, seed)
    with progress() as shown:
        found, folder = gate_alone(question, workspace=RUNS, gates=GATES, out=out, progress=shown)
    _write(found, junit, markdown)
    if as_json:
        print_document(found)
    else:
        from rich.console import Console

        from lastresort.report.gate import FILE_NAME, gate_text

        Console().print(gate_text(found))
        print(f"written: {folder / FILE_NAME}")
    if found["verdict"] == "REJECT":
        raise typer.Exit(1)


def _write(found: dict[str, Any], junit: Path | None, markdown: Path | None) -> None:
    from lastresort.records.atomic import write_atomically
    from lastresort.report.gate_junit import gate_junit
    from lastresort.report.gate_markdown import gate_markdown

    if junit is not None:
        write_atomically(junit, gate_junit(found))
    if markdown is not None:
        write_atomically(markdown, gate_markdown(found))
