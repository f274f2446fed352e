"""`lastresort climb TASK`: the main job."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, get_args

import typer
from typer.core import TyperCommand

from lastresort.cli.choice import one_of
from lastresort.cli.document import print_document
from lastresort.cli.terminal import print_text

if TYPE_CHECKING:
    from lastresort.after.compare.names import Asked
    from lastresort.spec.task import Task


RUNS = Path("runs")
Gate = Literal["quick", "full", "none"]
GATES: tuple[Gate, ...] = get_args(Gate)


class ClimbCommand(TyperCommand):
    """Knows that `--resume` may be followed by a run: `--resume RUN` is `--resume --run RUN`.

    The word after it is a run unless it is another option or a file, which can only be the task.
    """

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


def names_a_task(word: str) -> bool:
    """Whether a word of the command line can only be a task file."""
    return Path(word).is_file() or Path(word).suffix in (".yaml", ".yml")


def climb_command(
    task: Path = typer.Argument(help="The task file (task.yaml)."),
    run: Path | None = typer.Option(
        None, "--run", help="Folder of the run. Default: runs/<task>-<n>, the next free n."
    ),
    resume: bool = typer.Option(
        False,
        "--resume",
        help="Go on with a run: --resume RUN, or without RUN the newest unfinished run of this task.",
    ),
    until: str | None = typer.Option(None, "--until", help="The last rung to try."),
    gate: str | None = typer.Option(
        None,
        "--gate",
        metavar="quick|full|none",
        help="What a tuned system is asked before it wins: is it better, and did nothing else break? quick: a bounded number of "
        "items, within minutes. full: as many as it takes to tell. none: nothing, and the decision says so. Default: full; of a "
        "run that is resumed, what it was begun with.",
    ),
    compare: str | None = typer.Option(
        None,
        "--compare",
        metavar="WAY,WAY",
        help="Train the winner of sft in several ways and compare them on the test set, after the verdict: two or more of lora, "
        "qlora, full, merged, nf4, the first being the reference. none: no longer. Default: of a run that is resumed, what it "
        "was asked before.",
    ),
    compare_seeds: int = typer.Option(3, "--compare-seeds", help="With how many seeds each way is trained."),
    dry_run: bool = typer.Option(False, "--dry-run", help="Say what would be done and what it would cost; do nothing."),
    settings: list[str] = typer.Option(
        [], "--set", help="Override a key of the task file: --set split.seed=3.", metavar="KEY=VALUE"
    ),
    as_json: bool = typer.Option(False, "--json", help="Print the decision as one JSON document on stdout."),
) -> None:
    """Climb the ladder of a task and stop at the cheapest rung that meets its bar."""
    from lastresort.after.compare.names import Asked, parse_asked
    from lastresort.cli.settings import parse_settings
    from lastresort.spec.task import load_task

    loaded = load_task(task, parse_settings(settings))
    gated = None if gate is None else one_of("--gate", gate, GATES)
    asked = None if compare is None else parse_asked(compare, compare_seeds)
    if dry_run:
        _print_forecast(loaded, until, asked, gated, as_json)
        return
    from lastresort.after.compare.names import refuse_what_cannot_be_had
    from lastresort.app.climb import climb
    from lastresort.cli.progress import progress
    from lastresort.climb.loop import rules_of
    from lastresort.climb.prepare import prepare
    from lastresort.climb.workspace import withdrawn_if_refused

    prepared = prepare(loaded)  # with the next three: refuse bad input before a folder is made
    rules_of(loaded, until)
    refuse_what_cannot_be_had(asked or Asked(), prepared, until)
    _check_models(loaded)
    made_here = not resume and (run is None or not run.exists())
    folder = _folder(loaded.task, run, resume)
    with withdrawn_if_refused(folder, made_here=made_here), progress() as shown:
        shown.say(f"run: {folder}")
        climbed = climb(prepared, folder, until=until, gate=gated, compare=asked, progress=shown)
    if as_json:
        print_document(climbed.decision)
        return
    from lastresort.cli.console import SafeConsole
    from lastresort.report.terminal import ladder_table

    SafeConsole().print(ladder_table(climbed.decision))
    print_text(f"report: {climbed.report}")


def _check_models(task: Task) -> None:
    """Refuse a model that leads nowhere, at the cost of reading a script at most; no weights are read."""
    from lastresort.embedded import embedded_gguf
    from lastresort.models.open import EMBEDDED, local_folder, open_model
    from lastresort.models.protocol import is_endpoint
    from lastresort.rungs.supervised.training import tuned_model

    judges = [task.score.parameters["model"]] if task.score.name == "judge" else []
    judges += [term.parameters["model"] for term in task.reward if term.name == "judge"]
    for name in dict.fromkeys([task.model, tuned_model(task), *judges]):
        if is_endpoint(name):
            kwargs = task.chat_template_kwargs if name == task.model else None
            open_model(name, base_folder=task.folder, template_kwargs=kwargs)
        elif name == EMBEDDED:
            embedded_gguf()
        else:
            local_folder(name, task.folder)


def _folder(name: str, run: Path | None, resume: bool) -> Path:
    from lastresort.climb.workspace import new_run, newest_unfinished
    from lastresort.errors import InputError

    if run is None:
        return newest_unfinished(RUNS, name) if resume else new_run(RUNS, name)
    if run.exists() and not run.is_dir():
        raise InputError("found a file", where=str(run), expected="the folder of a run", remedy="Name a folder.")
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


def _print_forecast(task: Task, until: str | None, asked: Asked | None, gate: Gate | None, as_json: bool) -> None:
    from lastresort.app.dry_run import dry_run
    from lastresort.cli.progress import progress
    from lastresort.report.terminal import forecast_table

    with progress() as shown:
        found = dry_run(task, until, asked, gate, shown)
    if as_json:
        print_document(found)
        return
    from lastresort.cli.console import SafeConsole

    SafeConsole(file=sys.stdout).print(forecast_table(found))
