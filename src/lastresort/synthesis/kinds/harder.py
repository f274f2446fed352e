"""Harder variants of one row, with their answers.

Source: Xu et al. 2024, WizardLM (Evol-Instruct), of which only the steps that keep the task are used.
"""

from __future__ import annotations

from lastresort.synthesis import prompts
from lastresort.synthesis.kinds.kind import Draw, Kind, RowRequest


def _request(draw: Draw) -> RowRequest:
    return RowRequest("harder", prompts.HARDER, (draw.next_row("harder"),), None)


HARDER = Kind("harder", _request)
