"""Training curves as SVG: every learning rate one line, the one that went furthest in front, its name at its end."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from markupsafe import Markup

from lastresort.report.charts.scale import LineName, Plot, amounts, chart, drawn_line
from lastresort.report.words.wording import count

WIDTH, HEIGHT = 760, 270
LEFT, RIGHT, TOP, BOTTOM = 46, 128, 14, 38
MOST_POINTS = 240
SMOOTH_ABOVE = 40
LABEL_HEIGHT, NAME_WIDTH = 15, 80
DASHES = ("7 4", "2 4", "10 4 2 4", "4 3", "1 3")

Curve = Sequence[Mapping[str, float]]


@dataclass(frozen=True, slots=True)
class _Line:
    name: str
    points: tuple[tuple[float, float], ...]
    dev: tuple[tuple[float, float], ...]
    front: bool


def drawn_figure(curves: Mapping[str, Curve]) -> Literal["loss", "reward"]:
    """What of these curves says how training went: the loss of an objective on groups is about 0 whatever it learns."""
    return "reward" if any("reward" in point for curve in curves.values() for point in curve) else "loss"


def loss_chart(curves: Mapping[str, Curve], label: str) -> Markup | None:
    """Loss in nats a token by step, or the mean reward: lines for training, dots for dev. None where there is nothing finite
    to draw, or nothing above 0.

    label: what the picture shows, for those who do not see it.
    """
    figure = drawn_figure(curves)
    drawn = {name: curve for name, curve in curves.items() if len(finite_points(curve, figure)) > 1}
    if not drawn:
        return None
    furthest = went_furthest(drawn)
    lines = [
        _Line(
            name,
            tuple(thinned(smoothed(finite_points(curve, figure)))),
            tuple(finite_points(curve, "dev_loss")),
            name == furthest,
        )
        for name, curve in drawn.items()
    ]
    lines.sort(key=lambda line: line.front)
    across = amounts((step for line in lines for step, _ in (*line.points, *line.dev)), about=6)
    visible = _visible(lines) if figure == "loss" else [value for line in lines for _, value in line.points]
    if max(visible) <= 0:
        return None
    plot = Plot(WIDTH, HEIGHT, LEFT, RIGHT, TOP, BOTTOM, across, amounts(visible))
    body = [
        *plot.axes(lambda tick: f"{tick:g}", count, "step", foot=4),
        *(_drawn(*one, plot) for one in enumerate(lines)),
    ]
    return chart(WIDTH, HEIGHT, label, [*body, _names(lines, plot)])


def went_furthest(curves: Mapping[str, Curve]) -> str | None:
    """The curve with the last step: of a race, the winner."""
    return max(curves, key=lambda name: max((point["step"] for point in curves[name]), default=0), default=None)


def is_smoothed(curves: Mapping[str, Curve]) -> bool:
    """Whether a line of the picture is not drawn as it was measured."""
    return any(len(finite_points(curve, drawn_figure(curves))) >= SMOOTH_ABOVE for curve in curves.values())


def smoothed(points: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    """A mean that follows, over about a twentieth of the run; short runs as they are."""
    if len(points) < SMOOTH_ABOVE:
        return list(points)
    weight = 20 / len(points)
    mean, found = points[0][1], []
    for number, (step, value) in enumerate(points):
        mean += max(weight, 1 / (number + 1)) * (value - mean)
        found.append((step, mean))
    return found


def thinned(points: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    """At most about MOST_POINTS, the last always among them."""
    every = max(1, math.ceil(len(points) / MOST_POINTS))
    return [*points[:-1:every], points[-1]]


def finite_points(curve: Curve, name: str) -> list[tuple[float, float]]:
    """By step, without what cannot be drawn."""
    return [(point["step"], point[name]) for point in curve if name in point and math.isfinite(point[name])]


def _visible(lines: Sequence[_Line]) -> list[float]:
    """The values that set the height: a diverging run may leave the picture, the others must not be flattened by it."""
    start = max(line.points[0][1] for line in lines)
    values = [value for line in lines for _, value in (*line.points, *line.dev)]
    return [min(value, 1.5 * start) for value in values]


def _drawn(number: int, line: _Line, plot: Plot) -> Markup:
    dot = Markup('<circle class="dev" cx="{:.1f}" cy="{:.1f}" r="4.2"/>')
    dots = [dot.format(*place) for place in plot.places(line.dev)]
    dashes = "" if line.front else DASHES[number % len(DASHES)]
    return drawn_line(plot.places(line.points), dots, dashes=dashes, front=line.front)


def _clear_of_front(line: _Line, lines: Sequence[_Line], plot: Plot) -> float:
    """Height of a line's name: at its end, or above the line in front where the name would lie on it."""
    x, y = plot.x(line.points[-1][0]), plot.y(line.points[-1][1])
    crossed = [
        plot.y(value)
        for other in lines
        if other.front and other is not line
        for step, value in other.points
        if x < plot.x(step) < x + NAME_WIDTH
    ]
    return min(crossed) - LABEL_HEIGHT if any(abs(at - y) < LABEL_HEIGHT for at in crossed) else y


def _names(lines: Sequence[_Line], plot: Plot) -> Markup:
    """Names at the ends of their lines; those that end at the same place are moved apart."""
    parts: list[Markup] = []
    taken: list[tuple[float, float]] = []
    for line in sorted(lines, key=lambda line: -line.points[-1][1]):
        x, y = plot.x(line.points[-1][0]), _clear_of_front(line, lines, plot)
        while any(abs(y - other) < LABEL_HEIGHT and abs(x - beside) < RIGHT for beside, other in taken):
            y += 2
        taken.append((x, y))
        parts.append(LineName(line.name, round(x + 9, 1), y, line.front).drawn)
    return Markup("").join(parts)


def sparkline(values: Sequence[float]) -> Markup:
    """The last losses of a training at work, without an axis: only its course. What is not finite is left out."""
    finite = [value for value in values if math.isfinite(value)]
    if len(finite) < 2:
        return Markup("")
    low, span = min(finite), (max(finite) - min(finite)) or 1.0
    at = " ".join(
        f"{300 * n / (len(finite) - 1):.1f},{36 - 32 * (value - low) / span:.1f}" for n, value in enumerate(finite)
    )
    label = f"loss from {finite[0]:.3f} to {finite[-1]:.3f}"
    return Markup(
        '<svg viewBox="0 0 300 40" preserveAspectRatio="none" role="img" aria-label="{}">'
        '<g class="line front"><polyline points="{}" vector-effect="non-scaling-stroke"/></g></svg>'
    ).format(label, at)
