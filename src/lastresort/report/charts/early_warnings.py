"""How far training has moved from its base, as SVG below its loss and over the same steps: KL, and perplexity of plain prose."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from markupsafe import Markup

from lastresort.report.charts.loss import LABEL_HEIGHT, LEFT, RIGHT, WIDTH, Curve
from lastresort.report.charts.scale import Scale, amounts, below, chart, level, unit
from lastresort.report.words.wording import count
from lastresort.train.watch.kept import KL_GENERAL, PERPLEXITY_RATIO, measured, ratio

PANEL, GAP, TOP, BOTTOM = 96, 40, 26, 38

Points = tuple[tuple[float, float], ...]


@dataclass(frozen=True, slots=True)
class _Line:
    """name: the label at its end, if it is of the run in front. dashed: of the task's prompts."""

    name: str
    points: Points
    dashed: bool
    front: bool


@dataclass(frozen=True, slots=True)
class _Panel:
    """unit: of the values, above the panel. alarming: what is so, from the limit on. top: in the picture."""

    unit: str
    lines: tuple[_Line, ...]
    alarming: str
    limit: float
    up: Scale
    top: float

    def y(self, value: float) -> float:
        return self.top + PANEL * (1 - self.up.share(value))


def early_chart(curves: Mapping[str, Curve], label: str) -> Markup | None:
    """A panel for KL in nats a token, solid on general requests and dashed on the task's prompts, and one for the perplexity of
    plain prose, in multiples of the base's; what is alarming is dotted. None where no run was looked at twice.

    curves: all that the loss is drawn of, which set the steps. label: what the picture shows, for those who do not see it.
    """
    followed = most_followed(curves)
    kl = [
        _Line(what, _points(curve, f"kl_{part}"), part == "task", name == followed)
        for name, curve in curves.items()
        for part, what in (("general", "general"), ("task", "task"))
    ]
    prose = [_Line("prose", _ratios(curve), dashed=False, front=name == followed) for name, curve in curves.items()]
    wanted = [
        ("KL from the base, nats per token", kl, "general: alarm", KL_GENERAL),
        ("perplexity relative to the base", prose, "alarm", PERPLEXITY_RATIO),
    ]
    panels: list[_Panel] = []
    for counted, lines, alarming, limit in wanted:
        drawn = tuple(sorted((line for line in lines if len(line.points) > 1), key=lambda line: line.front))
        if drawn:
            top = TOP + len(panels) * (PANEL + GAP)
            panels.append(_Panel(counted, drawn, alarming, limit, _up(drawn, limit), top))
    if not panels:
        return None
    across = amounts((point["step"] for curve in curves.values() for point in curve), about=6)
    height = panels[-1].top + PANEL + BOTTOM
    return chart(WIDTH, height, label, [*(_drawn(panel, across) for panel in panels), _steps(across, height)])


def most_followed(curves: Mapping[str, Curve]) -> str | None:
    """The run that was compared with its base most often, the last of equals: the one that went the whole way."""
    looked = [name for name in curves if measured(curves[name])]
    return max(reversed(looked), key=lambda name: len(measured(curves[name])), default=None)


def _points(curve: Curve, name: str) -> Points:
    """KL is none below 0, where the mean of few answers may lie."""
    return tuple((p["step"], max(0.0, p[name])) for p in curve if name in p and math.isfinite(p[name]))


def _ratios(curve: Curve) -> Points:
    found = [(point["step"], ratio(point)) for point in curve]
    return tuple((step, value) for step, value in found if value is not None and math.isfinite(value))


def _up(lines: Sequence[_Line], limit: float) -> Scale:
    """Up to the alarm at least, so that a picture of small movements looks like one."""
    return amounts([limit, *(value for line in lines for _, value in line.points)], about=3)


def _x(step: float, across: Scale) -> float:
    return LEFT + (WIDTH - LEFT - RIGHT) * across.share(step)


def _drawn(panel: _Panel, across: Scale) -> Markup:
    right = WIDTH - RIGHT
    parts = [Markup('<text class="unit" x="{}" y="{:.1f}">{}</text>').format(LEFT, panel.top - 10, panel.unit)]
    parts += [level(panel.y(tick), LEFT, right, f"{tick:g}") for tick in panel.up.ticks]
    y = panel.y(panel.limit)
    parts.append(Markup('<line class="alarm" x1="{}" x2="{}" y1="{:.1f}" y2="{:.1f}"/>').format(LEFT, right, y, y))
    # Below its line if the unit is above it.
    parts.append(
        Markup('<text class="alarm" x="{}" y="{:.1f}">{} at {:g}</text>').format(
            LEFT + 6, y - 5 if y - panel.top >= LABEL_HEIGHT else y + 12, panel.alarming, panel.limit
        )
    )
    parts += [_line(line, panel, across) for line in panel.lines]
    return Markup("").join([*parts, _names(panel, across)])


def _line(line: _Line, panel: _Panel, across: Scale) -> Markup:
    places = [(_x(step, across), panel.y(value)) for step, value in line.points]
    path = " ".join(f"{x:.1f},{y:.1f}" for x, y in places)
    dots = [Markup('<circle class="dev" cx="{:.1f}" cy="{:.1f}" r="3.4"/>').format(x, y) for x, y in places]
    return Markup('<g class="{}"><polyline points="{}"{}/>{}</g>').format(
        "line front" if line.front else "line",
        path,
        Markup(' stroke-dasharray="6 4"') if line.dashed else Markup(""),
        Markup("").join(dots),
    )


def _names(panel: _Panel, across: Scale) -> Markup:
    """At the ends of the lines in front, moved apart where they end at the same height."""
    parts: list[Markup] = []
    lowest = -math.inf
    for line in sorted((line for line in panel.lines if line.front), key=lambda line: -line.points[-1][1]):
        step, value = line.points[-1]
        lowest = max(panel.y(value), lowest + LABEL_HEIGHT)
        parts.append(
            Markup('<text class="name front" x="{:.1f}" y="{:.1f}">{}</text>').format(
                _x(step, across) + 9, lowest + 4, line.name
            )
        )
    return Markup("").join(parts)


def _steps(across: Scale, height: float) -> Markup:
    parts = [below(_x(tick, across), height - BOTTOM + 18, count(tick)) for tick in across.ticks]
    return Markup("").join([*parts, unit(LEFT, WIDTH - RIGHT, height - 4, "step")])
