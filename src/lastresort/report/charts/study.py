"""Scores by number of examples as SVG: a line a way over the logarithm of the number, with the intervals of its points."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup

from lastresort.report.charts.loss import DASHES, LABEL_HEIGHT
from lastresort.report.charts.scale import (
    LineName,
    Plot,
    Scale,
    chart,
    dot,
    drawn_line,
    names_at_ends,
    polyline,
    scores,
)
from lastresort.report.words.wording import count, percent

WIDTH, HEIGHT = 760, 340
LEFT, RIGHT, TOP, BOTTOM = 52, 172, 14, 42
NONE_SHARE = 0.08  # of the width, for what learns from no example
APART = 4  # between the points of two lines at one size, whose intervals would hide each other


@dataclass(frozen=True, slots=True)
class StudyPoint:
    """n: examples, 0 for a way that learns from none. interval: limits of the score. title: what is said of it."""

    n: int
    score: float
    interval: tuple[float, float] | None
    title: str


@dataclass(frozen=True, slots=True)
class StudyLine:
    """front: drawn in front, as what the study is about."""

    name: str
    points: tuple[StudyPoint, ...]
    front: bool = False


def study_chart(lines: Sequence[StudyLine], label: str) -> Markup:
    """A way with a single point is drawn as a level line. label: what the picture shows, for those who do not see it."""
    sizes = sorted({point.n for line in lines for point in line.points if point.n})
    values = [value for line in lines for point in line.points for value in (point.score, *(point.interval or ()))]
    across = _Sizes(min(sizes, default=1), max(sizes, default=1), (0, *sizes))
    plot = Plot(WIDTH, HEIGHT, LEFT, RIGHT, TOP, BOTTOM, across, scores(values))
    body = plot.axes(lambda tick: percent(tick, 0), count, "examples")
    for number, line in sorted(enumerate(lines), key=lambda one: one[1].front):
        body.append(_drawn(line, number, plot, APART * (number - (len(lines) - 1) / 2)))
    names = [LineName(line.name, plot.end + 8, plot.y(line.points[-1].score), line.front) for line in lines]
    return chart(WIDTH, HEIGHT, label, [*body, names_at_ends(names, LABEL_HEIGHT)])


class _Sizes(Scale):
    """Over their logarithms. 0 stands at the left end, apart: it has none."""

    def share(self, value: float) -> float:
        if not value:
            return 0.25 * NONE_SHARE
        low, high = math.log(self.low), math.log(self.high)
        share = (math.log(value) - low) / (high - low) if high > low else 0.5
        return NONE_SHARE + (0.98 - NONE_SHARE) * share


def _drawn(line: StudyLine, number: int, plot: Plot, aside: float) -> Markup:
    """aside: by how much the line is moved to the right."""
    places = [(plot.x(point.n) + aside, plot.y(point.score)) for point in line.points]
    path = [(plot.x(0) + aside, places[0][1]), (plot.end, places[0][1])] if len(places) == 1 else places
    marks: list[Markup] = []
    for point, (x, y) in zip(line.points, places, strict=True):
        if point.interval is not None:
            marks.append(polyline((x, plot.y(value)) for value in point.interval))
        marks.append(dot(x, y, point.title))
    return drawn_line(path, marks, dashes="" if line.front else DASHES[number % len(DASHES)], front=line.front)
