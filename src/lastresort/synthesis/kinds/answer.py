"""New inputs for a label that is wanted, shown some of its rows; for a label without rows, those of others show the style."""

from __future__ import annotations

from lastresort.synthesis import prompts
from lastresort.synthesis.kinds.kind import Draw, Kind, RowRequest

SHOWN = 4


def _request(draw: Draw) -> RowRequest:
    label = draw.label if draw.label is not None else draw.random.choice(list(draw.seeds.by_label))
    return RowRequest("answer", prompts.ANSWER, draw.seeds.some(draw.random, SHOWN, label), label, draw.number)


ANSWER = Kind("answer", _request, needs_labels=True)
