"""`lastresort chat RUN`: talk to the system that won."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from typer import Argument, Option

from lastresort.app.terminal import print_note, print_text

if TYPE_CHECKING:
    from lastresort.systems.running import Running


def chat_command(
    run: Path = Argument(help="Folder of a finished run or of a saved system."),
    once: str | None = Option(None, "--once", help="Answer this one input and exit."),
    allow_held: bool = Option(False, "--allow-held", help="Also open a winner that the gate holds back."),
) -> None:
    """Talk to the winner of a run.

    It answers exactly as it was measured, each input on its own.
    """
    from lastresort.systems.running import open_system

    running = open_system(run, allow_held=allow_held)
    if once is not None:
        _say(running, once)
        return
    interactive = sys.stdin.isatty()
    if interactive:
        print_note(f"{running.system.name} on {running.system.model}. An empty line or Ctrl-D quits.")
    for text in _inputs(interactive):
        _say(running, text)


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


def _say(running: Running, text: str) -> None:
    """The answer on stdout as it grows, and on stderr where the passages that were read for it stand."""
    from lastresort.types import Answer, Message

    answers: list[Answer] = []
    pieces = running.stream((Message("user", text),), on_answer=lambda _, answer: answers.append(answer))
    for words in _in_words(pieces):
        print_text(words, end="", flush=True)
    print_text(flush=True)
    for number, passage in enumerate(answers[0].passages, 1):
        print_note(f"[{number}] {passage}")


def _in_words(pieces: Iterator[str]) -> Iterator[str]:
    """The same text cut after white space: a key or a control sequence is recognised only as a whole."""
    held = ""
    for piece in pieces:
        held += piece
        whole = max(held.rfind(space) for space in " \n\t") + 1
        if whole:
            yield held[:whole]
            held = held[whole:]
    if held:
        yield held
