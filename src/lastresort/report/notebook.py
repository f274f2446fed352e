"""What a notebook shows: a sentence, and the report's picture as a standalone SVG, or what the command prints.

The picture is an image, so that its style and the notebook's do not mix. It has a ground of its own: an image follows the browser's
light or dark, which need not be the notebook's.
"""

from __future__ import annotations

import base64
import io
import re
from collections.abc import Sequence
from functools import cache
from typing import TYPE_CHECKING

from markupsafe import Markup, escape

from lastresort.records.decision import RungView, RunView
from lastresort.records.gate import GateFindings
from lastresort.report.charts import gate as gate_chart
from lastresort.report.charts import ladder as ladder_chart
from lastresort.report.gate import finding
from lastresort.report.html import style
from lastresort.report.words.gate import AXIS
from lastresort.report.words.titles import below_headline, headline
from lastresort.report.words.wording import counted, in_points, percent, shortened, state_of, verdict

if TYPE_CHECKING:
    from rich.console import RenderableType

WIDTH, ROW, HEAD, FOOT = 760, 40, 22, 26
LEFT, RIGHT = 120, 210  # of the picture, for names before it, at least, and figures behind it
LETTER, MOST_LETTERS = 7.9, 38  # of a name
LINE, MARGIN = 16, 12
COLUMNS = 100  # of what a command prints


def ladder_html(decision: RunView) -> str:
    """The answer and the ladder of a run, finished or not."""
    scale, bar = ladder_chart.axis_of(decision), decision.bar
    rows = [(rung.name, ladder_chart.strip(rung.test, bar, scale), _figures(rung)) for rung in decision.rungs]
    label = f"The ladder of {decision.task}"
    said = " ".join(filter(None, (headline(decision), below_headline(decision))))
    return _shown(said, _picture(rows, ladder_chart.bar_label(bar, scale), ladder_chart.axis(scale), label))


def gate_html(gate: GateFindings) -> str:
    """The verdict of a gate, and what was lost or won by measure."""
    measures = gate_chart.strips(gate)
    if not measures:
        return _shown(finding(gate))
    scale = gate_chart.axis_of(measures)
    rows = [
        (
            suite.name,
            gate_chart.strip(suite, scale),
            (f"{in_points(suite.difference)} points", verdict(suite.verdict)),
        )
        for suite in measures
    ]
    return _shown(finding(gate), _picture(rows, Markup(), gate_chart.axis(scale), "Gain or loss by measure", AXIS))


def picture_html(answer: str, picture: str) -> str:
    """picture: a standalone SVG."""
    return _shown(answer, picture)


def lines_html(sentence: str, lines: Sequence[str]) -> str:
    """lines: as the command prints them."""
    text = escape("\n".join(lines))
    return _shown(sentence) + (f'<pre style="white-space:pre-wrap">{text}</pre>' if text else "")


def terminal_html(sentence: str, printed: RenderableType) -> str:
    """printed: what the command prints, shown without colours."""
    from rich.console import Console

    console = Console(file=io.StringIO(), width=COLUMNS, color_system=None, force_jupyter=False)
    with console.capture() as captured:
        console.print(printed)
    return lines_html(sentence, [line.rstrip() for line in captured.get().strip("\n").splitlines()])


def _figures(rung: RungView) -> tuple[str, ...]:
    if rung.test is None:
        return (state_of(rung),)
    tested = f"{percent(rung.test.score)} of {counted(rung.test.n_used, rung.test.unit)}"
    return tested, state_of(rung) if rung.gate is None else f"{state_of(rung)}, gate: {rung.gate}"


def _picture(
    rows: Sequence[tuple[str, Markup, tuple[str, ...]]], head: Markup, foot: Markup, label: str, key: str = ""
) -> str:
    """Rows of name, strip and lines of figures, between the head above the strips and the axis below them. key: what the lines and
    the axis mean.
    """
    names = [shortened(name, MOST_LETTERS) for name, _, _ in rows]
    left = max(LEFT, round(LETTER * max(map(len, names), default=0)) + MARGIN)
    wide, below = WIDTH - left - RIGHT, HEAD + ROW * len(rows)
    parts = [_placed(head, left, 0, wide, HEAD)]
    for number, (name, (_, strip, figures)) in enumerate(zip(names, rows, strict=True)):
        middle = HEAD + ROW * number + ROW // 2 + 5
        parts.append(_placed(strip, left, HEAD + ROW * number, wide, ROW))
        parts.append(Markup('<text class="name" x="0" y="{}">{}</text>').format(middle, name))
        first = middle - LINE * (len(figures) - 1) // 2
        text = Markup('<text x="{}" y="{}">{}</text>')
        parts += [
            text.format(WIDTH - RIGHT + 2 * MARGIN, first + LINE * place, line) for place, line in enumerate(figures)
        ]
    parts.append(_placed(foot, left, below, wide, FOOT))
    height = below + FOOT
    if key:
        parts.append(Markup('<text class="key" x="0" y="{}">{}</text>').format(height + LINE - 6, key))
        height += LINE
    drawn = Markup(
        '<svg xmlns="http://www.w3.org/2000/svg" width="{0}" height="{1}" viewBox="0 0 {0} {1}" role="img" aria-label="{2}">'
        "<style>{3}</style>{4}</svg>"
    ).format(WIDTH, height, label, _style(), Markup("").join(parts))
    return str(drawn)


def _placed(drawing: Markup, x: int, y: int, width: int, height: int) -> Markup:
    return Markup('<svg x="{}" y="{}" width="{}" height="{}" overflow="visible">{}</svg>').format(
        x, y, width, height, drawing
    )


@cache
def _style() -> Markup:
    """The colours of the page and its rules for strips and axes."""
    own = (
        "text { font: 13px system-ui, sans-serif; fill: var(--ink) } .name { font-weight: 600 } "
        ".axis text, .key { font-size: 12px } .key { fill: var(--soft) }"
    )
    return style("strips") + Markup(own)


def _on_ground(picture: str) -> Markup:
    """A standalone SVG, within a margin, on a ground that is light or dark as its own colours are."""
    given = dict(re.findall(r'(\w+)="([^"]*)"', picture.partition(">")[0]))
    across, down = map(float, given.get("viewBox", "0 0 1 1").split()[2:])
    width = float(given.get("width", across))
    height = float(given.get("height", width * down / across))
    size = Markup('width="{}" height="{}"')
    return Markup(
        '<svg xmlns="http://www.w3.org/2000/svg" {}><style>{}:root {{ background: var(--paper) }}</style>'
        '<svg x="{}" y="{}" {}>{}</svg></svg>'
    ).format(
        size.format(width + 2 * MARGIN, height + 2 * MARGIN),
        style("colours"),
        MARGIN,
        MARGIN,
        size.format(width, height),
        Markup(picture),
    )


def _shown(sentence: str, picture: str = "") -> str:
    head = f'<p style="font-weight:600;max-width:{WIDTH}px">{escape(sentence)}</p>'
    if not picture:
        return head
    coded = base64.b64encode(_on_ground(picture).encode()).decode("ascii")
    return f'{head}<img alt="{escape(sentence)}" style="max-width:100%" src="data:image/svg+xml;base64,{coded}">'
