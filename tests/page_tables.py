"""Tables of figures on a page of the docs, between marks that a program finds again."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Sequence


def line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    return "\n".join(line(cells) for cells in (head, ["---"] * len(head), *rows))


def block(name: str) -> re.Pattern[str]:
    return re.compile(rf"(<!-- {name}: [^>]*-->\n)(.*?)(<!-- end of {name} -->)", re.DOTALL)


def filled(page: str, name: str, body: str) -> str:
    """The page with this body between the marks of that name."""
    return block(name).sub(lambda found: f"{found[1]}{body}\n{found[3]}", page)


def allowed(promise: float, climbs: int) -> float:
    """What a promised rate may come to in so many climbs: three standard errors more."""
    return promise + 3 * math.sqrt(promise * (1 - promise) / climbs)
