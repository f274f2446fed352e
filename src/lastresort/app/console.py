"""Rich's console, and work as it goes on: a live display on a terminal, plain lines elsewhere.

A command of its own shows it on stderr; `watch` shows a run on stdout.
"""

from __future__ import annotations

import math
import os
import re
import sys
import textwrap
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager

from rich.console import Console, ConsoleOptions, RenderableType
from rich.live import Live
from rich.segment import Segment

from lastresort.app.runtime import STAGES_AS_JSON
from lastresort.app.terminal import print_note, print_text, safe_text
from lastresort.app.watch import Snapshot
from lastresort.records.decision import RunView
from lastresort.records.events.base import Stage
from lastresort.report.terminal import run_at_work
from lastresort.report.words.progress import line_of, rate_line, stage_left_s
from lastresort.report.words.wording import spaced
from lastresort.types import Progress

LINE_EVERY_S, NOTE_EVERY_S, JSON_EVERY_S = 15.0, 60.0, 0.5
REFRESHED = 2  # a second
_GLUE = "\0"


class SafeConsole(Console):
    """A console on which only rich's own control characters act.

    Everything printed passes through `render`, tables and progress bars too; what rich itself adds comes later.
    """

    def render(self, renderable: RenderableType, options: ConsoleOptions | None = None) -> Iterable[Segment]:
        for segment in super().render(renderable, options):
            yield segment if segment.control else Segment(safe_text(segment.text), segment.style)


def paragraph(text: str | None) -> str:
    """Sentences in lines as wide as stdout. What is in backticks is not broken, as it may be a command to copy."""
    glued = re.sub("`[^`]*`", lambda code: code[0].replace(" ", _GLUE), text or "")
    width = SafeConsole(file=sys.stdout).width or 80  # COLUMNS=0 says that it is not known
    lines = textwrap.wrap(glued, width, break_long_words=False, break_on_hyphens=False)
    return "\n".join(lines).replace(_GLUE, " ")


@contextmanager
def progress() -> Iterator[Progress]:
    """A live display on a terminal, lines in logs and pipes, JSON for a page."""
    if os.environ.get(STAGES_AS_JSON):
        yield JsonProgress()
        return
    if not sys.stderr.isatty():
        yield LineProgress()
        return
    live = LiveProgress(SafeConsole(stderr=True))
    with live.live:
        yield live


