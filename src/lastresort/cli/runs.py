"""The commands on a run: `lastresort report`, `export`, `handoff`, `watch` and `chat RUN`.

What it found, its training as another framework's files, its winner for another server, its ladder as it comes about, and a talk
with the system that won.
"""

from __future__ import annotations

import sys
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from typer import Argument, Option

from lastresort.app.terminal import confirmed, lines_typed, print_answer, print_document, print_note, print_text
from lastresort.errors import InputError
from lastresort.handoff import TARGETS as SERVERS
from lastresort.interop.exporting import TARGETS
from lastresort.ladder import trained_rungs

if TYPE_CHECKING:
    from lastresort.records.decision import RunView


def report_command(
    run: Path = Argument(help="Folder of a run or a study, finished or not."),
    as_markdown: bool = Option(False, "--markdown", help="Print the report as Markdown on stdout."),
    as_json: bool = Option(False, "--json", help="Print the decision as one JSON document on stdout."),
    salvage: bool = Option(False, "--salvage", help="Print what is intact in a damaged run. Writes nothing."),
) -> None:
    """Print what a run or a study found, and redraw its report."""
    from lastresort.app.console import paragraph
    from lastresort.app.runs import Run, changed_inputs, resume_command_here, took_less_here
    from lastresort.app.study_folder import redraw, study_in
    from lastresort.app.watch import follow
    from lastresort.cli.border import show_document
    from lastresort.cli.study import show_study_folder
    from lastresort.report.html import redrawn
    from lastresort.report.terminal import ladder_table
    from lastresort.report.words.next_step import how_to_resume, next_step

    forms = {"--json": as_json, "--markdown": as_markdown, "--salvage": salvage}
    if len(given := [name for name, wanted in forms.items() if wanted]) > 1:
        raise InputError(" and ".join(given), expected="one form on stdout", remedy="Leave one of them out.")
    if salvage:
        _print_salvaged(run)
        return
    if (study := study_in(run)) is not None:
        if as_markdown:
            raise InputError("--markdown for a study", where=str(run), expected="--json", remedy="Leave it out.")
        if not as_json and (unwritten := redraw(study)):
            print_note(unwritten)
        show_study_folder(study, as_json=as_json)
        return
    found = Run(run)
    view, unwritten = (found.view, "") if as_json or as_markdown else redrawn(run)
    if unwritten:
        print_note(unwritten)
    if changed := changed_inputs(run):
        print_note(f"Changed since the run, which used them as they were: {', '.join(changed)}.")
    if as_markdown:
        _print_markdown(run, view)
        return
    resume = resume_command_here(run, Path.cwd())
    drawn = f"report: {found.report}" if found.report.is_file() else None
    lines = [took_less_here(run), paragraph(next_step(view, resume)), drawn]
    show_document(view, ladder_table, as_json=as_json, last_line="\n".join(filter(None, lines)) or None)
    if (last := next(follow(run))).state == "stopped":
        print_note(how_to_resume(last.stopped, resume, started=True))


def _print_markdown(run: Path, view: RunView) -> None:
    """Into a pull request, say: it names no folder and no host of this machine."""
    from lastresort.records.record import Record
    from lastresort.report.commands import resume_command
    from lastresort.report.markdown import markdown

    with Record.open(run, read_only=True) as record:
        resume = resume_command(record)
    print_text(markdown(view, resume.text, resume.stand_ins))


def _print_salvaged(run: Path) -> None:
    from lastresort.app.console import SafeConsole
    from lastresort.records.salvage import salvage
    from lastresort.report.terminal import salvaged_text

    SafeConsole(file=sys.stdout).print(salvaged_text(salvage(run)))


def export_command(
    run: Path = Argument(help="Folder of a climb or a training run, or a training file of any supported framework."),
    to: str | None = Option(None, "--to", metavar="|".join(TARGETS), help="Target framework. Required."),
    out: Path | None = Option(None, "--out", help="Folder to write. Default: export-TO in or next to RUN."),
    rung: str | None = Option(
        None, "--rung", metavar="|".join(trained_rungs()), help="Rung of a climb. Default: the winner's."
    ),
    base: str | None = Option(None, "--base", help="Name of the base model there: a hub id or a folder."),
    with_base: bool = Option(False, "--with-base", help="Copy the base model into the folder."),
    gpu: str | None = Option(
        None, "--gpu", help="With --to skypilot: the GPU to rent. Default: the cheapest that fits."
    ),
    task: Path | None = Option(None, "--task", help="The climb's task file, if it was moved."),
    as_json: bool = Option(False, "--json", help="Print what was written as one JSON document on stdout."),
) -> None:
    """Export a training run to another framework.

    Writes its configuration, the rows, and the commands to run it.

    Notes on stderr and in the files name everything that the framework cannot express or does differently.
    """
    from lastresort.app.runs import export_training
    from lastresort.interop.exporting.job import counted

    written = export_training(run, to, out=out, rung=rung, base=base, with_base=with_base, gpu=gpu, task=task)
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


