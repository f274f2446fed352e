"""What a gate measured as a picture: a strip a measure, with the difference, its interval, no change and the margin, on one axis.

As the ladder's, the strips are separate SVGs with positions in per cent, and colours come from the page's style. The target is not
among them: what is won there is many times what is lost elsewhere.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup

from lastresort.records.gate import GateFindings, SuiteVerdict
from lastresort.report.charts import ladder
from lastresort.report.charts.ladder import estimate, framed, line
from lastresort.report.charts.scale import Scale, differences
from lastresort.report.words.wording import in_limits, in_points, verdict

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
