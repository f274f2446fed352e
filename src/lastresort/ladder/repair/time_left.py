"""Whether a training anew fits the time that is left: half of one is worth nothing, so it is not begun."""

from __future__ import annotations

from lastresort.ladder.limits import too_long
from lastresort.ladder.repair.when import UNTRAINED, Kind
from lastresort.rungs.rung import Workbench


def beyond_time(bench: Workbench, rung: str, kind: Kind) -> str | None:
    """Why a repair is not begun, None where it fits or nothing is known. A training takes as long as the longest of its rung."""
    if kind in UNTRAINED:
        return None
    took = [note["seconds"] for note in bench.record.notes("training") if note["rung"] == rung]
    return too_long(max(took, default=None), bench.hours_left())
