"""`lastresort watch RUN`: the ladder of a run as it comes about, from any terminal."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from typer import Argument

from lastresort.app.terminal import print_note, print_text

if TYPE_CHECKING:
    from rich.console import RenderableType

    from lastresort.app.watch import Snapshot


def watch_command(run: Path = Argument(help="Folder of a run: running, stopped or finished.")) -> None:
    """Follow a run and show its ladder as it grows. Ends with the run; interrupting it leaves the run alone."""
    from lastresort.app.watch import follow

    snapshots = follow(run)
    last = _live(snapshots) if sys.stdout.isatty() else _lines(snapshots)
    if last is not None and last.state == "stopped":
        print_note("No process is running this climb. Resume it with `lastresort climb TASK --resume`.")


def _lines(snapshots: Iterable[Snapshot]) -> Snapshot | None:
    """A line an event, and one a stage."""
    from lastresort.report.words.watching import line_of

    last, label = None, ""
    for last in snapshots:
        for event in last.new:
            if (line := line_of(event)) is not None:
                print_text(line, flush=True)
        if last.state == "running" and last.stage is not None and last.stage.label != label:
            label = last.stage.label
            print_text(f"{label} ...", flush=True)
    return last


def _live(snapshots: Iterable[Snapshot]) -> Snapshot | None:
    """The ladder, redrawn in place, above what the run is at."""
    from rich.live import Live

    from lastresort.app.console import SafeConsole

    last = None
    with Live(console=SafeConsole(file=sys.stdout), auto_refresh=False) as live:
        for last in snapshots:
            live.update(_drawn(last), refresh=True)
    return last


def _drawn(sight: Snapshot) -> RenderableType:
    from rich.console import Group
    from rich.text import Text

    from lastresort.report.terminal import ladder_table
    from lastresort.report.words.watching import stage_line

    parts: list[RenderableType] = []
    if sight.view is not None:
        parts.append(ladder_table(sight.view))
    if sight.state == "running" and sight.stage is not None:
        parts.append(Text(stage_line(sight.stage), style="cyan"))
    return Group(*parts)
