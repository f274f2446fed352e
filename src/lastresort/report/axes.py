"""What stands beside a picture, as SVG: levels across it with their labels, labels below it, and what they count."""

from __future__ import annotations

from markupsafe import Markup


def level(y: float, left: float, right: float, label: str) -> Markup:
    """A value of the axis that goes up: a line from left to right, and its label before it."""
    line = Markup('<line class="grid" x1="{}" x2="{}" y1="{:.1f}" y2="{:.1f}"/>').format(left, right, y, y)
    return line + Markup('<text x="{}" y="{:.1f}" text-anchor="end">{}</text>').format(left - 8, y + 4, label)


def below(x: float, y: float, label: str) -> Markup:
    """A value of the axis that goes across."""
    return Markup('<text x="{:.1f}" y="{}" text-anchor="middle">{}</text>').format(x, y, label)


def unit(left: float, right: float, y: float, what: str) -> Markup:
    """What the axis that goes across counts, in the middle below it."""
    return Markup('<text class="unit" x="{}" y="{}" text-anchor="middle">{}</text>').format((left + right) / 2, y, what)
