"""New inputs for a label that is wanted, shown some of its rows; for a label without rows, those of others show the style."""

from __future__ import annotations

from lastresort.errors import ContractError
from lastresort.synthesis.kinds.kind import Draw, Kind, RowRequest

SHOWN = 4


def _request(draw: Draw) -> RowRequest:
    if draw.label is None:
        raise ContractError("rows for an answer were requested of a task without labels")
    return RowRequest("answer", draw.seeds.some(draw.random, SHOWN, draw.label), draw.label, draw.number)


ANSWER = Kind("answer", _request, needs_labels=True)