class StageAtWork:
    """The stage at work, how far it is, and since when."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self.clock, self.began, self._begun, self.stage = clock, clock(), 0, Stage(label="")

    def begin(self, label: str, total: int | None, done: int) -> None:
        self.began, self._begun, self.stage = self.clock(), done, Stage(label=label, total=total, done=done)

    def count_steps(self) -> None:
        self.stage = self.stage.model_copy(update={"split": "train"})

    def advance(self, amount: int, note: str) -> None:
        self._come_to(self.stage.done + amount, max(0.0, self.stage.read - amount), note)

    def read(self, prompts: float) -> None:
        if (total := self.stage.total) is not None:
            self._come_to(self.stage.done, min(prompts, max(0, total - self.stage.done)))

    def _come_to(self, done: int, read: float, note: str = "") -> None:
        self.stage = self.stage.come_to(done, read, note, self._begun, self.clock() - self.began)


class LiveProgress:
    """One picture that is redrawn in place; findings are printed above it. Of a climb it shows the whole run, as `watch` does."""

    def __init__(self, console: Console, clock: Callable[[], float] = time.monotonic) -> None:
        self._work, self._shown_at = StageAtWork(clock), clock()
        self._view: RunView | None = None
        self.live = Live(
            console=console,
            get_renderable=self.drawn,
            refresh_per_second=REFRESHED,
            transient=True,
            redirect_stdout=False,
        )

    def stage(self, label: str, total: int | None = None, done: int = 0) -> None:
        self._work.begin(label, total, done)
        self._shown_at = self._work.began

    def count_steps(self) -> None:
        self._work.count_steps()

    def advance(self, amount: int = 1, note: str = "") -> None:
        self._work.advance(amount, note)
        self._shown_at = self._work.clock()

    def read(self, prompts: float) -> None:
        self._work.read(prompts)
        self._shown_at = self._work.clock()

    def show(self, view: RunView | None, stage: Stage) -> None:
        """How a run stands, in place of what `stage` and `advance` said alone."""
        self._view, self._work.stage, self._shown_at = view, stage, self._work.clock()

    def say(self, text: str) -> None:
        self.live.console.print(safe_text(text), markup=False, highlight=False)

    def drawn(self) -> RenderableType:
        """As it is now: time goes on between two reports."""
        stage, since = self._work.stage, self._work.clock() - self._shown_at
        shown_stage = stage.model_copy(update={"label": safe_text(stage.label), "note": safe_text(stage.note)})
        return run_at_work(self._view, shown_stage, since)


class NoteLines:
    """The notes of stages that count nothing, such as how far each training at a worker is: one a minute, where it has changed."""

    def __init__(self) -> None:
        self._note, self._said = "", -math.inf

    def line(self, stage: Stage, now_s: float) -> str | None:
        """To say now, None for nothing."""
        if stage.total is not None or stage.note in ("", self._note) or now_s - self._said < NOTE_EVERY_S:
            return None
        self._note, self._said = stage.note, now_s
        return f"{stage.label}: {stage.note}"


class LineProgress:
    """Each stage once, then how far it is every few seconds."""

    def __init__(self) -> None:
        self._work, self._said = StageAtWork(time.monotonic), 0.0
        self._of_run, self._notes = False, NoteLines()

    def stage(self, label: str, total: int | None = None, done: int = 0) -> None:
        self._work.begin(label, total, done)
        self._said, self._of_run = self._work.began, False
        self.say(f"{label} ...")

    def count_steps(self) -> None:
        self._work.count_steps()

    def advance(self, amount: int = 1, note: str = "") -> None:
        self._work.advance(amount, note)
        self._say_of_command()

    def read(self, prompts: float) -> None:
        self._work.read(prompts)
        self._say_of_command()

    def _say_of_command(self) -> None:
        if not self._of_run:
            self._say_in_time(self._work.stage)

    def show_stage(self, stage: Stage) -> None:
        """What a run is at, in place of what `advance` said alone."""
        self._of_run = True
        self._say_in_time(stage)

    def _say_in_time(self, stage: Stage) -> None:
        now_s = self._work.clock()
        if stage_left_s(stage) is not None and now_s - self._said >= LINE_EVERY_S:
            note = f", {stage.note}" if stage.note else ""
            self.say(spaced(f"{stage.label}: {rate_line(stage)}{note}"))
            self._said = now_s
        elif (line := self._notes.line(stage, now_s)) is not None:
            self.say(line)

    def say(self, text: str) -> None:
        print_note(text)


class JsonProgress:
    """Each stage, and how far it is: a `Stage` as a line of JSON, for a page that draws it."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._work, self._said = StageAtWork(clock), 0.0

    def stage(self, label: str, total: int | None = None, done: int = 0) -> None:
        self._work.begin(label, total, done)
        self._say_stage()

    def advance(self, amount: int = 1, note: str = "") -> None:
        self._work.advance(amount, note)
        self._say_in_time()

    def read(self, prompts: float) -> None:
        self._work.read(prompts)
        self._say_in_time()

    def _say_in_time(self) -> None:
        if self._work.clock() - self._said >= JSON_EVERY_S:
            self._say_stage()

    def _say_stage(self) -> None:
        self._said = self._work.clock()
        self.say(self._work.stage.model_dump_json(exclude_defaults=True, exclude={"note"}))

    def say(self, text: str) -> None:
        print_note(text)


def shown_as_lines(snapshots: Iterable[Snapshot]) -> Snapshot | None:
    """A line an event, one a stage, and one a minute of the notes of a stage that counts nothing."""
    last, label, notes = None, "", NoteLines()
    for last in snapshots:
        for event in last.new:
            if (line := line_of(event)) is not None:
                print_text(line, flush=True)
        if last.state != "running" or last.stage is None:
            continue
        if last.stage.label != label:
            label = last.stage.label
            print_text(f"{label} ...", flush=True)
        if (line := notes.line(last.stage, time.monotonic())) is not None:
            print_text(line, flush=True)
    return last


def shown_live(snapshots: Iterable[Snapshot]) -> Snapshot | None:
    """The ladder, redrawn in place, above what the run is at."""
    last = None
    with Live(console=SafeConsole(file=sys.stdout), auto_refresh=False) as live:
        for last in snapshots:
            stage = last.stage if last.state == "running" else None
            live.update(run_at_work(last.view, stage), refresh=True)
    return last
