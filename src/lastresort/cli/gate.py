"""`lastresort gate`, `recheck` and `verify`: is the tuned model better, did nothing else break, is it still needed, and does a
server answer as it was measured?
"""

from __future__ import annotations

from functools import partial
from pathlib import Path

import typer
from typer import Argument, Option

from lastresort.cli.options import RAY


def gate_command(
    task: Path | None = Argument(None, help="The task file (task.yaml). With --from-logs it only sets margins."),
    tuned: str | None = Option(
        None,
        "--tuned",
        help="The tuned model: a PEFT adapter, a model's folder or name, the output of lastresort train, or winner/ of a run.",
    ),
    base: str | None = Option(None, "--base", help="The model it was tuned from. Default: the task's own."),
    quick: bool = Option(
        False,
        "--quick",
        help="Compare on at most 1,024 items of each suite, with less statistical power.",
    ),
    seed: int = Option(0, "--seed", min=0, help="Seed for drawing items. Change it to get fresh ones."),
    from_logs: tuple[Path, Path] | None = Option(
        None,
        "--from-logs",
        metavar="BASE TUNED",
        help="Compare logs instead of models: lm-eval sample logs or Inspect logs of base and tuned, a file or folder each.",
    ),
    margin: list[str] = Option(
        [],
        "--margin",
        metavar="NAME=SHARE",
        help="With --from-logs: largest accepted loss of one measure, or of all without NAME=. Default: 0.03.",
    ),
    junit: Path | None = Option(None, "--junit", help="Also write the result as JUnit XML to this file."),
    markdown: Path | None = Option(None, "--markdown", help="Also write the result as Markdown to this file."),
    out: Path | None = Option(None, "--out", help="Folder for gate.json. Default: gates/<task>-<n>."),
    ray: str | None = RAY,
    as_json: bool = Option(False, "--json", help="Print the result as one JSON document on stdout."),
) -> None:
    """Check a tuned model against its base.

    Compares both on the task, general ability, sycophancy and format leak. Exit code 1: rejected.

    Run the same command again to resume a gate that was interrupted. The base's answers are kept for later gates.
    """
    from lastresort.app.gate import GateRequest, start_gate
    from lastresort.cli.border import show_document, stoppable
    from lastresort.report.gate import gate_text

    request = GateRequest(task, tuned, base, quick, seed, from_logs, tuple(margin), junit, markdown, out, ray)
    with stoppable() as (shown, stop):
        found = start_gate(request, shown, stop)
    show_document(found.document, gate_text, as_json=as_json, last_line=f"written: {found.path}")
    if found.verdict == "REJECT":
        raise typer.Exit(1)


def recheck_command(
    run: Path = Argument(help="Folder of a finished run."),
    model: str | None = Option(
        None, "--model", help="A newer model: does it replace the tuned one by prompting alone?"
    ),
    prompt: Path | None = Option(None, "--prompt", help="File with an instruction that replaces the run's own."),
    knowledge: Path | None = Option(
        None, "--knowledge", help="Current documents: do the winner's answers still hold? Default: the task's own."
    ),
    task: Path | None = Option(None, "--task", help="The run's task file, if it was moved."),
    quick: bool = Option(False, "--quick", help="Stop as soon as the verdict is clear; skips the paired test."),
    prompt_price: float | None = Option(
        None, "--prompt-price", min=0, help="USD per million prompt tokens of --model."
    ),
    output_price: float | None = Option(
        None, "--output-price", min=0, help="USD per million output tokens of --model."
    ),
    as_json: bool = Option(False, "--json", help="Print the result as one JSON document on stdout."),
) -> None:
    """Check whether a finished run still holds.

    Tests it with a newer model, a new prompt, or changed documents. Exit code 1: it no longer holds.
    Writes recheck-<n>.json into the folder of the run.
    """
    from lastresort.app.recheck import recheck_run
    from lastresort.app.terminal import confirmed
    from lastresort.cli.border import show_document, stoppable
    from lastresort.report.recheck import recheck_text

    with stoppable() as (shown, stop):
        found = recheck_run(
            run, shown, stop, partial(confirmed, stop=stop), model=model, prompt=prompt, knowledge=knowledge,
            task=task, quick=quick, prompt_price=prompt_price, output_price=output_price,
        )  # fmt: skip
    show_document(found.document, recheck_text, as_json=as_json, last_line=f"written: {found.path}")
    if found.still_needed is False:
        raise typer.Exit(1)


def verify_command(
    run: Path = Argument(help="Folder of a finished run."),
    url: str = Argument(help="Address of an OpenAI-compatible server, such as http://127.0.0.1:8000/v1."),
    model: str | None = Option(None, "--model", help="The model's name on the server. Default: the only one it lists."),
    n: int | None = Option(None, "--n", min=1, help="Recorded items to send. Default: enough to show a loss, or all."),
    task: Path | None = Option(None, "--task", help="The run's task file, if it was moved."),
    send: str | None = Option(
        None,
        "--send",
        metavar="input|prompt",
        help="Send only the input, or the winner's whole prompt. Default: detected.",
    ),
    request: Path | None = Option(
        None, "--request", help="Send the parameters of this request, such as the request.json of a handoff."
    ),
    junit: Path | None = Option(None, "--junit", help="Also write the result as JUnit XML to this file."),
    markdown: Path | None = Option(None, "--markdown", help="Also write the result as Markdown to this file."),
    as_json: bool = Option(False, "--json", help="Print the result as one JSON document on stdout."),
    allow_held: bool = Option(False, "--allow-held", help="Also verify a winner that the gate holds back."),
) -> None:
    """Check whether a running server answers as the run measured.

    Sends recorded test items, compares answers and scores, and looks for the cause of a difference. Exit code 1: worse.
    """
    from lastresort.app.terminal import confirmed
    from lastresort.app.verify import verify_server
    from lastresort.cli.border import show_document, stoppable
    from lastresort.report.verify import verify_text

    with stoppable() as (shown, stop):
        found = verify_server(
            run, url, shown, stop, partial(confirmed, stop=stop), model=model, n=n, task=task, send=send,
            request=request, junit=junit, markdown=markdown, allow_held=allow_held,
        )  # fmt: skip
    show_document(found.document, verify_text, as_json=as_json)
    if found.worse:
        raise typer.Exit(1)
