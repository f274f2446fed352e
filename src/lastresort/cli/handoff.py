"""`lastresort handoff RUN`: what another server needs to serve the winner."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

from typer import Argument, Option

from lastresort.app.terminal import print_document, print_note, print_text
from lastresort.handoff import TARGETS


def handoff_command(
    run: Path = Argument(help="Folder of a finished run or of a saved system."),
    to: str = Option(..., "--to", metavar="|".join(TARGETS), help="Target server."),
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
    from lastresort.app.runs import HandoffRequest, hand_over

    found = hand_over(HandoffRequest(run, to, merged, out, name, allow_held, port))
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
