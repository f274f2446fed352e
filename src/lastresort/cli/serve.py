"""`lastresort serve RUN`: what won, behind the OpenAI API. `lastresort ui`: the page."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from typer import Argument, Option

from lastresort.app.terminal import confirmed, print_note, print_text

if TYPE_CHECKING:
    from lastresort.serve.start import Serving


def serve_command(
    run: Path = Argument(help="Folder of a finished run or of a saved system."),
    host: str = Option("127.0.0.1", "--host", help="Address to listen on. Any but this machine's own needs a key."),
    port: int = Option(8000, "--port", min=0, max=65535, help="Port to listen on. 0: any free port."),
    beside: bool = Option(False, "--all", help='Also serve the base model as "base" and the best prompt as "prompt".'),
    rungs: list[str] = Option(
        [],
        "--rung",
        metavar="RUNG",
        help="Also serve what this rung tested, under the rung's name, or any RUNG/CANDIDATE. Repeatable.",
    ),
    raw: bool = Option(False, "--raw", help="Serve the bare model, without the winner's prompt."),
    allow_held: bool = Option(False, "--allow-held", help="Also serve a winner that the gate holds back."),
    log_bodies: bool = Option(False, "--log-bodies", help="Log the text of requests and answers."),
    slots: int | None = Option(None, "--slots", min=1, help="Answers computed at once. Default: what suits the model."),
    longest: int | None = Option(
        None,
        "--longest",
        min=1,
        metavar="TOKENS",
        help="Longest prompt plus answer in tokens, which takes memory. Default: what suits the model.",
    ),
    upstream: str | None = Option(
        None,
        "--upstream",
        metavar="URL",
        help="Let this OpenAI-compatible server answer, such as http://localhost:9000/v1.",
    ),
    model: str | None = Option(None, "--model", metavar="NAME", help="With --upstream: the model to request there."),
) -> None:
    """Serve the winner of a run over an OpenAI-compatible API.

    It answers as measured, up to rounding in bfloat16 and float16: its own prompt, examples and passages are added to each message.

    Clients send the key in LASTRESORT_SERVE_KEY. SIGTERM or Ctrl-C lets running requests finish, a second one ends at once.
    """
    from lastresort.serve.opening import ServeRequest
    from lastresort.serve.start import serve

    request = ServeRequest(
        run, host, port, raw, allow_held, log_bodies, slots, upstream, model, beside, longest, tuple(rungs)
    )
    serve(request, on_ready=_tell, log=print_note, approve=confirmed)


def _tell(serving: Serving) -> None:
    print_text(serving.url, flush=True)
    for one in serving.names:
        around = "with its own prompt" if one.prompted else "without a prompt"
        print_note(f'{one.system} on {one.model}, {around}, as model "{one.name}".')
    if not serving.has_key:
        print_note("No key is set, so this machine alone may ask.")


def ui_command(
    folder: Path = Argument(Path(), help="Folder that holds `runs`. Default: this one."),
    host: str = Option("127.0.0.1", "--host", help="Address to listen on. Any but this machine's own needs the token."),
    port: int = Option(7860, "--port", min=0, max=65535, help="Port to listen on. 0: any free port."),
) -> None:
    """Open a page to start and watch runs, and look at answers.

    Climbs and training runs are separate processes. They continue when the page ends.
    """
    from lastresort.ui.start import serve_page

    serve_page(folder, host, port, on_ready=_tell_link)


def _tell_link(link: str) -> None:
    print_text(link, flush=True)
    print_note("Open this link in a browser. Ctrl-C ends the page, not the runs.")
