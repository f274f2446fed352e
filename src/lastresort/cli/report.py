"""`lastresort report RUN`: draw the report again from the record."""

from __future__ import annotations

import json
from pathlib import Path

import typer


def report_command(
    run: Path = typer.Argument(help="The folder of a finished run."),
    as_markdown: bool = typer.Option(False, "--markdown", help="Print the report as Markdown on stdout."),
    as_json: bool = typer.Option(False, "--json", help="Print the decision as one JSON document on stdout."),
) -> None:
    """Print the ladder of a run and write its report.html anew."""
    from lastresort.report.decision import read_decision

    decision = read_decision(run)
    if as_json:
        print(json.dumps(decision, ensure_ascii=False, indent=2))
        return
    if as_markdown:
        from lastresort.report.markdown import markdown

        print(markdown(decision))
        return
    from rich.console import Console

    from lastresort.report.html import write_report
    from lastresort.report.terminal import ladder_table

    path = write_report(run)
    Console().print(ladder_table(decision))
    print(f"report: {path}")
