"""New inputs with their answers, from a few rows that show what such rows look like.

Source: Wang et al. 2023, Self-Instruct.
"""

from __future__ import annotations

from lastresort.synthesis import prompts
from lastresort.synthesis.kinds.kind import Draw, Kind, RowRequest

SHOWN = 5


def _request(draw: Draw) -> RowRequest:
    first = draw.next_row("expansion")
    others = [row for row in draw.seeds.rows if row is not first]
    return RowRequest("expansion", prompts.EXPANSION, (first, *draw.some(SHOWN - 1, others)), None)


EXPANSION = Kind("expansion", _request)
