"""Several runs of one task as SVG: what each one spent against its score with the interval, and every bar as a line."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup

from lastresort.report.charts.ladder import SHAPES
from lastresort.report.charts.scale import Scale, amounts, below, durations, level, scores, unit
from lastresort.report.words.wording import NO_BREAK, interval, money, percent, round_percent, short_duration
from lastresort.types import Outcome

WIDTH, HEIGHT = 760, 300
LEFT, RIGHT, TOP, BOTTOM = 46, 130, 14, 38


@dataclass(frozen=True, slots=True)
class RunPoint:
    """The test of a run where it stopped. spent: in `Spent`'s unit."""

    name: str
    spent: float
    score: float
    interval: tuple[float, float]
    bar: float
    verdict: Outcome


def runs_chart(points: Sequence[RunPoint], *, in_money: bool) -> Markup:
    """in_money: whether `spent` is in US dollars; else it is in seconds."""
    shown = money if in_money else short_duration
    bars = sorted({point.bar for point in points})
    across = (amounts if in_money else durations)(point.spent for point in points)
    up = scores([*bars, *(limit for point in points for limit in point.interval)])
    right, bottom = WIDTH - RIGHT, HEIGHT - BOTTOM
    parts = [level(_y(tick, up), LEFT, right, round_percent(tick)) for tick in up.ticks]
    parts += [below(_x(tick, across), bottom + 18, _tick(tick, in_money)) for tick in across.ticks]
    parts.append(unit(LEFT, right, HEIGHT - 4, "money spent" if in_money else "time spent"))
    parts += [_bar(bar, right, up) for bar in bars]
    parts += [_run(point, across, up) for point in points]
    label = "; ".join(
        f"{point.name}: {percent(point.score)} ({interval(point.interval)}) for {shown(point.spent)}"
        for point in points
    )
    return Markup('<svg viewBox="0 0 {} {}" role="img" aria-label="{}; bar at {}">{}</svg>').format(
        WIDTH, HEIGHT, label, " and ".join(map(round_percent, bars)), Markup("").join(parts)
    )


def _tick(spent: float, in_money: bool) -> str:
    if spent == 0:
        return "0"
    return money(spent) if in_money else short_duration(spent).replace(f".0{NO_BREAK}", NO_BREAK)


def _bar(bar: float, right: float, up: Scale) -> Markup:
    y = _y(bar, up)
    line = Markup('<line class="bar" x1="{}" x2="{}" y1="{:.1f}" y2="{:.1f}"/>').format(LEFT, right, y, y)
    return line + Markup('<text class="name" x="{}" y="{:.1f}">bar {}</text>').format(
        LEFT + 6, y - 6, round_percent(bar)
    )


def _x(spent: float, across: Scale) -> float:
    return LEFT + across.share(spent) * (WIDTH - RIGHT - LEFT)


def _y(score: float, up: Scale) -> float:
    return HEIGHT - BOTTOM - up.share(score) * (HEIGHT - BOTTOM - TOP)


def _run(point: RunPoint, across: Scale, up: Scale) -> Markup:
    x, y = _x(point.spent, across), _y(point.score, up)
    low, high = (_y(limit, up) for limit in point.interval)
    on_the_left = x > (LEFT + WIDTH - RIGHT) / 2  # where a long name would leave the picture
    return Markup(
        '<g class="strip {}"><rect class="span" x="{:.1f}" y="{:.1f}" width="6" height="{:.1f}" rx="3"/>'
        '<g class="point" transform="translate({:.1f} {:.1f})">{}</g></g>'
        '<text class="name" x="{:.1f}" y="{:.1f}" text-anchor="{}">{}</text>'
    ).format(
        point.verdict, x - 3, high, max(low - high, 1.0), x, y, SHAPES[point.verdict],
        x - 12 if on_the_left else x + 12, y + 4, "end" if on_the_left else "start", point.name,
    )  # fmt: skip
