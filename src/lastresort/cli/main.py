"""`lastresort`: the commands. Importing this module loads no torch, so that `--help` answers at once."""

from __future__ import annotations

import sys
from typing import Any

import typer
from typer import Option
from typer.core import TyperGroup

from lastresort.app.train import refuse_several_processes
from lastresort.cli import climb, data, gate, plan, runs, serve, start, study, train
from lastresort.version import __version__

MEANT = {"check": "data check TASK", "runs": "ui"}  # by the word that people try


class CommandGroup(TyperGroup):
    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        """Before the library looks for a command of a similar name."""
        if args and args[0] in MEANT:
            ctx.fail(f"there is no command {args[0]}. Did you mean `lastresort {MEANT[args[0]]}`?")
        return super().resolve_command(ctx, args)


app = typer.Typer(
    name="lastresort",
    cls=CommandGroup,
    help="Should I fine-tune, how, and did it work? Climbs from prompting to fine-tuning on your own task, with evidence.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"lastresort {__version__}")
        raise typer.Exit


@app.callback()
def root(
    context: typer.Context,
    version: bool = Option(False, "--version", callback=_version, is_eager=True, help="Print the version."),
) -> None:
    """Shown by `lastresort --help`."""
    refuse_several_processes(str(context.invoked_subcommand))


app.command("demo")(start.demo_command)
app.command("init")(start.init_command)
app.command("climb", cls=climb.ClimbCommand)(climb.climb_command)
app.command("advise")(start.advise_command)
app.command("plan")(plan.plan_command)
app.command("watch")(runs.watch_command)
app.command("report")(runs.report_command)
app.command("gate")(gate.gate_command)
app.command("recheck")(gate.recheck_command)
app.command("verify")(gate.verify_command)
app.command("chat")(runs.chat_command)
app.command("serve")(serve.serve_command)
app.command("ui")(serve.ui_command)
app.command("train")(train.train_command)
app.command("merge")(train.merge_command)
app.command("export")(runs.export_command)
app.command("handoff")(runs.handoff_command)
app.command("env")(plan.env_command)
app.add_typer(data.data_app, name="data")
app.add_typer(study.study_app, name="study")


def run() -> None:
    """Entry point of the console script."""
    from lastresort.app.runtime import end_soon_after_a_signal, leave_at_once
    from lastresort.cli.border import INTERRUPTED, guarded, last_words, stopping
    from lastresort.errors import StoppedError

    end_soon_after_a_signal(last_words, stopping)
    code = guarded(app)
    if code in (INTERRUPTED, StoppedError.exit_code):
        leave_at_once(code)
    sys.exit(code)
