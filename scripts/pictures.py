"""The two pictures of the README, each from the record of a finished run, and those of studies. Nothing is measured here.

    python -m scripts.pictures recording runs/harbour-1 docs/demo.svg "lastresort demo"
    python -m scripts.pictures report runs/handbook-1 docs/ladder.png
    python -m scripts.pictures study docs/studies/harbour-min-data.json docs/studies/harbour-min-data.svg

recording: the run in a terminal as an SVG that plays once, each line when its event was recorded, sped up to SECONDS. Where
nothing is animated, it shows the end. report: the head of the run's report.html, drawn by Chromium. study: the scores of
a study.json.
"""

from __future__ import annotations

import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from datetime import datetime
from html import escape
from pathlib import Path
from shutil import which

from pydantic import TypeAdapter
from rich.console import Console, RenderableType
from rich.segment import Segment
from rich.style import Style
from rich.terminal_theme import SVG_EXPORT_THEME
from rich.text import Text

from lastresort.app.runs import Run
from lastresort.records.events.run import ClimbDecided
from lastresort.records.record import Record
from lastresort.report.study import StudyDocument
from lastresort.report.study_page import shown, standing_alone
from lastresort.report.terminal import ladder_table
from lastresort.report.words.progress import line_of

COLUMNS, SECONDS = 96, 8.0
CELL, LEADING, MARGIN, SIZE = 8.4, 19, 18, 14
REPORT_SIZE = (1000, 758)  # down to the scale below the ladder
HEAD = """<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" role="img" aria-label="{label}">
<style>
text {{ font: {size}px ui-monospace, "DejaVu Sans Mono", Menlo, Consolas, monospace; white-space: pre; }}
g {{ animation: shown 10ms linear backwards; }}
@keyframes shown {{ from {{ opacity: 0 }} to {{ opacity: 1 }} }}
@media (prefers-reduced-motion: reduce) {{ g {{ animation: none; }} }}
</style>
<rect width="{width}" height="{height}" rx="8" fill="{background}"/>
"""
Line = tuple[float, list[Segment]]


def recording(folder: Path, command: str) -> str:
    """The SVG of a run. command: what was typed."""
    lines = list(_lines(folder, command))
    width, height = round(COLUMNS * CELL + 2 * MARGIN), len(lines) * LEADING + 2 * MARGIN
    background = SVG_EXPORT_THEME.background_color.hex
    head = HEAD.format(width=width, height=height, size=SIZE, background=background, label=escape(command, quote=True))
    drawn = (_drawn(second, MARGIN + LEADING * number + SIZE, line) for number, (second, line) in enumerate(lines))
    return head + "".join(drawn) + "</svg>\n"


def _lines(folder: Path, command: str) -> Iterator[Line]:
    """Every line with the second at which it appears."""
    console = Console(width=COLUMNS, color_system="truecolor", force_terminal=True, legacy_windows=False)

    def rendered(second: float, what: RenderableType) -> Iterator[Line]:
        for line in console.render_lines(what, console.options, pad=False):
            yield second, [part for part in line if part.text]

    began, ended = _times(folder)[0], _times(folder)[-1]
    real_s = max((ended - began).total_seconds(), 1.0)
    yield from rendered(0.0, Text(f"$ {command}", style="bold"))
    with Record.open(folder, read_only=True) as record:
        for at, (_, event) in zip(_times(folder), record.since(), strict=True):
            if not isinstance(event, ClimbDecided) and (line := line_of(event)) is not None:
                yield from rendered(1 + SECONDS * (at - began).total_seconds() / real_s, Text(line, style="dim"))
    yield SECONDS + 1.5, []
    yield from rendered(SECONDS + 1.5, ladder_table(Run(folder).view))


def _times(folder: Path) -> list[datetime]:
    """When each event was recorded."""
    with closing(sqlite3.connect(f"file:{folder / 'record.sqlite'}?mode=ro", uri=True)) as raw:
        return [datetime.fromisoformat(at) for (at,) in raw.execute("SELECT at FROM event ORDER BY id")]


def _drawn(second: float, y: int, line: list[Segment]) -> str:
    spans, cell = [], 0
    for part in line:
        words, cells = part.text.rstrip("\n"), part.cell_length
        if words.strip():
            fill, weight = _look(part.style or Style())
            place = f'x="{MARGIN + cell * CELL:.1f}" y="{y}" textLength="{cells * CELL:.1f}" lengthAdjust="spacingAndGlyphs"'
            spans.append(f'<text {place} fill="{fill}"{weight}>{escape(words)}</text>')
        cell += cells
    return f'<g style="animation-delay: {second:.2f}s">{"".join(spans)}</g>\n' if spans else ""


def _look(style: Style) -> tuple[str, str]:
    theme = SVG_EXPORT_THEME
    colour = theme.foreground_color if style.color is None else style.color.get_truecolor(theme)
    return colour.hex, (' font-weight="bold"' if style.bold else "") + (' opacity="0.7"' if style.dim else "")


def report_picture(folder: Path, out: Path) -> None:
    """Draw the head of the report. Needs Chromium."""
    chromium = which("chromium") or which("google-chrome")
    if chromium is None:
        sys.exit("found no Chromium on PATH, which draws the report. Install it.")
    width, height = REPORT_SIZE
    page = Run(folder).write_report().resolve().as_uri()
    options = ["--headless", "--no-sandbox", "--disable-background-networking", "--hide-scrollbars"]
    subprocess.run(
        [chromium, *options, f"--window-size={width},{height}", f"--screenshot={out.resolve()}", page],
        check=True,
        capture_output=True,
    )


def study_picture(path: Path) -> str:
    """The SVG of a study's scores. path: of its study.json."""
    document = TypeAdapter[StudyDocument](StudyDocument).validate_json(path.read_text(encoding="utf-8"))
    return standing_alone(shown(document).pictures[0])


def main() -> None:
    match sys.argv[1:]:
        case ["recording", folder, out, command]:
            Path(out).write_text(recording(Path(folder), command), encoding="utf-8")
        case ["report", folder, out]:
            report_picture(Path(folder), Path(out))
        case ["study", document, out]:
            Path(out).write_text(study_picture(Path(document)), encoding="utf-8")
        case _:
            sys.exit(__doc__)


if __name__ == "__main__":
    main()
