"""What a gate measured, as pictures.

As the ladder's, the strips are separate SVGs with positions in per cent, and colours come from the page's style.

A strip a measure: the difference, its interval, no change and the margin, on one axis. The target is not among them: what is won
there is many times what is lost elsewhere. A dumbbell a part of a measure: the base as a ring, the tuned model as a disc, and
between them what was lost or won.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup

from lastresort.records.gate import FailureModePart, GateFindings, SuiteVerdict
from lastresort.report.charts import ladder
from lastresort.report.charts.ladder import estimate, framed, line
from lastresort.report.charts.scale import Scale, differences, scores
from lastresort.report.words.wording import in_limits, in_points, percent, verdict

# Shape and colour are those of the bar's verdicts: kept, lost, or unknown.
LIKE = {"NON_INFERIOR": "MET", "REGRESSED": "NOT_MET", "UNDERPOWERED": "UNDECIDED", "UNINFORMATIVE": "UNDECIDED"}


@dataclass(frozen=True, slots=True)
class GateStrip:
    """A difference with its interval against a margin. n_needed: None if no more items are needed."""

    name: str
    difference: float
    interval: tuple[float, float]
    margin: float
    verdict: SuiteVerdict
    n: int = 0
    n_needed: int | None = None


def strips(gate: GateFindings) -> list[GateStrip]:
    """The measures of which there is something to draw."""
    return [
        GateStrip(one.name, one.difference, one.interval, one.margin, one.verdict, one.n, one.n_needed)
        for one in gate.suites
        if one.difference is not None and one.interval is not None and one.margin is not None
    ]


def axis_of(strips: Sequence[GateStrip]) -> Scale:
    """The axis on which all intervals and margins have room."""
    return differences(value for one in strips for value in (*one.interval, -one.margin))


def strip(one: GateStrip, scale: Scale) -> Markup:
    shape = LIKE[one.verdict]
    parts = [*(line("grid", scale.share(tick)) for tick in scale.ticks if tick)]
    parts += [line("zero", scale.share(0.0)), line("bar", scale.share(-one.margin))]
    parts.append(estimate(scale, one.difference, one.interval, shape))
    label = (
        f"Difference {in_points(one.difference)} points, interval {in_limits(one.interval)}, "
        f"margin {in_points(-one.margin)}: {verdict(one.verdict)}"
    )
    return framed(parts, shape, label)


def axis(scale: Scale) -> Markup:
    """The labelled ticks below the strips, in points."""
    return ladder.axis(scale, lambda tick: f"{100 * tick:+.3g}".replace("-", "−") if tick else "0")


RING, DISC = Markup('<circle class="before" r="5"/>'), Markup('<circle class="after" r="5"/>')


def dumbbell_axis(parts: Sequence[FailureModePart]) -> Scale:
    """The axis on which all scores have room."""
    return scores(score for part in parts for score in (part.base, part.tuned))


def dumbbell(part: FailureModePart, scale: Scale, *, lower_is_better: bool = False) -> Markup:
    """base and tuned of a part, each in [0, 1]."""
    before, after = scale.share(part.base), scale.share(part.tuned)
    between = Markup('<line class="between" x1="{:.2f}%" x2="{:.2f}%" y1="50%" y2="50%"/>')
    drawn = [line("grid", scale.share(tick)) for tick in scale.ticks]
    drawn.append(between.format(100 * before, 100 * after))
    drawn += [_dot("before", before), _dot("after", after)]
    label = f"{part.name}: {percent(part.base, 0)} before, {percent(part.tuned, 0)} after"
    return Markup('<svg class="strip dumbbell {}" role="img" aria-label="{}">{}</svg>').format(
        way(part, lower_is_better=lower_is_better), label, Markup("").join(drawn)
    )


def way(part: FailureModePart, *, lower_is_better: bool = False) -> str:
    """ "lost", "won" or "same"."""
    change = (part.base - part.tuned) if lower_is_better else (part.tuned - part.base)
    return "lost" if change < 0 else "won" if change > 0 else "same"


def dumbbell_key(shape: Markup) -> Markup:
    """A mark for running text."""
    return Markup('<svg class="glyph dumbbell" viewBox="-7 -7 14 14" aria-hidden="true">{}</svg>').format(shape)


def _dot(name: str, at: float) -> Markup:
    return Markup('<circle class="{}" cx="{:.2f}%" cy="50%" r="{}"/>').format(
        name, 100 * at, 6 if name == "before" else 5
    )
