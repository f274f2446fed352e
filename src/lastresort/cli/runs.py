"""`lastresort report RUN` and `lastresort export RUN --to X`: what a run found, and its training as another framework's files."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

from typer import Argument, Option

from lastresort.app.terminal import print_document, print_note, print_text
from lastresort.errors import InputError
from lastresort.interop.exporting import TARGETS
from lastresort.ladder import trained_rungs


def report_command(
    run: Path = Argument(help="Folder of a run, finished or not."),
    as_markdown: bool = Option(False, "--markdown", help="Print the report as Markdown on stdout."),
    as_json: bool = Option(False, "--json", help="Print the decision as one JSON document on stdout."),
) -> None:
    """Print a run's ladder and redraw its report."""
    from lastresort.app.runs import Run
    from lastresort.cli.console import show_document
    from lastresort.report.markdown import markdown
    from lastresort.report.terminal import ladder_table

    if as_json and as_markdown:
        raise InputError("--json and --markdown", expected="one form on stdout", remedy="Leave one of them out.")
    found = Run(run)
    if as_markdown:
        print_text(markdown(found.view))
        return
    path = found.report if as_json else found.write_report()
    show_document(found.view, ladder_table, as_json=as_json, last_line=f"report: {path}")


def export_command(
    run: Path = Argument(help="Folder of a climb or a training, or a training file of any framework it reads."),
    to: str = Option(..., "--to", metavar="|".join(TARGETS), help="Target framework."),
    out: Path | None = Option(None, "--out", help="Folder to write. Default: export-TO in or next to RUN."),
    rung: str | None = Option(
        None, "--rung", metavar="|".join(trained_rungs()), help="Rung of a climb. Default: the winner's."
    ),
    base: str | None = Option(None, "--base", help="Name of the base model there: a hub id or a folder."),
    with_base: bool = Option(False, "--with-base", help="Copy the base model into the folder."),
    gpu: str | None = Option(
        None, "--gpu", help="With --to skypilot: the GPU to rent. Default: the cheapest that fits."
    ),
    as_json: bool = Option(False, "--json", help="Print what was written as one JSON document on stdout."),
) -> None:
    """Export a training to another framework.

    Writes its configuration, the rows, and the commands to run it.

    Notes on stderr and in the files name everything that framework cannot express or does differently.
    """
    from lastresort.app.runs import ExportRequest, export_training
    from lastresort.interop.exporting.job import counted

    written = export_training(ExportRequest(run, to, out, rung, base, with_base, gpu))
    for note in written.notes:
        print_note(note)
    if as_json:
        print_document({"schema": 1, **asdict(written), "folder": str(written.folder)})
        return
    for line in written.told:
        print_text(line)
    rows = counted(written.rows) + (f", {written.held_out} held out" if written.held_out else "")
    print_text(f"written: {written.folder} ({', '.join(written.files)}; {rows})")
    print_text("\n".join(f"run: {command}" for command in written.commands))
