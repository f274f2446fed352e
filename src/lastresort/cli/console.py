"""What commands share once they run: the document that is their result, and how long work reports and is stopped."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TypeVar

from rich.console import RenderableType

from lastresort.app.console import SafeConsole, progress
from lastresort.app.runtime import stop_on_sigterm
from lastresort.app.terminal import print_document, print_text
from lastresort.records.document import JsonDocument
from lastresort.stop import Stop
from lastresort.types import Progress

Document = TypeVar("Document", bound=JsonDocument)


def show_document(
    document: Document, draw: Callable[[Document], RenderableType], *, as_json: bool, last_line: str | None = None
) -> None:
    """Print what a command found on stdout. last_line: below what is drawn."""
    if as_json:
        print_document(document.as_json())
        return
    SafeConsole(file=sys.stdout).print(draw(document))
    if last_line is not None:
        print_text(last_line)


@contextmanager
def stoppable() -> Iterator[tuple[Progress, Stop]]:
    """The progress of a command that takes long, and the stop that a first SIGTERM asks for."""
    with progress() as shown, stop_on_sigterm() as stop:
        yield shown, stop
