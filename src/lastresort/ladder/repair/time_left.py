"""Whether a training anew fits the time that is left: half of one is worth nothing, so it is not begun."""

from __future__ import annotations

from lastresort.ladder.limits import too_long
from lastresort.ladder.repair.entries import PLANNED, TESTED
from lastresort.ladder.repair.stages import Repair
from lastresort.ladder.repair.when import UNTRAINED
from lastresort.rungs.rung import Workbench


def beyond_time(bench: Workbench, rung: str, repair: Repair) -> str | None:
    """Why a repair is not begun, None where it fits or nothing is known. A training takes as long as the longest of its rung."""
    if repair.kind in UNTRAINED:
        return None
    took = [note["seconds"] for note in bench.record.notes("training") if note["rung"] == rung]
    beyond = too_long(max(took, default=None), bench.hours_left())
    if beyond is not None:
        bench.record.note(PLANNED, {"limit_hours": bench.task.limits.hours}, key=f"{rung} {repair.key}")
    return beyond


def has_other_time(bench: Workbench, rung: str, repair: Repair) -> bool:
    """Whether a repair that did not fit is weighed anew, since `limits.hours` is another. No more once a repaired system was
    tested: a second one has no share of the error.
    """
    noted = bench.record.last(PLANNED, f"{rung} {repair.key}")
    tested = bench.record.last(TESTED, rung) is not None
    return noted is not None and not tested and bool(noted["limit_hours"] != bench.task.limits.hours)
