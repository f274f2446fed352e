"""R, over how many tests a run shares its error: noted when it begins, so that no later version changes a verdict."""

from __future__ import annotations

from dataclasses import replace

from lastresort.ladder.prepare import Prepared
from lastresort.records.record import Record


def with_shares(record: Record, prepared: Prepared) -> Prepared:
    """The task with the R that its run began with. A run of an earlier version, whose record says nothing of R, kept no share for a
    repaired system.
    """
    noted, task = record.last("r"), prepared.task
    if noted is None:
        begun = record.last("task") is not None
        noted = {"r": len(task.ladder) if begun else task.r}
        record.note("r", noted)
    return replace(prepared, task=task.model_copy(update={"counts_repair": noted["r"] == task.r}))
