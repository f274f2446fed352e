"""Scores by number of examples as SVG: a line a way over the logarithm of the number, with the intervals of its points."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup

from lastresort.report.charts.loss import DASHES, LABEL_HEIGHT
from lastresort.report.charts.scale import Scale, below, chart, level, scores, unit
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
    up, across = scores(values), _Across(sizes)
    body = [_grid(up, across, sizes)]
    for number, line in sorted(enumerate(lines), key=lambda one: one[1].front):
        body.append(_drawn(line, number, up, across, APART * (number - (len(lines) - 1) / 2)))
    body.append(_names(lines, up))
    return chart(WIDTH, HEIGHT, label, body)


@dataclass(frozen=True, slots=True)
class _Across:
    sizes: Sequence[int]

    def x(self, n: int) -> float:
        """0 stands at the left end, apart: it has no logarithm."""
        width = WIDTH - LEFT - RIGHT
        if not n:
            return LEFT + 0.25 * NONE_SHARE * width
        low, high = math.log(self.sizes[0]), math.log(self.sizes[-1])
        share = (math.log(n) - low) / (high - low) if high > low else 0.5
        return LEFT + width * (NONE_SHARE + (0.98 - NONE_SHARE) * share)


def _y(value: float, up: Scale) -> float:
    return HEIGHT - BOTTOM - (HEIGHT - TOP - BOTTOM) * up.share(value)


def _grid(up: Scale, across: _Across, sizes: Sequence[int]) -> Markup:
    parts = [level(_y(tick, up), LEFT, WIDTH - RIGHT, percent(tick, 0)) for tick in up.ticks]
    parts += [below(across.x(n), HEIGHT - BOTTOM + 18, count(n)) for n in (0, *sizes)]
    return Markup("").join([*parts, unit(LEFT, WIDTH - RIGHT, HEIGHT - 6, "examples")])


def _drawn(line: StudyLine, number: int, up: Scale, across: _Across, aside: float) -> Markup:
    """aside: by how much the line is moved to the right."""
    at = [(across.x(point.n) + aside, _y(point.score, up)) for point in line.points]
    path = [(across.x(0) + aside, at[0][1]), (WIDTH - RIGHT, at[0][1])] if len(at) == 1 else at
    dash = Markup("") if line.front else Markup(' stroke-dasharray="{}"').format(DASHES[number % len(DASHES)])
    parts = [Markup('<polyline points="{}"{}/>').format(" ".join(f"{x:.1f},{y:.1f}" for x, y in path), dash)]
    for point, (x, y) in zip(line.points, at, strict=True):
        if point.interval is not None:
            ends = " ".join(f"{x:.1f},{_y(value, up):.1f}" for value in point.interval)
            parts.append(Markup('<polyline points="{}"/>').format(ends))
        parts.append(
            Markup('<circle class="dev" cx="{:.1f}" cy="{:.1f}" r="4"><title>{}</title></circle>').format(
                x, y, point.title
            )
        )
    return Markup('<g class="{}">{}</g>').format("line front" if line.front else "line", Markup("").join(parts))


def _names(lines: Sequence[StudyLine], up: Scale) -> Markup:
    """At the right of the picture, at the height of the last point, moved apart where they would lie on each other."""
    parts: list[Markup] = []
    lowest = -math.inf
    for line in sorted(lines, key=lambda line: -line.points[-1].score):
        y = max(_y(line.points[-1].score, up) + 4, lowest + LABEL_HEIGHT)
        lowest = y
        style = "name front" if line.front else "name"
        parts.append(
            Markup('<text class="{}" x="{}" y="{:.1f}">{}</text>').format(style, WIDTH - RIGHT + 8, y, line.name)
        )
    return Markup("").join(parts)
