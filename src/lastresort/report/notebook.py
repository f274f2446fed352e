"""A run, a plan and a gate in a notebook: a sentence, and the report's picture as a standalone SVG.

The picture is an image, so that its style and the notebook's do not mix.
"""

from __future__ import annotations

import base64
from collections.abc import Sequence
from functools import cache

from markupsafe import Markup, escape

from lastresort.records.decision import RungView, RunView
from lastresort.records.gate import GateFindings
from lastresort.report.charts import gate as gate_chart
from lastresort.report.charts import ladder as ladder_chart
from lastresort.report.gate import finding
from lastresort.report.html import style
from lastresort.report.words.titles import headline
from lastresort.report.words.wording import in_points, percent, state_of, verdict

WIDTH, ROW, HEAD, FOOT = 760, 40, 22, 26
LEFT, RIGHT = 130, 210  # of the picture, for names before it and figures behind it
MARGIN = 10


def ladder_html(decision: RunView) -> str:
    """The answer and the ladder of a run, finished or not."""
    scale, bar = ladder_chart.axis_of(decision), decision.bar
    rows = [(rung.name, ladder_chart.strip(rung.test, bar, scale), _figures(rung)) for rung in decision.rungs]
    label = f"The ladder of {decision.task}"
    return _shown(
        headline(decision), _picture(rows, ladder_chart.bar_label(bar, scale), ladder_chart.axis(scale), label)
    )


def gate_html(gate: GateFindings) -> str:
    """The verdict of a gate, and what was lost or won by measure."""
    measures = gate_chart.strips(gate)
    if not measures:
        return _shown(finding(gate))
    scale = gate_chart.axis_of(measures)
    rows = [
        (
            suite.name.replace("_", " "),
            gate_chart.strip(suite, scale),
            f"{in_points(suite.difference)} points, {verdict(suite.verdict)}",
        )
        for suite in measures
    ]
    return _shown(finding(gate), _picture(rows, Markup(), gate_chart.axis(scale), "Gain or loss by measure"))


def picture_html(answer: str, picture: str) -> str:
    """picture: a standalone SVG."""
    return _shown(answer, picture)


def _figures(rung: RungView) -> str:
    return state_of(rung) if rung.test is None else f"{percent(rung.test.score)}, {state_of(rung)}"


def _picture(rows: Sequence[tuple[str, Markup, str]], head: Markup, foot: Markup, label: str) -> str:
    """Rows of name, strip and figures, between the head above the strips and the axis below them."""
    wide, below = WIDTH - LEFT - RIGHT, HEAD + ROW * len(rows)
    parts = [_placed(head, LEFT, 0, wide, HEAD)]
    for number, (name, strip, figures) in enumerate(rows):
        top = HEAD + ROW * number
        parts.append(_placed(strip, LEFT, top, wide, ROW))
        parts.append(Markup('<text class="name" x="0" y="{}">{}</text>').format(top + ROW // 2 + 5, name))
        parts.append(
            Markup('<text x="{}" y="{}">{}</text>').format(WIDTH - RIGHT + 2 * MARGIN, top + ROW // 2 + 5, figures)
        )
    parts.append(_placed(foot, LEFT, below, wide, FOOT))
    drawn = Markup(
        '<svg xmlns="http://www.w3.org/2000/svg" width="{0}" height="{1}" viewBox="-{2} 0 {0} {1}" role="img" aria-label="{3}">'
        "<style>{4}</style>{5}</svg>"
    ).format(WIDTH, below + FOOT, MARGIN, label, _style(), Markup("").join(parts))
    return str(drawn)


def _placed(drawing: Markup, x: int, y: int, width: int, height: int) -> Markup:
    return Markup('<svg x="{}" y="{}" width="{}" height="{}" overflow="visible">{}</svg>').format(
        x, y, width, height, drawing
    )


@cache
def _style() -> Markup:
    """The colours of the page and its rules for strips and axes."""
    own = "text { font: 13px system-ui, sans-serif; fill: var(--ink) } .name { font-weight: 600 } .axis text { font-size: 12px }"
    return style("colours", "strips") + Markup(own)


def _shown(sentence: str, picture: str = "") -> str:
    head = f'<p style="font-weight:600;max-width:{WIDTH}px">{escape(sentence)}</p>'
    if not picture:
        return head
    coded = base64.b64encode(picture.encode()).decode("ascii")
    return f'{head}<img alt="{escape(sentence)}" style="max-width:100%" src="data:image/svg+xml;base64,{coded}">'
