"""Ways that were trained with the same seeds, as SVG: their scores, joined by seed, and a mean difference with its interval.

Narrower than the other charts, so that a phone shows it whole.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean

from markupsafe import Markup

from lastresort.report.charts.scale import Plot, Scale, below, chart, differences, dot, level, polyline, scores
from lastresort.report.words.wording import percent, points

WIDTH, HEIGHT = 420, 300
SHOWN_PX = 576  # at most so wide
TOP, BOTTOM = 14, 58
SCORES, DIFFERENCE = (44, 250), (300, 408)  # from where to where each half has its axis
COLUMNS = {2: (0.27, 0.77), 3: (0.16, 0.5, 0.84)}  # where so many ways are, as shares of the half of the scores
MOST_APART, SPREAD = 7, 44  # between the dots of two seeds, and of all


@dataclass(frozen=True, slots=True)
class SeedScores:
    """The scores of the ways with one seed, in their order. title: what is said of it."""

    scores: tuple[float, ...]
    title: str


@dataclass(frozen=True, slots=True)
class ArmsPicture:
    """names: of the ways, two or three, the last of which is drawn in front. base: the score without training. mean, interval: of
    the difference of two of them.
    """

    names: tuple[str, ...]
    seeds: Sequence[SeedScores]
    base: float
    mean: float
    interval: tuple[float, float]


def arms_chart(drawn: ArmsPicture, label: str) -> Markup:
    """label: what the picture shows, for those who do not see it."""
    values = [score for seed in drawn.seeds for score in seed.scores]
    left = _half(SCORES, scores([drawn.base, *values]))
    right = _half(DIFFERENCE, differences((drawn.mean, *drawn.interval)))
    axes = [level(left.y(tick), *SCORES, percent(tick, 0)) for tick in left.up.ticks]
    axes += [level(right.y(tick), *DIFFERENCE, _in_points(tick)) for tick in right.up.ticks]
    return chart(WIDTH, HEIGHT, label, [*axes, _scores(drawn, left), _difference(drawn, right)], "chart narrow")


def _half(ends: tuple[int, int], up: Scale) -> Plot:
    return Plot(WIDTH, HEIGHT, ends[0], WIDTH - ends[1], TOP, BOTTOM, Scale(0, 1, ()), up)


def _in_points(tick: float) -> str:
    return f"{100 * tick:+.0f}".replace("-", "−") if tick else "0"


def _scores(drawn: ArmsPicture, plot: Plot) -> Markup:
    """A line and a dot for each way a seed, moved apart so that equal scores do not hide each other."""
    count, base, columns = len(drawn.seeds), plot.y(drawn.base), COLUMNS[len(drawn.names)]
    apart = min(MOST_APART, SPREAD / max(1, count - 1))
    lines, dots, front = list[Markup](), list[Markup](), list[Markup]()
    for number, seed in enumerate(drawn.seeds):
        aside = apart * (number - (count - 1) / 2)
        ends = [(plot.x(x) + aside, plot.y(y)) for x, y in zip(columns, seed.scores, strict=True)]
        lines.append(polyline(ends))
        dots += [dot(*end, seed.title) for end in ends[:-1]]
        front.append(dot(*ends[-1], seed.title))
    means = [fmean(own) for own in zip(*(seed.scores for seed in drawn.seeds), strict=True)]
    named = [_named(plot.x(x), *of) for x, *of in zip(columns, drawn.names, map(percent, means), strict=True)]
    return Markup('<g class="line">{}{}{}</g><g class="line front">{}</g>{}{}').format(
        polyline([(plot.left, base), (plot.end, base)], "7 4"),
        Markup("").join(lines),
        Markup("").join(dots),
        Markup("").join(front),
        Markup('<text class="name" x="{}" y="{:.1f}">base</text>').format(plot.left + 4, base - 5),
        Markup("").join(named),
    )


def _difference(drawn: ArmsPicture, plot: Plot) -> Markup:
    x, zero, said = plot.x(0.5), plot.y(0.0), points(drawn.mean)
    return Markup('<line class="bar" x1="{}" x2="{}" y1="{:.1f}" y2="{:.1f}"/><g class="line front">{}{}</g>{}').format(
        plot.left,
        plot.end,
        zero,
        zero,
        polyline([(x, plot.y(limit)) for limit in drawn.interval]),
        dot(x, plot.y(drawn.mean), said),
        _named(x, "difference", said),
    )


def _named(x: float, name: str, value: str) -> Markup:
    """Below an axis."""
    return below(x, HEIGHT - BOTTOM + 24, name) + below(x, HEIGHT - BOTTOM + 42, value)
