"""`lastresort verify`: does a running server answer as the run measured?"""

from __future__ import annotations

from pathlib import Path

import typer
from typer import Argument, Option


def verify_command(
    run: Path = Argument(help="Folder of a finished run."),
    url: str = Argument(help="Address of an OpenAI-compatible server, such as http://127.0.0.1:8000/v1."),
    model: str | None = Option(None, "--model", help="The model's name there. Default: the only one that it lists."),
    n: int | None = Option(None, "--n", min=1, help="Recorded items to send. Default: enough to show a loss, or all."),
    task: Path | None = Option(None, "--task", help="The run's task file, if it was moved."),
    send: str | None = Option(
        None,
        "--send",
        metavar="input|prompt",
        help="Send the input alone, or the winner's whole prompt. Default: detected.",
    ),
    request: Path | None = Option(
        None, "--request", help="Send the parameters of this request, such as the request.json of a hand-over."
    ),
    junit: Path | None = Option(None, "--junit", help="Also write the result as JUnit XML to this file."),
    markdown: Path | None = Option(None, "--markdown", help="Also write the result as Markdown to this file."),
    as_json: bool = Option(False, "--json", help="Print the result as one JSON document on stdout."),
    allow_held: bool = Option(False, "--allow-held", help="Also verify a winner that the gate holds back."),
) -> None:
    """Check whether a running server answers as the run measured.

    Sends recorded test items, compares answers and scores, and tests what causes a difference. Exit code 1: it is worse.
    """
    from lastresort.app.terminal import confirmed
    from lastresort.app.verify import VerifyRequest, verify_server
    from lastresort.cli.border import show_document, stoppable
    from lastresort.report.verify import verify_text

    question = VerifyRequest(run, url, model, n, task, send, request, junit, markdown, allow_held)
    with stoppable() as (shown, stop):
        found = verify_server(question, shown, stop, confirmed)
    show_document(found.document, verify_text, as_json=as_json)
    if found.worse:
        raise typer.Exit(1)
