"""Memory stacked part by part, a bar a method, against the cards: a standalone SVG."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from markupsafe import Markup

from lastresort.hardware.plan.fit import gib
from lastresort.hardware.plan.plan import Bar
from lastresort.report.charts.scale import amounts

WIDTH, LEFT, RIGHT, TOP, ROW, BAR = 860, 96, 150, 58, 46, 24
GIB = 1 << 30
CARD_MARKS = 3
BEYOND = 1.6  # how far the picture goes beyond the plan and its card
# Colours that people who do not see red or green tell apart (Okabe & Ito 2008), dark to light in the order of the stack.
KINDS = {
    "weights": ("weights", "#0072b2"),
    "server": ("server's weights", "#56b4e9"),
    "adapters": ("adapters", "#009e73"),
    "gradients": ("gradients", "#f0e442"),
    "optimizer": ("optimizer", "#e69f00"),
    "activations": ("activations", "#d55e00"),
    "cache": ("keys and values", "#cc79a7"),
    "logits": ("logits", "#999999"),
    "buffers": ("buffers", "#666666"),
    "context": ("device and gaps", "#bbbbbb"),
}
STYLE = Markup(
    "<style>text{font:12px system-ui,sans-serif;fill:#222}.small{font-size:11px;fill:#555}.grid{stroke:#ddd}"
    ".card{stroke:#222;stroke-dasharray:4 3}.over{font-weight:bold}"
    "@media (prefers-color-scheme:dark){text{fill:#eee}.small{fill:#aaa}.grid{stroke:#444}.card{stroke:#eee}}</style>"
)


def plan_chart(bars: Sequence[Bar], own: str, cards: Sequence[tuple[str, int]], label: str) -> Markup:
    """own: the bar that is planned; with the first card it sets the
    scale, and what takes far more is cut off at the edge. cards: names and bytes of memory, drawn as lines, the plan's own first.
    label: what the picture shows, for those who do not see it.
    """
    planned = next(bar.per_card_bytes for bar in bars if bar.name == own)
    limit = BEYOND * max(planned, cards[0][1])
    shown = sorted({cards[0], *[card for card in cards[1:] if card[1] < limit][-CARD_MARKS:]}, key=lambda card: card[1])
    scale = amounts([limit / GIB], about=6)
    foot = TOP + ROW * len(bars)

    def x(size: float) -> float:
        return LEFT + (WIDTH - LEFT - RIGHT) * scale.share(size / GIB)

    parts = [STYLE]
    for tick in scale.ticks:
        at = x(tick * GIB)
        parts.append(
            Markup('<line class="grid" x1="{0:.1f}" x2="{0:.1f}" y1="{1}" y2="{2}"/>').format(at, TOP - 6, foot)
        )
        parts.append(
            Markup('<text class="small" x="{:.1f}" y="{}" text-anchor="middle">{:g}</text>').format(at, foot + 16, tick)
        )
    parts.append(
        Markup('<text class="small" x="{:.1f}" y="{}">GiB per device</text>').format(
            x(scale.high * GIB) + 22, foot + 16
        )
    )
    for number, bar in enumerate(bars):
        parts.append(_bar(bar, TOP + ROW * number, x))
    for number, (name, size) in enumerate(shown):
        at, up = x(size), 14 + 14 * (number % 2)
        parts.append(
            Markup('<line class="card" x1="{0:.1f}" x2="{0:.1f}" y1="{1}" y2="{2}"/>').format(at, up + 6, foot)
        )
        parts.append(
            Markup('<text class="small" x="{:.1f}" y="{}" text-anchor="middle">{}</text>').format(at, up, name)
        )
    parts.append(_key(bars, foot + 42))
    height = foot + 42 + 18 * (1 + (len(_kinds(bars)) - 1) // 5)
    return Markup(
        '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {} {}" role="img" aria-label="{}">{}</svg>'
    ).format(WIDTH, height, label, Markup("").join(parts))


def without_style(picture: str) -> Markup:
    """A picture of `plan_chart` for a page that has the style in a sheet of its own."""
    return Markup(picture.replace(STYLE, ""))


def _bar(bar: Bar, top: int, x: Callable[[float], float]) -> Markup:
    parts = [Markup('<text x="{}" y="{}" text-anchor="end">{}</text>').format(LEFT - 8, top + 17, bar.name)]
    begun = 0
    for kind, (told, colour) in KINDS.items():
        size = sum(part.per_card_bytes for part in bar.parts if part.kind == kind)
        wide = x(begun + size) - x(begun)
        if wide > 0:
            parts.append(
                Markup(
                    '<rect x="{:.1f}" y="{}" width="{:.1f}" height="{}" fill="{}"><title>{}: {}</title></rect>'
                ).format(x(begun), top, max(wide, 0.1), BAR, colour, told, gib(size))
            )
        begun += size
    cut = " \u2192" if x(begun) == x(2 * begun) else ""
    parts.append(
        Markup('<text class="over" x="{:.1f}" y="{}">{}{}</text>').format(x(begun) + 6, top + 17, gib(begun), cut)
    )
    return Markup("").join(parts)


def _kinds(bars: Sequence[Bar]) -> list[str]:
    used = {part.kind for bar in bars for part in bar.parts}
    return [kind for kind in KINDS if kind in used]


def _key(bars: Sequence[Bar], top: int) -> Markup:
    parts = []
    for number, kind in enumerate(_kinds(bars)):
        told, colour = KINDS[kind]
        left, y = LEFT + 146 * (number % 5), top + 18 * (number // 5)
        parts.append(
            Markup(
                '<rect x="{}" y="{}" width="11" height="11" fill="{}"/><text class="small" x="{}" y="{}">{}</text>'
            ).format(left, y - 10, colour, left + 16, y, told)
        )
    return Markup("").join(parts)
