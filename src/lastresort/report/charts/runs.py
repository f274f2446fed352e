"""Several runs of one task as SVG: what each one spent against its score with the interval, and every bar as a line."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup

from lastresort.report.charts.ladder import SHAPES
from lastresort.report.charts.scale import Plot, amounts, below, durations, level, scores, unit
from lastresort.report.words.wording import NO_BREAK, interval, listed, money, percent, round_percent, short_duration
from lastresort.types import Outcome

TOP, BOTTOM = 14, 38
A_LETTER = 7.5  # of a name, about
APART = 15  # between two names, one above the other
BELOW_LETTERS = 6  # of the last line


@dataclass(frozen=True, slots=True)
class PictureSize:
    """named: whether a run has its name beside it, else its number, for which a list below gives the name."""

    width: int
    height: int
    left: int
    right: int
    named: bool


WIDE, NARROW = PictureSize(760, 300, 46, 130, named=True), PictureSize(340, 260, 44, 16, named=False)


@dataclass(frozen=True, slots=True)
class RunPoint:
    """The test of a run where it stopped. spent: in `Spent`'s unit."""

    name: str
    spent: float
    score: float
    interval: tuple[float, float]
    bar: float
    verdict: Outcome


def runs_chart(points: Sequence[RunPoint], *, in_money: bool, size: PictureSize = WIDE) -> Markup:
    """in_money: whether `spent` is in US dollars; else it is in seconds."""
    shown = money if in_money else short_duration
    bars = sorted({point.bar for point in points})
    steps = 4 if size.named else 3
    across = (amounts if in_money else durations)([point.spent for point in points], steps)
    up = scores([*bars, *(limit for point in points for limit in point.interval)])
    plot = Plot(size.width, size.height, size.left, size.right, TOP, BOTTOM, across, up)
    named_bars, names = _bars(bars, plot), _names(points, plot, named=size.named)
    # A pile of names may reach below the plot: the axis goes below it.
    bottom = max(size.height - BOTTOM, math.ceil(max(name.y for name in (*named_bars, *names)) + BELOW_LETTERS))
    height = bottom + BOTTOM
    parts = [level(plot.y(tick), plot.left, plot.end, round_percent(tick)) for tick in up.ticks]
    parts += [below(plot.x(tick), bottom + 18, _tick(tick, in_money)) for tick in across.ticks]
    parts.append(unit(plot.left, plot.end, height - 4, "money spent" if in_money else "time spent"))
    parts += [bar.drawn for bar in named_bars]
    parts += [_mark(point, plot) for point in points]
    parts += [name.drawn for name in names]
    label = "; ".join(
        f"{'' if size.named else f'{number} '}{point.name}: {percent(point.score)} ({interval(point.interval)}) for "
        f"{shown(point.spent)}"
        for number, point in enumerate(points, start=1)
    )
    return Markup('<svg viewBox="0 0 {} {}" role="img" aria-label="{}; bar at {}">{}</svg>').format(
        size.width, height, label, listed(map(round_percent, bars)), Markup("").join(parts)
    )


def _tick(spent: float, in_money: bool) -> str:
    if spent == 0:
        return "0"
    return money(spent) if in_money else short_duration(spent).replace(f".0{NO_BREAK}", NO_BREAK)


@dataclass(frozen=True, slots=True)
class _Name:
    y: float
    drawn: Markup


def _bars(bars: Sequence[float], plot: Plot) -> list[_Name]:
    """Lines with their names above them, or lower where another one is close."""
    found, lowest = [], -math.inf
    for bar in sorted(bars, reverse=True):
        y, left = plot.y(bar), plot.left
        named_y = lowest = max(y - 6, lowest + APART)
        line = Markup('<line class="bar" x1="{}" x2="{}" y1="{:.1f}" y2="{:.1f}"/>').format(left, plot.end, y, y)
        text = Markup('<text class="name" x="{}" y="{:.1f}">bar {}</text>')
        found.append(_Name(named_y, line + text.format(left + 6, named_y, round_percent(bar))))
    return found


def _mark(point: RunPoint, plot: Plot) -> Markup:
    x, y = plot.x(point.spent), plot.y(point.score)
    low, high = (plot.y(limit) for limit in point.interval)
    return Markup(
        '<g class="strip {}"><rect class="span" x="{:.1f}" y="{:.1f}" width="6" height="{:.1f}" rx="3"/>'
        '<g class="point" transform="translate({:.1f} {:.1f})">{}</g></g>'
    ).format(point.verdict, x - 3, high, max(low - high, 1.0), x, y, SHAPES[point.verdict])


def _names(points: Sequence[RunPoint], plot: Plot, *, named: bool) -> list[_Name]:
    """Beside the marks, and lower where another name is there already."""
    found, taken = [], list[tuple[float, float, float]]()  # from where to where, and how low
    texts = [point.name if named else str(number) for number, point in enumerate(points, start=1)]
    for point, text in sorted(zip(points, texts, strict=True), key=lambda one: -one[0].score):
        x, y, width = plot.x(point.spent), plot.y(point.score) + 4, A_LETTER * len(text)
        on_the_left = x > (plot.left + plot.end) / 2  # where a long name would leave the picture
        start = x - 12 - width if on_the_left else x + 12
        for left, right, low in sorted(taken, key=lambda one: one[2]):
            if start < right and left < start + width and abs(y - low) < APART:
                y = low + APART
        taken.append((start, start + width, y))
        drawn = Markup('<text class="name" x="{:.1f}" y="{:.1f}" text-anchor="{}">{}</text>').format(
            x - 12 if on_the_left else x + 12, y, "end" if on_the_left else "start", text
        )
        found.append(_Name(y, drawn))
    return found
