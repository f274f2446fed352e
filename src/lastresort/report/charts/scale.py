"""Axes: which part of a range is drawn, the place of a value on it, and its labelled ticks as SVG; and lines with their names."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace

from markupsafe import Markup

_MIN, _H = 60.0, 3600.0
_ROUND_S = (
    15.0,
    30.0,
    _MIN,
    2 * _MIN,
    5 * _MIN,
    10 * _MIN,
    20 * _MIN,
    30 * _MIN,
    _H,
    2 * _H,
    3 * _H,
    6 * _H,
    12 * _H,
    24 * _H,
)


@dataclass(frozen=True, slots=True)
class Scale:
    """A linear axis from low to high. ticks: the values that are labelled."""

    low: float
    high: float
    ticks: tuple[float, ...]

    def share(self, value: float) -> float:
        """The place of the value, 0 at low and 1 at high; values outside go to the nearer end."""
        return min(1.0, max(0.0, (value - self.low) / (self.high - self.low)))


def scores(values: Iterable[float]) -> Scale:
    """An axis of scores in tenths that holds all values with a little air, as long as it needs and at least 0.4."""
    found = list(values)
    low = math.floor(10 * (min(found, default=0.0) - 0.02)) / 10
    high = math.ceil(10 * (max(found, default=1.0) + 0.02)) / 10
    low, high = max(0.0, low), min(1.0, high)
    if high - low < 0.4:
        low = max(0.0, round(high - 0.4, 1))
        high = min(1.0, round(low + 0.4, 1))
    every = 0.2 if high - low > 0.6 else 0.1
    first = math.ceil(round(low / every, 6)) * every
    ticks = [round(first + n * every, 1) for n in range(round((high - first) / every) + 1)]
    return Scale(round(low, 1), round(high, 1), tuple(tick for tick in ticks if tick <= high + 1e-9))


def differences(values: Iterable[float]) -> Scale:
    """An axis that holds 0 and all values, between multiples of a step of 1, 2 or 5 times ten to n, in about five steps."""
    found = [0.0, *values]
    low, high = min(found), max(found)
    step = _step(((high - low) or 0.1) / 5)
    first, last = math.floor(low / step - 1e-9), math.ceil(high / step + 1e-9)
    ticks = tuple(round(n * step, 10) for n in range(first, last + 1))
    return Scale(ticks[0], ticks[-1], ticks)


def amounts(values: Iterable[float], about: int = 4) -> Scale:
    """An axis from 0 to a round number at or above the largest value, in about so many steps of 1, 2 or 5 times ten to n."""
    largest = max(values, default=0.0) or 1.0
    step = _step(largest / about)
    steps = math.ceil(largest / step - 1e-9)
    return Scale(0.0, steps * step, tuple(round(n * step, 10) for n in range(steps + 1)))


def durations(values: Iterable[float], about: int = 4) -> Scale:
    """As `amounts`, in seconds, with steps that are round in seconds, minutes, hours or days."""
    largest = max(values, default=0.0) or 1.0
    rough = largest / about
    if rough > _ROUND_S[-1]:
        step = _ROUND_S[-1] * _step(rough / _ROUND_S[-1])
    else:
        step = _step(rough) if rough <= 10 else next(one for one in _ROUND_S if one >= rough * 0.999)
    steps = math.ceil(largest / step - 1e-9)
    return Scale(0.0, steps * step, tuple(round(n * step, 10) for n in range(steps + 1)))


def _step(rough: float) -> float:
    """The next of 1, 2 or 5 times ten to n."""
    power = 10.0 ** math.floor(math.log10(rough))
    return next(factor * power for factor in (1, 2, 5, 10) if factor * power >= rough * 0.999)


Place = tuple[float, float]  # in a picture: from its left and from its top


@dataclass(frozen=True, slots=True)
class Plot:
    """A picture with an x axis (across) and a y axis (up), and the margins around what is drawn."""

    width: int
    height: int
    left: int
    right: int
    top: int
    bottom: int
    across: Scale
    up: Scale

    @property
    def end(self) -> int:
        """Where the x axis ends."""
        return self.width - self.right

    def x(self, value: float) -> float:
        return self.left + (self.width - self.left - self.right) * self.across.share(value)

    def y(self, value: float) -> float:
        return self.height - self.bottom - (self.height - self.top - self.bottom) * self.up.share(value)

    def places(self, points: Iterable[tuple[float, float]]) -> list[Place]:
        return [(self.x(across), self.y(up)) for across, up in points]

    def axes(
        self, up: Callable[[float], str], across: Callable[[float], str], what: str, *, foot: int = 6
    ) -> list[Markup]:
        """up, across: text of a tick on the y axis and on the x axis. what: name of the x axis, `foot` above the lower edge."""
        parts = [level(self.y(tick), self.left, self.end, up(tick)) for tick in self.up.ticks]
        parts += [below(self.x(tick), self.height - self.bottom + 18, across(tick)) for tick in self.across.ticks]
        return [*parts, unit(self.left, self.end, self.height - foot, what)]


def chart(width: float, height: float, label: str, parts: Iterable[Markup], kind: str = "chart") -> Markup:
    """A picture of these parts. label: what it shows, for those who do not see it."""
    return Markup('<svg class="{}" viewBox="0 0 {} {}" role="img" aria-label="{}">{}</svg>').format(
        kind, width, height, label, Markup("").join(parts)
    )


def level(y: float, left: float, right: float, label: str) -> Markup:
    """A value of the axis that goes up: a line from left to right, and its label before it."""
    line = Markup('<line class="grid" x1="{}" x2="{}" y1="{:.1f}" y2="{:.1f}"/>').format(left, right, y, y)
    return line + Markup('<text x="{}" y="{:.1f}" text-anchor="end">{}</text>').format(left - 8, y + 4, label)


def below(x: float, y: float, label: str) -> Markup:
    """A value of the axis that goes across."""
    return Markup('<text x="{:.1f}" y="{}" text-anchor="middle">{}</text>').format(x, y, label)


def polyline(places: Iterable[Place], dashes: str = "") -> Markup:
    """dashes: "" for a solid line."""
    style = Markup(' stroke-dasharray="{}"').format(dashes) if dashes else ""
    return Markup('<polyline points="{}"{}/>').format(" ".join(f"{x:.1f},{y:.1f}" for x, y in places), style)


def dot(x: float, y: float, title: str) -> Markup:
    return Markup('<circle class="dev" cx="{:.1f}" cy="{:.1f}" r="4"><title>{}</title></circle>').format(x, y, title)


def drawn_line(
    places: Iterable[Place], marks: Iterable[Markup] = (), *, dashes: str = "", front: bool = False
) -> Markup:
    """marks: what lies on it."""
    style = "line front" if front else "line"
    return Markup('<g class="{}">{}{}</g>').format(style, polyline(places, dashes), Markup("").join(marks))


@dataclass(frozen=True, slots=True)
class LineName:
    """The name of a line, at the end of it, which is at (x, y)."""

    text: str
    x: float
    y: float
    front: bool

    @property
    def drawn(self) -> Markup:
        style = "name front" if self.front else "name"
        return Markup('<text class="{}" x="{}" y="{:.1f}">{}</text>').format(style, self.x, self.y + 4, self.text)


def names_at_ends(names: Iterable[LineName], apart: float) -> Markup:
    """From the top down, moved apart where lines end at the same height."""
    drawn, lowest = list[Markup](), -math.inf
    for name in sorted(names, key=lambda name: name.y):
        lowest = max(name.y, lowest + apart)
        drawn.append(replace(name, y=lowest).drawn)
    return Markup("").join(drawn)


def unit(left: float, right: float, y: float, what: str) -> Markup:
    """What the axis that goes across counts, in the middle below it."""
    return Markup('<text class="unit" x="{}" y="{}" text-anchor="middle">{}</text>').format((left + right) / 2, y, what)
