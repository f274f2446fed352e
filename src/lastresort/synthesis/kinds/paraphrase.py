"""An input of train in other words. The answer is kept."""

from __future__ import annotations

from lastresort.synthesis import prompts
from lastresort.synthesis.kinds.kind import Draw, Kind, RowRequest


def _request(draw: Draw) -> RowRequest:
    row = draw.next_row("paraphrase")
    return RowRequest("paraphrase", prompts.PARAPHRASE, (row,), row.output)


PARAPHRASE = Kind("paraphrase", _request, keeps_passages=True)
