"""`lastresort advise [TASK]`: rules of thumb applied to what is known. Asks a person at the terminal for what is not."""

from __future__ import annotations

import sys
from functools import partial
from pathlib import Path

from typer import Argument, Option

from lastresort.app.terminal import print_note
from lastresort.cli.options import TASK_SETTINGS, parse_settings, split_pair
from lastresort.errors import InputError


def advise_command(
    task: Path | None = Argument(None, help="The task file (task.yaml). Optional with --fact or --ask."),
    ask: bool = Option(False, "--ask", help="Ask for unknown facts (default without TASK and --fact)."),
    facts: list[str] = Option(
        [], "--fact", metavar="NAME=VALUE", help="State a fact, such as wrong=format,style or best_prompt_score=0.8."
    ),
    settings: list[str] = TASK_SETTINGS,
    as_json: bool = Option(False, "--json", help="Print the advice as one JSON document on stdout."),
) -> None:
    """Advise by rules of thumb. Runs no model.

    Says whether to prompt, retrieve or fine-tune, and why, with the source of each rule.
    """
    from lastresort.app.advise import AdviceRequest, ask_in_turn, give_advice
    from lastresort.cli.console import show_document
    from lastresort.report.advice import advice_text

    stated = [split_pair(fact, "--fact", "NAME=VALUE", "wrong=format") for fact in facts]
    request = AdviceRequest(task, stated, parse_settings(settings))
    asks = ask or (task is None and not facts)
    if asks and not (sys.stdin is not None and sys.stdin.isatty()):
        raise InputError(
            "no terminal to ask on" if task else "neither a task file nor facts, and no terminal to ask on",
            expected="a terminal" if task else "TASK or --fact NAME=VALUE",
            remedy="State what you know with --fact, such as --fact wrong=format.",
        )
    ask_now = partial(ask_in_turn, read=read_line, say=print_note) if asks else None
    show_document(give_advice(request, ask_now).document, advice_text, as_json=as_json)


def read_line(prompt: str) -> str | None:
    """A line that was typed, None where the input ended."""
    print_note(prompt, end="")
    line = sys.stdin.readline()
    if not line:
        print_note()
    return line.strip() if line else None
