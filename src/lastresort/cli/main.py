"""`lastresort`: the commands, and the border at which errors become one sentence and an exit code.

Importing this module loads no torch, so that `--help` answers at once; each command imports what it needs.
"""

from __future__ import annotations

import sys

import typer

from lastresort import __version__
from lastresort.cli import advise, chat, climb, data, env, export, gate, merge, plan, recheck, report, train

app = typer.Typer(
    name="lastresort",
    help="Should I fine-tune, how, and did it work? Climbs from prompting to fine-tuning on your own task, with evidence.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)


def _version(asked: bool) -> None:
    if asked:
        typer.echo(f"lastresort {__version__}")
        raise typer.Exit


@app.callback()
def root(
    version: bool = typer.Option(
        False, "--version", callback=_version, is_eager=True, help="Print the version and exit."
    ),
) -> None:
    """Should I fine-tune, how, and did it work? Climbs from prompting to fine-tuning on your own task, with evidence."""


app.command("climb", cls=climb.ClimbCommand)(climb.climb_command)
app.command("advise")(advise.advise_command)
app.command("plan")(plan.plan_command)
app.command("report")(report.report_command)
app.command("gate")(gate.gate_command)
app.command("recheck")(recheck.recheck_command)
app.command("chat")(chat.chat_command)
app.command("train")(train.train_command)
app.command("merge")(merge.merge_command)
app.command("export")(export.export_command)
app.command("env")(env.env_command)
app.add_typer(data.app, name="data")


def run() -> None:
    """Entry point of the console script."""
    from lastresort.cli.border import guarded

    sys.exit(guarded(app))
