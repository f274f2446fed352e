"""How far training has moved from its base, as SVG below its loss and over the same steps: KL, and perplexity of plain prose."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

from markupsafe import Markup

from lastresort.report.charts.loss import LABEL_HEIGHT, LEFT, RIGHT, WIDTH, Curve
from lastresort.report.charts.scale import LineName, Plot, amounts, below, chart, drawn_line, level, names_at_ends, unit
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
    """unit: of the values, above the panel. alarming: what is so, from the limit on."""

    unit: str
    lines: tuple[_Line, ...]
    alarming: str
    limit: float
    plot: Plot


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
    across, panels = amounts((point["step"] for curve in curves.values() for point in curve), about=6), list[_Panel]()
    for counted, lines, alarming, limit in wanted:
        drawn = tuple(sorted((line for line in lines if len(line.points) > 1), key=lambda line: line.front))
        if drawn:
            top = TOP + len(panels) * (PANEL + GAP)
            # Up to the alarm at least, so that a picture of small movements looks like one.
            up = amounts([limit, *(value for line in drawn for _, value in line.points)], about=3)
            plot = Plot(WIDTH, top + PANEL, LEFT, RIGHT, top, 0, across, up)
            panels.append(_Panel(counted, drawn, alarming, limit, plot))
    if not panels:
        return None
    last = panels[-1].plot
    return chart(WIDTH, last.height + BOTTOM, label, [*map(_drawn, panels), *_steps(last)])


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


def _drawn(panel: _Panel) -> Markup:
    plot, y = panel.plot, panel.plot.y(panel.limit)
    parts = [Markup('<text class="unit" x="{}" y="{:.1f}">{}</text>').format(LEFT, plot.top - 10, panel.unit)]
    parts += [level(plot.y(tick), LEFT, plot.end, f"{tick:g}") for tick in plot.up.ticks]
    parts.append(Markup('<line class="alarm" x1="{}" x2="{}" y1="{:.1f}" y2="{:.1f}"/>').format(LEFT, plot.end, y, y))
    # Below its line if the unit is above it.
    parts.append(
        Markup('<text class="alarm" x="{}" y="{:.1f}">{} at {:g}</text>').format(
            LEFT + 6, y - 5 if y - plot.top >= LABEL_HEIGHT else y + 12, panel.alarming, panel.limit
        )
    )
    parts += [_line(line, plot) for line in panel.lines]
    names = [
        LineName(line.name, round(plot.x(step) + 9, 1), plot.y(value), front=True)
        for line in panel.lines
        for step, value in line.points[-1:]
        if line.front
    ]
    return Markup("").join([*parts, names_at_ends(names, LABEL_HEIGHT)])


def _line(line: _Line, plot: Plot) -> Markup:
    places = plot.places(line.points)
    dots = [Markup('<circle class="dev" cx="{:.1f}" cy="{:.1f}" r="3.4"/>').format(x, y) for x, y in places]
    return drawn_line(places, dots, dashes="6 4" if line.dashed else "", front=line.front)


def _steps(plot: Plot) -> list[Markup]:
    """Below the last panel."""
    parts = [below(plot.x(tick), plot.height + 18, count(tick)) for tick in plot.across.ticks]
    return [*parts, unit(LEFT, plot.end, plot.height + BOTTOM - 4, "step")]
