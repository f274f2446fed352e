"""Memory stacked part by part, a bar a method, against the cards: a standalone SVG."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from markupsafe import Markup

from lastresort.hardware.plan.fit import gib
from lastresort.hardware.plan.plan import Bar
from lastresort.report.charts.scale import amounts

WIDTH, TOP, ROW, NAME, BAR = 860, 52, 52, 16, 20  # the height of a row is that of its name, its bar and a gap
KEY_COLUMNS, KEY_ROW = 3, 18
GIB = 1 << 30
CARD_MARKS, CARD_LEVELS, CARD_LEVEL = 3, 3, 14
NEAR_EDGE = 8.0  # per cent of the width
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
    """own: the bar that is planned; with the first card it sets the scale, and what takes far more is cut off at the edge.

    cards: names and bytes of memory, drawn as lines, the plan's own first. label: what the picture shows, for those who do not see
    it. Places across are shares of the width and letters keep their size, so that a page may draw it as narrow as a phone.
    """
    planned = next(bar.per_card_bytes for bar in bars if bar.name == own)
    limit = BEYOND * max(planned, cards[0][1])
    shown = sorted({cards[0], *[card for card in cards[1:] if card[1] < limit][-CARD_MARKS:]}, key=lambda card: card[1])
    scale = amounts([limit / GIB], about=6)
    foot = TOP + ROW * len(bars)

    def x(size: float) -> float:
        """In per cent of the width."""
        return 100 * scale.share(size / GIB)

    parts = [STYLE]
    for tick in scale.ticks:
        at = x(tick * GIB)
        parts.append(_line("grid", at, TOP - 6, foot))
        parts.append(_text("small", at, foot + 16, f"{tick:g} GiB" if tick == scale.ticks[-1] else f"{tick:g}"))
    parts += [_line("card", x(size), TOP - 10, foot) for _, size in shown]
    parts += [
        _text("small", x(size), 10 + CARD_LEVEL * (number % CARD_LEVELS), name)
        for number, (name, size) in enumerate(shown)
    ]
    parts += [_bar(bar, TOP + ROW * number, x) for number, bar in enumerate(bars)]
    parts.append(_key(bars, foot + 42))
    height = foot + 42 + KEY_ROW * (1 + (len(_kinds(bars)) - 1) // KEY_COLUMNS)
    return Markup(
        '<svg xmlns="http://www.w3.org/2000/svg" width="{}" height="{}" role="img" aria-label="{}">{}</svg>'
    ).format(WIDTH, height, label, Markup("").join(parts))


def without_style(picture: str) -> Markup:
    """A picture of `plan_chart` for a page that has the style in a sheet of its own."""
    return Markup(picture.replace(STYLE, ""))


def _bar(bar: Bar, top: int, x: Callable[[float], float]) -> Markup:
    parts = []
    begun = 0
    for kind, (told, colour) in KINDS.items():
        size = sum(part.per_card_bytes for part in bar.parts if part.kind == kind)
        wide = x(begun + size) - x(begun)
        if wide > 0:
            parts.append(
                Markup(
                    '<rect x="{:.2f}%" y="{}" width="{:.2f}%" height="{}" fill="{}"><title>{}: {}</title></rect>'
                ).format(x(begun), top + NAME, max(wide, 0.01), BAR, colour, told, gib(size))
            )
        begun += size
    cut = ", beyond the edge" if x(begun) == x(2 * begun) else ""
    name = Markup('<text class="over" x="0" y="{}">{} {}{}</text>').format(top + NAME - 5, bar.name, gib(begun), cut)
    return Markup("").join((*parts, name))


def _line(kind: str, at: float, top: int, foot: int) -> Markup:
    return Markup('<line class="{0}" x1="{1:.2f}%" x2="{1:.2f}%" y1="{2}" y2="{3}"/>').format(kind, at, top, foot)


def _text(kind: str, at: float, y: int, text: str) -> Markup:
    """Kept inside the picture at its edges."""
    anchor = "start" if at < NEAR_EDGE else "end" if at > 100 - NEAR_EDGE else "middle"
    return Markup('<text class="{}" x="{:.2f}%" y="{}" text-anchor="{}">{}</text>').format(kind, at, y, anchor, text)


def _kinds(bars: Sequence[Bar]) -> list[str]:
    used = {part.kind for bar in bars for part in bar.parts}
    return [kind for kind in KINDS if kind in used]


def _key(bars: Sequence[Bar], top: int) -> Markup:
    parts = []
    for number, kind in enumerate(_kinds(bars)):
        told, colour = KINDS[kind]
        left, y = 100 * (number % KEY_COLUMNS) / KEY_COLUMNS, top + KEY_ROW * (number // KEY_COLUMNS)
        parts.append(
            Markup(
                '<rect x="{0:.2f}%" y="{1}" width="11" height="11" fill="{2}"/>'
                '<text class="small" x="{0:.2f}%" dx="16" y="{3}">{4}</text>'
            ).format(left, y - 10, colour, y, told)
        )
    return Markup("").join(parts)
