"""What milder training gains and loses, a point each: the target on dev against general ability, of adapter scales; and against
the distance from the base, of checkpoints.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from markupsafe import Markup

from lastresort.records.decision_parts import RepairView, Weighing
from lastresort.report.charts.scale import Plot, amounts, chart, differences, drawn_line, scores
from lastresort.report.words.titles import checkpoint
from lastresort.report.words.wording import in_points, percent

WIDTH, HEIGHT = 760, 300
LEFT, RIGHT, TOP, BOTTOM = 58, 60, 16, 44
GENERAL = "general"


@dataclass(frozen=True, slots=True)
class TradeoffPoint:
    """lost: of general, tuned less base. dev: of the target. good: as the repair was judged."""

    scale: float
    lost: float
    dev: float
    good: bool
    frozen: bool


def points(repairs: Sequence[RepairView]) -> list[TradeoffPoint]:
    """The scales that were measured, the largest first; nothing where general was not."""
    found = [
        TradeoffPoint(repair.setting, one.difference, repair.dev.score, repair.good, repair.frozen)
        for repair in repairs
        if repair.kind == "scale" and repair.dev is not None
        for one in repair.measures
        if one.suite == GENERAL and one.counts and one.difference is not None
    ]
    return sorted(found, key=lambda point: -point.scale)


def tradeoff_chart(repairs: Sequence[RepairView], bar: float, label: str) -> Markup | None:
    """None where fewer than two scales can be drawn. label: what the picture shows, for those who do not see it."""
    drawn = points(repairs)
    if len(drawn) < 2:
        return None
    across, up = differences(point.lost for point in drawn), scores([bar, *(point.dev for point in drawn)])
    plot = Plot(WIDTH, HEIGHT, LEFT, RIGHT, TOP, BOTTOM, across, up)
    parts = _axes(
        plot, lambda tick: in_points(tick) if tick else "0", "points of general ability, tuned minus base", bar
    )
    parts.append(drawn_line(plot.places((point.lost, point.dev) for point in drawn)))
    return chart(WIDTH, HEIGHT, label, [*parts, *(_drawn(point, plot) for point in drawn)], "chart tradeoff")


def _axes(plot: Plot, across: Callable[[float], str], what: str, bar: float) -> list[Markup]:
    y = plot.y(bar)
    line = Markup('<line class="bar" x1="{}" x2="{}" y1="{:.1f}" y2="{:.1f}"/>').format(LEFT, plot.end, y, y)
    axes = plot.axes(lambda tick: percent(tick, 0), across, what)
    return [*axes, line + _text(plot.end + 6, y + 4, "the bar", "start")]


def _drawn(point: TradeoffPoint, plot: Plot) -> Markup:
    x, y = plot.x(point.lost), plot.y(point.dev)
    told = f"scale {point.scale:g}: {percent(point.dev)} on dev, {in_points(point.lost)} points of general ability"
    dot = Markup('<circle class="{}" cx="{:.1f}" cy="{:.1f}" r="5"><title>{}</title></circle>').format(
        "" if point.good else "dev", x, y, told
    )
    style = "name front" if point.frozen else "name"
    return dot + _text(x + 8, y - 8, f"{point.scale:g}", "start", style)


def _text(x: float, y: float, text: str, anchor: str, style: str = "") -> Markup:
    return Markup('<text class="{}" x="{:.1f}" y="{:.1f}" text-anchor="{}">{}</text>').format(style, x, y, anchor, text)


def distance_chart(weighing: Weighing, bar: float, label: str) -> Markup | None:
    """Checkpoints: dev score against the distance from the base; a disc is likely to meet the bar, a ring is not. None where there
    are fewer than two. label: what the picture shows, for those who do not see it.
    """
    drawn = sorted(weighing.checkpoints, key=lambda one: one.distance)
    if len(drawn) < 2:
        return None
    across, up = amounts(one.distance for one in drawn), scores([bar, *(one.dev.score for one in drawn)])
    plot = Plot(WIDTH, HEIGHT, LEFT, RIGHT, TOP, BOTTOM, across, up)
    what = "KL from the base on general requests, nats per token"
    parts = _axes(plot, lambda tick: f"{tick:g}", what, bar)
    points = [(plot.x(one.distance), plot.y(one.dev.score)) for one in drawn]
    taken = [LabelBox(LEFT, plot.end, plot.y(bar) + 5), *(LabelBox(x - 6, x + 6, y + 5) for x, y in points)]
    for one, (x, y) in zip(drawn, points, strict=True):
        title = (
            f"{checkpoint(one)}: {percent(one.dev.score)} on dev, {one.distance:.3f} nats per token from the base, "
            f"{percent(one.met_chance, 0)} likely to meet the bar"
        )
        likely = one.met_chance >= weighing.least_chance
        parts.append(
            Markup('<circle class="{}" cx="{:.1f}" cy="{:.1f}" r="5"><title>{}</title></circle>').format(
                "" if likely else "dev", x, y, title
            )
        )
        anchor, place = _free_place(x, y, len(checkpoint(one)), taken)
        taken.append(place)
        style = "name front" if one.candidate == weighing.chosen else "name"
        edge = place.left if anchor == "start" else place.right
        parts.append(_text(edge, place.base, checkpoint(one), anchor, style))
    return chart(WIDTH, HEIGHT, label, parts, "chart tradeoff")


LETTER, LINE = 7.4, 13  # of a label, about


@dataclass(frozen=True, slots=True)
class LabelBox:
    """What a label or a point covers. base: its lower edge."""

    left: float
    right: float
    base: float

    def covers(self, other: LabelBox) -> bool:
        return self.left < other.right and other.left < self.right and abs(self.base - other.base) < LINE


def _free_place(x: float, y: float, letters: int, taken: Sequence[LabelBox]) -> tuple[str, LabelBox]:
    """Of a label beside a point the nearest place that is free, with its anchor; where none is, above the point."""
    width, places = LETTER * letters, list[tuple[str, LabelBox]]()
    for away in (-8, 4, 17, -21, 30, -34, 43, -47, 56, -60):
        places.append(("start", LabelBox(x + 9, x + 9 + width, y + away)))
        places.append(("end", LabelBox(x - 9 - width, x - 9, y + away)))
    inside = [
        (anchor, box)
        for anchor, box in places
        if box.left >= LEFT and box.right <= WIDTH - RIGHT and TOP <= box.base <= HEIGHT - BOTTOM - 4
    ]
    free = (place for place in inside if not any(place[1].covers(other) for other in taken))
    return next(free, (inside or places)[0])
