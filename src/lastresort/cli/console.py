"""Rich's console and progress on stderr: a bar with the time left on a terminal, plain lines elsewhere."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterable
from types import TracebackType
from typing import Any

from rich import progress as rich_progress
from rich.console import Console, ConsoleOptions, RenderableType
from rich.segment import Segment

from lastresort.cli.terminal import escaped, print_note, shown

PLAIN_EVERY_S = 15.0


class SafeConsole(Console):
    """A console on which only rich's own control characters act.

    Everything printed passes through `render`, tables and progress bars too; what rich itself adds comes later.
    """

    def render(self, renderable: RenderableType, options: ConsoleOptions | None = None) -> Iterable[Segment]:
        for segment in super().render(renderable, options):
            yield segment if segment.control else Segment(escaped(segment.text), segment.style)


def show(drawn: RenderableType) -> None:
    """Print a table or text on stdout."""
    SafeConsole(file=sys.stdout).print(drawn)


class TerminalProgress:
    """A live bar for the present stage; finished findings are printed above it."""

    def __init__(self) -> None:
        self._console = SafeConsole(stderr=True)
        self._bar = rich_progress.Progress(
            rich_progress.TextColumn("{task.description}"),
            rich_progress.BarColumn(bar_width=20),
            rich_progress.MofNCompleteColumn(),
            rich_progress.TimeElapsedColumn(),
            rich_progress.TimeRemainingColumn(),
            rich_progress.TextColumn("{task.fields[note]}"),
            console=self._console,
            transient=True,
        )
        self._task: Any = None
        self._note = ""

    def __enter__(self) -> TerminalProgress:
        self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bar.stop()

    def stage(self, label: str, total: int | None = None) -> None:
        if self._task is not None:
            self._bar.remove_task(self._task)
        self._note = ""
        self._task = self._bar.add_task(shown(label), total=total, note="")

    def advance(self, amount: int = 1, note: str = "") -> None:
        if self._task is not None:
            self._note = shown(note) or self._note
            self._bar.update(self._task, advance=amount, note=self._note)

    def say(self, text: str) -> None:
        self._console.print(shown(text), markup=False, highlight=False)


class PlainProgress:
    """Lines for logs and pipes: each stage once, then how far it is every few seconds."""

    def __init__(self) -> None:
        self._label, self._total, self._done, self._began, self._said = "", None, 0, 0.0, 0.0  # type: str, int | None, int, float, float

    def __enter__(self) -> PlainProgress:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        return None

    def stage(self, label: str, total: int | None = None) -> None:
        self._label, self._total, self._done = label, total, 0
        self._began = self._said = time.monotonic()
        self.say(f"{label} ...")

    def advance(self, amount: int = 1, note: str = "") -> None:
        self._done += amount
        now = time.monotonic()
        if self._total and now - self._said >= PLAIN_EVERY_S and self._done < self._total:
            left = (now - self._began) / self._done * (self._total - self._done)
            self.say(f"{self._label}: {self._done}/{self._total}, about {left:.0f} s left{', ' + note if note else ''}")
            self._said = now

    def say(self, text: str) -> None:
        print_note(text)


def progress() -> TerminalProgress | PlainProgress:
    return TerminalProgress() if sys.stderr.isatty() else PlainProgress()
