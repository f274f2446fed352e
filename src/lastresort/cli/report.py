"""`lastresort report RUN`: draw the report again from the record."""

from __future__ import annotations

from pathlib import Path

import typer

from lastresort.cli.document import print_document
from lastresort.cli.terminal import print_text


def report_command(
    run: Path = typer.Argument(help="The folder of a finished run."),
    as_markdown: bool = typer.Option(False, "--markdown", help="Print the report as Markdown on stdout."),
    as_json: bool = typer.Option(False, "--json", help="Print the decision as one JSON document on stdout."),
) -> None:
    """Print the ladder of a run and write its report.html anew."""
    from lastresort.errors import InputError
    from lastresort.report.decision import read_decision

    if as_json and as_markdown:
        raise InputError("--json and --markdown", expected="one form on stdout", remedy="Leave one of them out.")
    decision = read_decision(run)
    if as_json:
        print_document(decision)
        return
    if as_markdown:
        from lastresort.report.markdown import markdown

        print_text(markdown(decision))
        return
    from lastresort.cli.console import SafeConsole
    from lastresort.report.html import write_report
    from lastresort.report.terminal import ladder_table

    path = write_report(run)
    SafeConsole().print(ladder_table(decision))
    print_text(f"report: {path}")
