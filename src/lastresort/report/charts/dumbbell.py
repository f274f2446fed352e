"""Two scores a row on one axis: the base as a ring, the tuned model as a disc, and between them what was lost or won.

As the ladder's, the strips are separate SVGs with positions in per cent, and colours come from the page's style.
"""

from __future__ import annotations

from collections.abc import Sequence

from markupsafe import Markup

from lastresort.records.gate import FailureModePart
from lastresort.report.charts.ladder import line
from lastresort.report.charts.scale import Scale, scores
from lastresort.report.words.wording import percent

RING, DISC = Markup('<circle class="before" r="5"/>'), Markup('<circle class="after" r="5"/>')


def axis_of(parts: Sequence[FailureModePart]) -> Scale:
    """The axis on which all scores have room."""
    return scores(score for part in parts for score in (part.base, part.tuned))


def strip(part: FailureModePart, scale: Scale, *, lower_is_better: bool = False) -> Markup:
    """base and tuned of a part, each in [0, 1]."""
    before, after = scale.share(part.base), scale.share(part.tuned)
    drawn = [*(line("grid", scale.share(tick)) for tick in scale.ticks), _between(before, after)]
    drawn += [_dot("before", before), _dot("after", after)]
    label = f"{part.name}: {percent(part.base, 0)} before, {percent(part.tuned, 0)} after"
    return Markup('<svg class="strip dumbbell {}" role="img" aria-label="{}">{}</svg>').format(
        way(part, lower_is_better=lower_is_better), label, Markup("").join(drawn)
    )


def way(part: FailureModePart, *, lower_is_better: bool = False) -> str:
    """ "lost", "won" or "same"."""
    change = (part.base - part.tuned) if lower_is_better else (part.tuned - part.base)
    return "lost" if change < 0 else "won" if change > 0 else "same"


def key(shape: Markup) -> Markup:
    """A mark for running text."""
    return Markup('<svg class="glyph dumbbell" viewBox="-7 -7 14 14" aria-hidden="true">{}</svg>').format(shape)


def _between(before: float, after: float) -> Markup:
    return Markup('<line class="between" x1="{:.2f}%" x2="{:.2f}%" y1="50%" y2="50%"/>').format(
        100 * before, 100 * after
    )


def _dot(name: str, at: float) -> Markup:
    return Markup('<circle class="{}" cx="{:.2f}%" cy="50%" r="{}"/>').format(
        name, 100 * at, 6 if name == "before" else 5
    )
