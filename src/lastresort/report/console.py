"""Rich's console and progress on stderr: a bar with the time left on a terminal, plain lines elsewhere."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import TypeVar

from rich import progress as rich_progress
from rich.console import Console, ConsoleOptions, RenderableType
from rich.segment import Segment

from lastresort.records.document import JsonDocument
from lastresort.report.printing import escaped, print_document, print_note, print_text, safe_text
from lastresort.types import Progress

LINE_EVERY_S = 15.0
Document = TypeVar("Document", bound=JsonDocument)


class SafeConsole(Console):
    """A console on which only rich's own control characters act.

    Everything printed passes through `render`, tables and progress bars too; what rich itself adds comes later.
    """

    def render(self, renderable: RenderableType, options: ConsoleOptions | None = None) -> Iterable[Segment]:
        for segment in super().render(renderable, options):
            yield segment if segment.control else Segment(escaped(segment.text), segment.style)


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
def progress() -> Iterator[Progress]:
    """A live bar on a terminal, lines in logs and pipes."""
    if not sys.stderr.isatty():
        yield LineProgress()
        return
    with rich_progress.Progress(
        rich_progress.TextColumn("{task.description}"),
        rich_progress.BarColumn(bar_width=20),
        rich_progress.MofNCompleteColumn(),
        rich_progress.TimeElapsedColumn(),
        rich_progress.TimeRemainingColumn(),
        rich_progress.TextColumn("{task.fields[note]}"),
        console=SafeConsole(stderr=True),
        transient=True,
    ) as bar:
        yield BarProgress(bar)


class BarProgress:
    """One bar for the present stage; findings are printed above it."""

    def __init__(self, bar: rich_progress.Progress) -> None:
        self._bar = bar
        self._task: rich_progress.TaskID | None = None
        self._note = ""

    def stage(self, label: str, total: int | None = None) -> None:
        if self._task is not None:
            self._bar.remove_task(self._task)
        self._note = ""
        self._task = self._bar.add_task(safe_text(label), total=total, note="")

    def advance(self, amount: int = 1, note: str = "") -> None:
        if self._task is not None:
            self._note = safe_text(note) or self._note
            self._bar.update(self._task, advance=amount, note=self._note)

    def say(self, text: str) -> None:
        self._bar.console.print(safe_text(text), markup=False, highlight=False)


class LineProgress:
    """Each stage once, then how far it is every few seconds."""

    def __init__(self) -> None:
        self._label, self._done = "", 0
        self._total: int | None = None
        self._began = self._said = 0.0

    def stage(self, label: str, total: int | None = None) -> None:
        self._label, self._total, self._done = label, total, 0
        self._began = self._said = time.monotonic()
        self.say(f"{label} ...")

    def advance(self, amount: int = 1, note: str = "") -> None:
        self._done += amount
        now = time.monotonic()
        if self._total and now - self._said >= LINE_EVERY_S and self._done < self._total:
            left = (now - self._began) / self._done * (self._total - self._done)
            self.say(f"{self._label}: {self._done}/{self._total}, about {left:.0f} s left{', ' + note if note else ''}")
            self._said = now

    def say(self, text: str) -> None:
        print_note(text)
