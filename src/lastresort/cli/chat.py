"""`lastresort chat RUN`: talk to the system that won."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from lastresort.cli.terminal import print_note, print_text

if TYPE_CHECKING:
    from lastresort.systems.answerer import Answerer


def chat_command(
    run: Path = typer.Argument(help="The folder of a finished run, or of a saved system."),
    once: str | None = typer.Option(None, "--once", help="Answer this one input, print the answer and leave."),
    allow_held: bool = typer.Option(False, "--allow-held", help="Also talk to a winner that the gate holds back."),
) -> None:
    """Give inputs to the winner of a run, exactly as it was measured. Each input is answered on its own."""
    from lastresort.climb.winner_folder import load_winner
    from lastresort.systems.files import FILE
    from lastresort.systems.open import open_answerer

    folder = run if (run / FILE).is_file() else run / "winner"
    if not allow_held:
        refuse_held(folder)
    answerer = open_answerer(load_winner(folder), folder)
    if once is not None:
        _say(answerer, once)
        return
    interactive = sys.stdin.isatty()
    if interactive:
        print_note(f"{answerer.system.name} on {answerer.system.model}. An empty line or Ctrl-D leaves.")
    for text in _inputs(interactive):
        _say(answerer, text)


def refuse_held(folder: Path) -> None:
    """Raises InputError where this is a winner that may not ship."""
    from lastresort.errors import InputError
    from lastresort.report.decision import is_held

    if is_held(folder):
        raise InputError(
            "the gate holds this winner back: that tuning broke nothing else is not shown",
            where=str(folder),
            expected="a winner that may ship",
            remedy="Read under Gate in report.html what would decide it, or add --allow-held.",
        )


def _inputs(interactive: bool) -> Iterator[str]:
    """The lines of stdin that hold something; at a terminal an empty one ends them."""
    while True:
        if interactive:
            print_note("> ", end="")
        line = sys.stdin.readline()
        text = line.strip()
        if not line or (interactive and not text):
            return
        if text:
            yield text


def _say(answerer: Answerer, text: str) -> None:
    """The answer on stdout, and on stderr where the passages that were read for it stand."""
    from lastresort.types import Message

    turns = (Message("user", text),)
    print_text(answerer.answer([turns])[0].text, flush=True)
    for number, passage in enumerate(answerer.passages(turns), 1):
        print_note(f"[{number}] {passage.id}")
