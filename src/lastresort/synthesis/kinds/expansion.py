"""New inputs with their answers, from a few rows that show what such rows look like.

Source: Wang et al. 2023, Self-Instruct.
"""

from __future__ import annotations

from lastresort.synthesis import prompts
from lastresort.synthesis.kinds.kind import Draw, Kind, RowRequest

SHOWN = 5


def _request(draw: Draw) -> RowRequest:
    first = draw.next_row()
    others = [row for row in draw.seeds.some(draw.random, SHOWN, None) if row is not first]
    return RowRequest("expansion", prompts.EXPANSION, (first, *others[: SHOWN - 1]), None, draw.number)


EXPANSION = Kind("expansion", _request)
