"""Whether a rung that trains fits the time that is left: half a training is worth nothing, so it is not begun."""

from __future__ import annotations

from lastresort.ladder.prepare import Prepared
from lastresort.ladder.workload import workload
from lastresort.rungs import TRAINED
from lastresort.rungs.rung import Rung, Workbench


def beyond_limits(bench: Workbench, prepared: Prepared, rung: Rung) -> str | None:
    """Why a rung that has not begun is skipped for want of time, None where it fits or nothing is known.

    The answer is noted, so that a resumed climb gives the same, until `limits.hours` is another.
    """
    hours = bench.task.limits.hours
    if rung.name not in TRAINED or hours is None or bench.record.last("frozen", rung.name) is not None:
        return None
    known = bench.record.last("plan", rung.name)
    if known is not None and (known["beyond"] is None or known["limit_hours"] == hours):
        return None if known["beyond"] is None else str(known["beyond"])
    seconds = rung.forecast(prepared.task, workload(prepared, rung.name)).seconds
    beyond = too_long(seconds, bench.hours_left())
    body = {"rung": rung.name, "seconds": seconds, "limit_hours": hours, "beyond": beyond}
    bench.record.note("plan", body, key=rung.name)
    return beyond


def too_long(seconds: float | None, hours_left: float | None) -> str | None:
    """Why a plan of so many seconds does not fit, None where it does or nothing is known."""
    if seconds is None or hours_left is None or seconds <= 3600 * hours_left:
        return None
    return (
        f"its plan of {seconds / 3600:.2g} hours exceeds the {hours_left:.2g} hours that are left of `limits.hours`; raise it "
        "and go on with --resume"
    )
