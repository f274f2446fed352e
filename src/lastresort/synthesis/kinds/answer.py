"""New inputs for a label that is wanted, shown some of its rows, and others for contrast. A label without rows has only those."""

from __future__ import annotations

from lastresort.synthesis import prompts
from lastresort.synthesis.kinds.kind import Draw, Kind, RowRequest

SHOWN, CONTRAST = 4, 2


def _request(draw: Draw) -> RowRequest:
    label = draw.label if draw.label is not None else draw.random.choice(list(draw.seeds.by_label))
    own = draw.some(SHOWN, draw.seeds.of(label))
    others = [row for row in draw.seeds.rows if row.output != label and row not in own]
    return RowRequest("answer", prompts.ANSWER, (*own, *draw.some(CONTRAST, others)), label)


ANSWER = Kind("answer", _request, needs_labels=True)