def handoff_command(
    run: Path = Argument(help="Folder of a finished run or of a saved system."),
    to: str | None = Option(None, "--to", metavar="|".join(SERVERS), help="Target server. Required."),
    merged: bool = Option(False, "--merged", help="Write base and adapter as one model."),
    out: Path | None = Option(
        None, "--out", help="Folder to write. Default: handoff-TO in RUN, or FOLDER-handoff-TO next to a saved system."
    ),
    name: str | None = Option(None, "--name", help="Name to serve the model under. Default: the run's folder."),
    port: int | None = Option(None, "--port", min=1, max=65535, help="Port of the server. Default: its usual one."),
    allow_held: bool = Option(False, "--allow-held", help="Also hand over a winner that the gate holds back."),
    as_json: bool = Option(False, "--json", help="Print what was written as one JSON document on stdout."),
) -> None:
    """Hand the winner over to another server.

    Writes the model, the command that starts the server, and the request that a client must send.
    """
    from lastresort.app.runs import hand_over

    found = hand_over(run, to, merged=merged, out=out, name=name, allow_held=allow_held, port=port)
    typed = found.commands(folder=found.folder)
    if as_json:
        paths = {"folder": str(found.folder.absolute()), "run": None if found.run is None else str(found.run)}
        written = {**asdict(found), **paths}
        print_document({"schema": 1, **written, "commands": asdict(typed)})
        return
    for note in filter(None, (found.form, *found.notes)):
        print_note(note)
    print_text(f"written: {found.folder} ({', '.join(found.files)})")
    print_text(f"start: {typed.start} ({found.needs})")
    if typed.proxy is not None:
        print_text(f"proxy: {typed.proxy}")
    print_text(f"ask: {typed.ask} ({found.client_url}, model {found.client_model})")
    if typed.verify is not None:
        print_text(f"verify: {typed.verify}")


def watch_command(run: Path = Argument(help="Folder of a run or a study: running, stopped or finished.")) -> None:
    """Follow a run and show its ladder as it grows, or follow a study. Interrupting it does not stop the run."""
    from lastresort.app.console import paragraph, shown_as_lines, shown_live
    from lastresort.app.watch import follow

    snapshots = follow(run)
    last = shown_live(snapshots) if sys.stdout.isatty() else shown_as_lines(snapshots)
    if last is None:
        return
    from lastresort.app.runs import resume_command_here
    from lastresort.app.study_folder import study_in
    from lastresort.cli.study import show_study_folder
    from lastresort.report.words.next_step import how_to_resume, next_step

    if (study := study_in(run)) is not None:
        show_study_folder(study)
        return
    resume = resume_command_here(run, Path.cwd())
    if last.state == "stopped":
        print_note(how_to_resume(last.stopped, resume, started=last.view is not None))
    elif last.view is not None and (said := paragraph(next_step(last.view, resume))):
        print_text(said)


def chat_command(
    run: Path = Argument(help="Folder of a finished run or of a saved system."),
    once: str | None = Option(None, "--once", help="Answer this one input and exit."),
    allow_held: bool = Option(False, "--allow-held", help="Also open a winner that the gate holds back."),
) -> None:
    """Chat with the winner of a run.

    It answers as it was measured. In bfloat16 and float16 rounding depends on the batch, so a near-tie answer can differ.
    """
    from lastresort.app.runs import answer_form
    from lastresort.systems.running import open_system, winner_status

    if once is not None and not once.strip():
        raise InputError("found no text", where="--once", expected="an input to answer", remedy="Write one.")
    running, form = open_system(run, allow_held=allow_held, approve=confirmed), answer_form(run)
    for note in winner_status(run).notes:
        print_note(note)
    if once is not None:
        print_answer(running, once, form)
        return
    interactive = sys.stdin.isatty()
    if interactive:
        print_note(f"{running.system.name} on {running.system.model}. An empty line or Ctrl-D quits.")
    for text in lines_typed(interactive=interactive):
        print_answer(running, text, form)
