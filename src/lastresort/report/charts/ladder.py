"""The ladder as a picture: one strip a rung, with estimate, interval and the bar, all on one axis.

The strips are separate SVGs with positions in per cent, so that the table around them holds real text and the picture
follows the width of the page. Colours come from the page's style, so that both colour schemes are legible.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from markupsafe import Markup

from lastresort.records.decision import Failures, RunView
from lastresort.records.measurement import BarTest
from lastresort.report.charts.scale import Scale, scores
from lastresort.report.words.wording import interval, percent, round_percent, verdict
from lastresort.types import BarSoFar

# One shape a verdict, centred on 0,0: colour alone must not carry the meaning.
SHAPES = {
    "MET": Markup('<circle r="6.5"/>'),
    "NOT_MET": Markup(
        '<path d="M-4.6-4.6 4.6 4.6M-4.6 4.6 4.6-4.6" fill="none" stroke-width="3.4" stroke-linecap="round"/>'
    ),
    "UNDECIDED": Markup('<path d="M0-7.6 7.6 0 0 7.6-7.6 0Z" class="hollow" stroke-width="2.6"/>'),
}


def axis_of(decision: RunView) -> Scale:
    """The axis on which every tested rung and the bar have room."""
    limits = [limit for rung in decision.rungs if rung.test for limit in rung.test.interval]
    return scores([*limits, decision.bar])


def strip(test: BarTest | None, bar: float, scale: Scale) -> Markup:
    """One rung's strip; without a test only the grid and the bar, for the eye to follow."""
    parts = [*(line("grid", scale.share(tick)) for tick in scale.ticks), line("bar", scale.share(bar))]
    if test is None:
        return Markup('<svg class="strip" aria-hidden="true">{}</svg>').format(Markup("").join(parts))
    parts.append(estimate(scale, test.score, test.interval, test.verdict))
    label = (
        f"Score {percent(test.score)}, interval {interval(test.interval)}, bar {round_percent(bar)}: "
        f"{verdict(test.verdict)}"
    )
    return framed(parts, test.verdict, label)


def estimate(scale: Scale, at: float, limits: Sequence[float], shape: str) -> Markup:
    """An interval as a band, and the shape of a verdict at the estimate."""
    low, high = (scale.share(limit) for limit in limits)
    band = Markup(
        '<rect class="span" x="{:.2f}%" width="{:.2f}%" y="50%" height="8" rx="4" transform="translate(0 -4)"/>'
    ).format(100 * low, 100 * (high - low))
    point = Markup('<svg class="point" x="{:.2f}%" y="50%" overflow="visible">{}</svg>')
    return band + point.format(100 * scale.share(at), SHAPES[shape])


def framed(parts: Sequence[Markup], shape: str, label: str) -> Markup:
    """A strip of these parts, in the colour of the verdict that the shape shows; label: what it shows, in words."""
    return Markup('<svg class="strip {}" role="img" aria-label="{}">{}</svg>').format(
        shape, label, Markup("").join(parts)
    )


def axis(scale: Scale, label: Callable[[float], str] = lambda tick: percent(tick, 0)) -> Markup:
    """The labelled ticks below the strips, kept inside the picture."""
    text, drawn = Markup('<text x="{:.2f}%" y="14" text-anchor="{}">{}</text>'), []
    for tick in scale.ticks:
        at = scale.share(tick)
        drawn.append(text.format(100 * at, "end" if at > 0.97 else "start" if at < 0.03 else "middle", label(tick)))
    return Markup('<svg class="axis" aria-hidden="true">{}</svg>').format(Markup("").join(drawn))


def bar_label(bar: float, scale: Scale) -> Markup:
    """The bar's name above the strips, kept inside the picture."""
    at = scale.share(bar)
    anchor = "end" if at > 0.85 else "start" if at < 0.15 else "middle"
    shift = {"end": 6, "start": -6, "middle": 0}[anchor]
    name = Markup('<text class="bar-name" x="{:.2f}%" dx="{}" y="13" text-anchor="{}">bar {}</text>')
    return Markup('<svg class="axis" aria-hidden="true">{}</svg>').format(
        name.format(100 * at, shift, anchor, round_percent(bar))
    )


def glyph(name: str) -> Markup:
    """The verdict's shape, small, for running text."""
    return Markup('<svg class="glyph" viewBox="-9 -9 18 18" aria-hidden="true">{}</svg>').format(SHAPES[name])


def line(name: str, at: float) -> Markup:
    """Upright, at a share of the strip's width."""
    return Markup('<line class="{}" x1="{:.2f}%" x2="{:.2f}%" y1="0" y2="100%"/>').format(name, 100 * at, 100 * at)


def strip_so_far(test: BarSoFar) -> Markup:
    """A test before its verdict, on an axis that stays as it is while the interval narrows."""
    scale = scores([0.0, 1.0])
    parts = [*(line("grid", scale.share(tick)) for tick in scale.ticks), line("bar", scale.share(test.bar))]
    parts.append(estimate(scale, test.score, test.interval, "UNDECIDED"))
    label = f"Score so far {percent(test.score)}, interval {interval(test.interval)}, bar {round_percent(test.bar)}"
    return framed(parts, "UNDECIDED", label)


FAILURES = (("format", "form"), ("knowledge", "knowledge"), ("other", "other"))


def failures_strip(failures: Failures) -> Markup:
    """The wrong answers of a rung by kind, as parts of one bar; the kinds that are known are in its label."""
    counts = {kind: count for kind, count in failures.model_dump().items() if count is not None}
    total, at, parts = sum(counts.values()) or 1, 0, []
    for kind, _ in FAILURES:
        if wide := counts.get(kind, 0):
            parts.append(
                Markup('<rect class="part {}" x="{:.2f}%" width="{:.2f}%" height="100%"/>').format(
                    kind, 100 * at / total, 100 * wide / total
                )
            )
            at += wide
    label = ", ".join(f"{word} {counts[kind]}" for kind, word in FAILURES if kind in counts)
    return Markup('<svg class="split" role="img" aria-label="{}">{}</svg>').format(label, Markup("").join(parts))
