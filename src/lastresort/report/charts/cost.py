"""Cumulative cost by number of calls, as SVG: a line per system, starting at what its training cost, crossings marked."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup

from lastresort.records.decision_parts import BreakEven, Currency, PricedSystem
from lastresort.report.charts.scale import LineName, Plot, amounts, chart, drawn_line, names_at_ends
from lastresort.report.words.wording import count, counted

WIDTH, HEIGHT = 760, 300
LEFT, RIGHT, TOP, BOTTOM = 64, 118, 30, 42
LABEL_HEIGHT = 16
LABEL_WIDTH = 90  # of the number of calls at a crossing, about
BEYOND = 1.6  # how far the picture goes beyond the last crossing
MONTHS = 12  # shown where nothing crosses
DASHES = ("7 4", "2 4", "10 4 2 4")


@dataclass(frozen=True, slots=True)
class CostLine:
    """start: before the first call. per_call: what each adds. Both in USD, or in hours of the machine."""

    name: str
    start: float
    per_call: float
    tuned: bool

    def at(self, calls: float) -> float:
        return self.start + calls * self.per_call


def cost_chart(costs: BreakEven, label: str) -> Markup | None:
    """The curves of `break_even`, whose costs compare. None where there is no tuned system to compare, or nothing costs anything.

    label: what the picture shows, for those who do not see it.
    """
    if costs.currency is None or not costs.pairs:
        return None
    lines = lines_of(costs)
    if not any(line.per_call or line.start for line in lines):
        return None
    across = amounts([calls_shown(costs, lines)], about=5)
    up = amounts([line.at(across.high) for line in lines])
    plot = Plot(WIDTH, HEIGHT, LEFT, RIGHT, TOP, BOTTOM, across, up)
    parts = [*_grid(plot, costs.currency), *(_drawn(line, number, plot) for number, line in enumerate(lines))]
    names = [LineName(line.name, plot.end + 9, plot.y(line.at(across.high)), line.tuned) for line in lines]
    return chart(WIDTH, HEIGHT, label, [*parts, names_at_ends(names, LABEL_HEIGHT), _crossings(costs, lines, plot)])


def lines_of(costs: BreakEven) -> list[CostLine]:
    """One line a system, in USD or hours; tuned ones last, so that they lie in front."""
    lines = [_line(system, costs.currency) for system in costs.systems]
    return sorted(lines, key=lambda line: line.tuned)


def _line(system: PricedSystem, currency: Currency | None) -> CostLine:
    start, per_call = system.one_off_machine_s / 3600, system.per_call_machine_s / 3600
    if currency == "usd":
        assert system.one_off_usd is not None, "all systems compare in USD"
        assert system.per_call_usd is not None, "all systems compare in USD"
        start, per_call = system.one_off_usd, system.per_call_usd
    return CostLine(system.rung, start, per_call, system.tuned)


def calls_shown(costs: BreakEven, lines: Sequence[CostLine]) -> float:
    """How far the picture goes: beyond the last crossing; where nothing crosses, a year of use, or until calls have cost as much as
    training.
    """
    crossed = max((pair.calls for pair in costs.pairs if pair.calls), default=0)
    if crossed:
        return float(BEYOND * crossed)
    if costs.calls_per_month:
        return float(MONTHS * costs.calls_per_month)
    dearest = max(line.per_call for line in lines)
    return max(line.start for line in lines) / dearest if dearest else 0.0


def _grid(plot: Plot, currency: str) -> list[Markup]:
    sign, told = ("$", "USD, cumulative") if currency == "usd" else ("", "hours of this machine, cumulative")
    step = plot.up.high / (len(plot.up.ticks) - 1)
    digits = max(0, -math.floor(math.log10(step) + 1e-9))
    named = Markup('<text class="unit" x="{}" y="14">{}</text>').format(LEFT - 48, told)
    return [named, *plot.axes(lambda tick: f"{sign}{tick:,.{digits}f}", count, "calls")]


def _drawn(line: CostLine, number: int, plot: Plot) -> Markup:
    places = plot.places((calls, line.at(calls)) for calls in (0, plot.across.high))
    dashes = "" if line.tuned else DASHES[number % len(DASHES)]
    return drawn_line(places, dashes=dashes, front=line.tuned)


def _crossings(costs: BreakEven, lines: Sequence[CostLine], plot: Plot) -> Markup:
    """A ring where a tuned line falls below another, labelled with the number of calls."""
    by_name = {line.name: line for line in lines}
    crossed = sorted(((pair.calls, pair) for pair in costs.pairs if pair.calls), key=lambda one: -one[0])
    parts: list[Markup] = []
    taken: list[tuple[float, float]] = []
    for calls, pair in crossed:
        x, y = plot.x(calls), plot.y(by_name[pair.tuned].at(calls))
        parts.append(Markup('<circle class="crossing" cx="{:.1f}" cy="{:.1f}" r="5"/>').format(x, y))
        # right of a crossing and below it neither of its lines runs; at the foot of the picture there is no room
        low = y + 18
        while any(abs(low - other) < LABEL_HEIGHT and abs(x - beside) < LABEL_WIDTH for beside, other in taken):
            low += 2
        above = low > HEIGHT - BOTTOM - 4
        taken.append((x, y - 12 if above else low))
        parts.append(
            Markup('<text class="name" x="{:.1f}" y="{:.1f}" text-anchor="{}">{}</text>').format(
                x - 10 if above else x + 8,
                taken[-1][1],
                "end" if above else "start",
                _label(calls, pair.months if len(crossed) == 1 else None),
            )
        )
    return Markup("").join(parts)


def _label(calls: int, months: float | None) -> str:
    return counted(calls, "call") + ("" if months is None else f", {months:,.1f} months")
