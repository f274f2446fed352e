"""`lastresort ui`: the page."""

from __future__ import annotations

from pathlib import Path

from typer import Argument, Option

from lastresort.app.terminal import print_note, print_text


def ui_command(
    folder: Path = Argument(Path(), help="Folder that holds `runs`. Default: this one."),
    host: str = Option("127.0.0.1", "--host", help="Address to listen at. Any but this machine's own needs the token."),
    port: int = Option(7860, "--port", min=0, max=65535, help="Port to listen at. 0 takes any that is free."),
) -> None:
    """Open a page to start and watch runs, and look at answers.

    Climbs and trainings are processes of their own. They go on when the page ends.
    """
    from lastresort.ui.start import serve_page

    serve_page(folder, host, port, on_ready=_tell)


def _tell(link: str) -> None:
    print_text(link, flush=True)
    print_note("Open this link in a browser. Ctrl-C ends the page, not the runs.")
