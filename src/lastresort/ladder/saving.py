"""With `goal: cost`, after the bar is met: whether the rung sft would pay for itself, by its plan."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict

from lastresort.ladder.break_even import Amount, Priced, Saving, saving_of
from lastresort.ladder.costs import paid_by_tokens, priced_systems
from lastresort.ladder.decide import Rules, RungOutcome
from lastresort.ladder.prepare import Prepared
from lastresort.ladder.workload import workload
from lastresort.report.break_even import not_foretold
from lastresort.rungs import TRAINED
from lastresort.rungs.forecast import answering
from lastresort.rungs.rung import ForecastsCalls, Workbench, find_rung

TUNED = "sft"


def saving_after(bench: Workbench, prepared: Prepared, rules: Rules, outcomes: Sequence[RungOutcome]) -> Saving | None:
    """What `goal: cost` says after these outcomes; None where it is not asked: another goal, no bar met, or a tuned model
    met it.

    What was planned is noted, so that a resumed climb goes the same way on a machine that is faster today, until it is weighed
    by another volume or price.
    """
    last = outcomes[-1] if outcomes else None
    if bench.task.goal != "cost" or last is None or last.judgement is None or last.judgement.outcome != "MET":
        return None
    if last.rung in TRAINED:
        return None
    if (why := _out_of_reach(bench, rules, last.rung)) is not None:
        return Saving(last.rung, False, not_foretold(last.rung, why))
    weighed = {"hourly_price": bench.task.use.hourly_price, "calls_per_month": bench.task.use.calls_per_month}
    known = bench.record.last("saving", last.rung)
    if known is not None and known["weighed"] == weighed:
        return Saving(**known["saving"])
    met = priced_systems(bench.task, bench.record, [last])
    found = _planned(bench, prepared, met[-1])
    bench.record.note("saving", {"weighed": weighed, "saving": asdict(found)}, key=last.rung)
    return found


def _out_of_reach(bench: Workbench, rules: Rules, met: str) -> str | None:
    """Why there is no rung sft to go on to."""
    if TUNED not in rules.ladder:
        return f"the task leaves {TUNED} out of `ladder`"
    if rules.until is not None and rules.ladder.index(rules.until) < rules.ladder.index(TUNED):
        return f"it was told to go no further than {rules.until}"
    rung = find_rung(TUNED)
    assert rung is not None
    skipped = rung.skip_reason(bench.task, bench.train)
    return None if skipped is None else f"{TUNED} does not apply, since {skipped}"


def _planned(bench: Workbench, prepared: Prepared, met: Priced) -> Saving:
    task, rung = bench.task, find_rung(TUNED)
    assert isinstance(rung, ForecastsCalls)
    assert task.use.calls_per_month, "goal: cost asks for it"
    work = workload(prepared, TUNED)
    whole, call = rung.forecast(task, work), rung.forecast_call(task, work)
    seconds = None if call.seconds is None else call.seconds * _slowness(prepared, met)
    return saving_of(
        met.rung,
        met.call,
        Amount(call.usd, seconds),
        Amount(whole.usd, whole.seconds),
        hourly_price=task.use.hourly_price,
        calls_per_month=task.use.calls_per_month,
    )


def _slowness(prepared: Prepared, met: Priced) -> float:
    """How many times longer a call took on this machine than a forecast of it says, at least 1: what was measured of one model
    corrects what is foretold of the other."""
    if paid_by_tokens(prepared.task, met.rung):
        return 1.0
    machine = workload(prepared, met.rung).machine
    foretold = answering("", machine, 1, met.prompt_tokens, 0, met.completion_tokens).seconds
    return max(1.0, met.seconds / foretold) if foretold else 1.0
