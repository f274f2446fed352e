"""The commands to begin with: `lastresort init FILE`, `lastresort demo [NAME]` and `lastresort advise [TASK]`.

`init` writes a task file from a data file of one's own. `demo` climbs an example that comes with the program, from any folder.
"""

from __future__ import annotations

import shlex
import sys
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import typer
from typer import Argument, Option

from lastresort.app.terminal import confirmed, print_document, print_note, print_text
from lastresort.cli.climb import climb_command
from lastresort.cli.options import GATE_MODES, TASK_SETTINGS, parse_settings, split_pair
from lastresort.errors import DataError, InputError

if TYPE_CHECKING:
    from lastresort.advice.columns import OpenColumns


def init_command(
    data: Path = typer.Argument(help="Labelled rows: .jsonl, .json, .csv, .tsv or .parquet.", metavar="FILE"),
    source: str | None = typer.Option(None, "--input", help="Column that holds the input.", metavar="COLUMN"),
    target: str | None = typer.Option(None, "--output", help="Column that holds the right answer.", metavar="COLUMN"),
    task: Path = typer.Option(Path("task.yaml"), "--task", help="The task file to write."),
    yes: bool = typer.Option(False, "--yes", help="Do not ask: take the most plausible column."),
    leave_out_empty: bool = typer.Option(
        False, "--leave-out-empty", help="Use a copy of FILE without the rows that lack an input or an answer."
    ),
    as_json: bool = typer.Option(False, "--json", help="Print what was drafted as one JSON document on stdout."),
) -> None:
    """Draft a task file from your data.

    Finds the columns, the kind of answer, a scorer, a split and a bar, writes them to a task file with the reason for each, and
    checks the data. Runs no model.
    """
    from lastresort.app.columns import only_plausible
    from lastresort.app.init import EmptyRowsError, InitRequest, init_task
    from lastresort.report.words.draft import rows_without

    def leaves_out(error: EmptyRowsError) -> bool:
        return confirmed(f"Leave out {rows_without(error.without_input, error.without_output)}?")

    asks = sys.stdin is not None and sys.stdin.isatty()
    ask = only_plausible(data) if yes else _asked if asks else None
    request = InitRequest(data, source, target, task, leave_out_empty=leave_out_empty)
    try:
        drafted = init_task(request, ask, None if yes else leaves_out)
    except EmptyRowsError as error:
        remedy = f"Fill them in, or leave out {rows_without(error.without_input, error.without_output)} with --leave-out-empty."
        raise DataError(error.found, where=error.where, expected=error.expected, remedy=remedy) from error
    if drafted.draft.columns is not None and not (source and target):
        print_note('input: column "{}"; output: column "{}"'.format(*drafted.draft.columns))
    if as_json:
        print_document(drafted.as_dict())
        return
    for path in drafted.files:
        print_note(f"wrote {path}")
    print_text(task.read_text("utf-8"))
    for line in drafted.lines():
        print_text(line)
    print_text(f"\nNext, read {task} and change what you know better. Then:")
    command = shlex.join(["lastresort", "climb", str(task)])
    print_text(f"  {command} --dry-run   # what each rung would take")
    print_text(f"  {command}")


def _asked(found: OpenColumns) -> str | None:
    """The column that a person names, by its number or its name; Enter takes the first."""
    from lastresort.report.words.draft import values_shown

    print_note(f"\nWhich column is the {found.side}?")
    for number, one in enumerate(found.candidates, start=1):
        print_note(f"  {number} {one.name}: {values_shown(one.samples, one.distinct)}")
    names = [one.name for one in found.candidates]
    while True:
        typed = read_line("[1] > ")
        if not typed:
            return None
        if typed in names:
            return typed
        if typed.isdecimal() and 1 <= int(typed) <= len(names):
            return names[int(typed) - 1]
        print_note(f"  Please answer with a number from 1 to {len(names)}, or a name.")


def demo_command(
    name: str = typer.Argument("harbour", help="Which example.", metavar="[NAME]"),
    gate: str = typer.Option("full", "--gate", metavar=GATE_MODES, help="How to check a tuned model; see climb."),
    run: Path | None = typer.Option(None, "--run", help="Folder of the run. Default: runs/<task>-<n>."),
    list_: bool = typer.Option(False, "--list", help="List the examples and where their files are. Runs nothing."),
) -> None:
    """Climb an example with the embedded model.

    The examples come with the program, so this runs from any folder. Their task files are a good starting point for your own.
    """
    from lastresort.app.examples import example_task, example_tasks

    if list_:
        for found, path in example_tasks().items():
            print_text(f"{found}: {path}")
        return
    task = example_task(name)
    print_note(f"example: {task}")
    resume = shlex.join(["lastresort", "climb", str(task), "--resume"])
    print_note(f"To resume it after a stop, or with other options: {resume}")
    climb_command(
        task, run=run, gate=gate, resume=False, until=None, compare=None, compare_seeds=3, dry_run=False, verbose=False,
        settings=[], as_json=False, more=None, ray=None, yes=False,
    )  # fmt: skip


def advise_command(
    task: Path | None = Argument(None, help="The task file (task.yaml). Optional with --fact or --ask."),
    ask: bool = Option(False, "--ask", help="Ask for unknown facts (default without TASK and --fact)."),
    facts: list[str] = Option(
        [], "--fact", metavar="NAME=VALUE", help="State a fact, such as wrong=format,style or best_prompt_score=0.8."
    ),
    settings: list[str] = TASK_SETTINGS,
    as_json: bool = Option(False, "--json", help="Print the advice as one JSON document on stdout."),
) -> None:
    """Advise by rules of thumb. Runs no model.

    Says whether to prompt, retrieve or fine-tune, and why, with the source of each rule.
    """
    from lastresort.app.advise import AdviceRequest, ask_in_turn, give_advice
    from lastresort.cli.border import show_document
    from lastresort.report.advice import advice_text

    stated = [split_pair(fact, "--fact", "NAME=VALUE", "wrong=format") for fact in facts]
    request = AdviceRequest(task, stated, parse_settings(settings))
    asks = ask or (task is None and not facts)
    if asks and not (sys.stdin is not None and sys.stdin.isatty()):
        raise InputError(
            "no terminal to ask on" if task else "neither a task file nor facts, and no terminal to ask on",
            expected="a terminal" if task else "TASK or --fact NAME=VALUE",
            remedy="State what you know with --fact, such as --fact wrong=format.",
        )
    ask_now = partial(ask_in_turn, read=read_line, say=print_note) if asks else None
    show_document(give_advice(request, ask_now).document, advice_text, as_json=as_json)


def read_line(prompt: str) -> str | None:
    """A line that was typed, None where the input ended."""
    print_note(prompt, end="")
    line = sys.stdin.readline()
    if not line:
        print_note()
    return line.strip() if line else None
