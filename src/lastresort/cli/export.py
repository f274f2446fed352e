"""`lastresort export RUN --to X`: a training that ran here, as another framework's files."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from lastresort.cli.document import print_document
from lastresort.cli.terminal import print_note, print_text

if TYPE_CHECKING:
    from lastresort.interop.exporting.export import Exported
    from lastresort.interop.exporting.job import Exportable


def export_command(
    run: Path = typer.Argument(
        help="The folder of a climb, the output folder of `lastresort train`, or a training file (also Axolotl's, LLaMA-Factory's)."
    ),
    to: str = typer.Option(
        ..., "--to", metavar="axolotl|llamafactory|trl|unsloth|skypilot", help="The framework to write for."
    ),
    out: Path | None = typer.Option(None, "--out", help="The folder to write. Default: RUN/export-TO, beside a file."),
    rung: str | None = typer.Option(
        None, "--rung", metavar="sft|preference|full", help="Of a climb: whose training. Default: the winner's."
    ),
    base: str | None = typer.Option(None, "--base", help="What the base model is called there: a hub id or a folder."),
    with_base: bool = typer.Option(False, "--with-base", help="Copy the base model into the folder."),
    gpu: str | None = typer.Option(
        None, "--gpu", help="With --to skypilot: the card to rent. Default: the cheapest that `lastresort plan` finds."
    ),
    as_json: bool = typer.Option(False, "--json", help="Print what was written as one JSON document on stdout."),
) -> None:
    """Write a training as another framework's configuration, with its rows as they were trained and the commands to run it.

    What that framework cannot be told, or takes otherwise, is named on stderr and in the files.
    """
    from lastresort.errors import InputError
    from lastresort.interop.exporting.export import export
    from lastresort.interop.exporting.job import counted

    if base is not None and with_base:
        raise InputError("--base beside --with-base", expected="one of them", remedy="Leave one out.")
    if gpu is not None and to != "skypilot":
        raise InputError(f"--gpu beside --to {to}", expected="it with --to skypilot alone", remedy="Leave it out.")
    details = {"gpu": gpu} if gpu is not None else {}
    place = out or (run if run.is_dir() else run.parent) / f"export-{to}"
    written = export(_training(run, rung), to, place, base=base, with_base=with_base, **details)
    for note in written.notes:
        print_note(note)
    if as_json:
        print_document(_document(written))
        return
    rows = counted(written.rows) + (f", {written.held_out} held out" if written.held_out else "")
    for told in written.told:
        print_text(told)
    print_text(f"written: {written.folder} ({', '.join(written.files)}; {rows})")
    print_text("\n".join(f"run: {command}" for command in written.commands))


def _training(run: Path, rung: str | None) -> Exportable:
    from lastresort.errors import InputError
    from lastresort.interop.exporting.trained import is_output_folder, of_file, of_output_folder
    from lastresort.records.record import FILE_NAME
    from lastresort.train.files.run_folder import BEGUN

    if (run / FILE_NAME).is_file():
        from lastresort.app.exported import of_climb

        return of_climb(run, rung)
    if rung is not None:
        raise InputError(
            "--rung beside what is no climb",
            where=str(run),
            expected="it with a climb's run alone",
            remedy="Leave it out.",
        )
    if is_output_folder(run):
        return of_output_folder(run)
    if (run / BEGUN).is_file():
        raise InputError(
            "this training has not finished",
            where=str(run),
            expected="one that ran to its end",
            remedy="`lastresort train FILE --resume` goes on with it; FILE itself can be exported already.",
        )
    return of_file(run)


def _document(written: Exported) -> dict[str, Any]:
    return {"schema": 1, **asdict(written), "folder": str(written.folder)}
