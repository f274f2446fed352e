"""`lastresort gate TASK --base M --tuned A`, or `--from-logs BASE TUNED`: is the tuned model better, and did nothing else break?"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import typer

from lastresort.cli.document import print_document, refuse_unwritable
from lastresort.cli.terminal import print_text

GATES, RUNS = Path("gates"), Path("runs")


def gate_command(
    task: Path | None = typer.Argument(None, help="The task file (task.yaml). With --from-logs only for its margins."),
    tuned: str | None = typer.Option(
        None,
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
    from_logs: tuple[Path, Path] | None = typer.Option(
        None,
        "--from-logs",
        metavar="BASE TUNED",
        help="In place of models: sample logs of lm-eval, or logs of Inspect, of base and tuned; a file or a folder each.",
    ),
    margin: list[str] = typer.Option(
        [],
        "--margin",
        metavar="NAME=SHARE",
        help="With --from-logs: the largest loss that is accepted, of one measure or (without NAME=) of all. Default: 0.03.",
    ),
    junit: Path | None = typer.Option(None, "--junit", help="Also write the findings as JUnit XML to this file."),
    markdown: Path | None = typer.Option(None, "--markdown", help="Also write them as Markdown, for a pull request."),
    out: Path | None = typer.Option(None, "--out", help="Folder of gate.json. Default: gates/<task>-<n>."),
    as_json: bool = typer.Option(False, "--json", help="Print the findings as one JSON document on stdout."),
) -> None:
    """Compare a tuned model with its base: on the task, and on what else the base can do. Exit code 1 where it is rejected.

    The same command given again goes on with a gate that was cut off; what the base said is kept for later gates.
    """
    for option, path in (("--junit", junit), ("--markdown", markdown)):
        refuse_unwritable(option, path)
    if from_logs is not None:
        _refuse_beside_logs(tuned, base, quick, seed)
        found, folder = _of_logs(from_logs, task, margin, out)
    else:
        found, folder = _of_models(task, tuned, base, quick, seed, margin, out)
    try:
        _print(found, folder, as_json)
    finally:  # also where nobody reads on
        _write(found, junit, markdown)
    if found["verdict"] == "REJECT":
        raise typer.Exit(1)


def _print(found: dict[str, Any], folder: Path, as_json: bool) -> None:
    if as_json:
        print_document(found)
        return
    from lastresort.cli.console import SafeConsole
    from lastresort.report.gate import FILE_NAME, gate_text

    SafeConsole().print(gate_text(found))
    print_text(f"written: {folder / FILE_NAME}")


def _of_models(
    task: Path | None, tuned: str | None, base: str | None, quick: bool, seed: int, margin: list[str], out: Path | None
) -> tuple[dict[str, Any], Path]:
    from lastresort.cli.progress import progress
    from lastresort.errors import InputError
    from lastresort.gate.command import Question, gate_alone
    from lastresort.spec.task import load_task

    if task is None or tuned is None:
        raise InputError(
            f"found no {'task file' if task is None else 'tuned model'}",
            expected="a task file and a tuned model, or the logs of two models",
            remedy="Write lastresort gate TASK --tuned A, or lastresort gate --from-logs BASE TUNED.",
        )
    if margin:
        raise InputError(
            "found --margin without --from-logs",
            expected="the margins in the task file",
            remedy="Set keep: {general: 0.03} there.",
        )
    question = Question(load_task(task), tuned, base, quick, seed)
    with progress() as shown:
        return gate_alone(question, workspace=RUNS, gates=GATES, out=out, progress=shown)


def _of_logs(
    logs: tuple[Path, Path], task: Path | None, margin: list[str], out: Path | None
) -> tuple[dict[str, Any], Path]:
    from lastresort.gate.from_logs import LogQuestion, gate_logs, read_margins
    from lastresort.spec.task import load_task

    question = LogQuestion(*logs, None if task is None else load_task(task), read_margins(margin))
    return gate_logs(question, gates=GATES, out=out)


def _refuse_beside_logs(tuned: str | None, base: str | None, quick: bool, seed: int) -> None:
    """Nothing is asked where logs are compared."""
    from lastresort.errors import InputError

    told = {"--tuned": tuned is not None, "--base": base is not None, "--quick": quick, "--seed": seed != 0}
    for name, there in told.items():
        if there:
            raise InputError(
                f"found {name} beside --from-logs",
                expected="one of the two: models to be asked, or what they said before",
                remedy=f"Leave out {name}.",
            )


def _write(found: dict[str, Any], junit: Path | None, markdown: Path | None) -> None:
    from lastresort.records.atomic import write_atomically
    from lastresort.report.gate_files import gate_junit, gate_markdown

    if junit is not None:
        write_atomically(junit, gate_junit(found))
    if markdown is not None:
        write_atomically(markdown, gate_markdown(found))
