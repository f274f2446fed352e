"""What the record says of costs: tested systems with what a call of each took, and `break_even` of decision.json.

With `goal: cost`, after the bar is met: whether the rung sft would pay for itself, by its plan.
"""

from __future__ import annotations

from collections.abc import Sequence

from lastresort.climb.break_even import (
    NOTHING,
    Amount,
    MeasuredSystem,
    cheapest,
    crossing_of,
    currency_of,
    missing_prices,
    months_of,
    saving_of,
    tokens_amount,
)
from lastresort.climb.decide import Cheapest, Rules, RungOutcome
from lastresort.climb.prepare import PreparedTask
from lastresort.climb.workload import workload
from lastresort.ladder import COST_RUNG, RUNGS, trains
from lastresort.models.protocol import is_endpoint
from lastresort.records.decision_parts import BreakEven, CostPair, PricedSystem, SavingView, SharedItems
from lastresort.records.events.search import SavingWeighed, SystemFrozen
from lastresort.records.reasons import BeyondUntil, CostSaving, DoesNotApply, NotOnLadder, Obstacle
from lastresort.records.record import ItemScore, Record
from lastresort.records.view import Fold, fold_of
from lastresort.report.words.break_even import why_gone_on
from lastresort.rungs.forecast import answering
from lastresort.rungs.rung import ForecastsCalls, Workbench, find_rung
from lastresort.spec.paths import is_paid
from lastresort.spec.task import Task


def priced_systems(task: Task, record: Record, outcomes: Sequence[RungOutcome]) -> list[MeasuredSystem]:
    """Every tested system, in the order of the ladder.

    Costs of a call are means over the test items that all systems which meet the bar answered, so that they compare; of a
    system that answered none of these, over its own.
    """
    items = {outcome.rung: _test_items(record, outcome) for outcome in outcomes if outcome.judgement is not None}
    met_rungs = [outcome.rung for outcome in outcomes if outcome.judgement and outcome.judgement.outcome == "MET"]
    shared_ids = _shared_ids([_answered_items(items[rung]) for rung in met_rungs])
    fold = fold_of(record) if any(trains(rung) for rung in items) else Fold()
    systems = []
    for outcome in outcomes:
        test_items = items.get(outcome.rung, [])
        if answered_items := _answered_items(test_items):
            common = [item for item in answered_items if item.id in shared_ids] or answered_items
            systems.append(_priced_system(task, fold, outcome, common, test_items))
    return systems


def cheapest_of(task: Task, systems: Sequence[MeasuredSystem]) -> Cheapest | None:
    """Which of several systems that meet the bar wins under `goal: cost`; None where there is nothing to choose."""
    met = [system for system in systems if system.met]
    if task.goal != "cost" or len(met) < 2:
        return None
    best = cheapest(met, task.use.hourly_price)
    return Cheapest(None if best is None else best.rung)


def break_even_entry(task: Task, systems: Sequence[MeasuredSystem], saving: CostSaving | None) -> BreakEven | None:
    """`break_even` of decision.json; None where nothing was tested."""
    if not systems:
        return None
    hourly_price, calls_per_month = task.use.hourly_price, task.use.calls_per_month
    calls, one_offs = [system.call for system in systems], [system.one_off for system in systems]
    return BreakEven(
        currency=currency_of((*calls, *one_offs), hourly_price),
        missing=tuple(missing_prices(calls, one_offs, hourly_price)),
        calls_per_month=calls_per_month,
        hourly_price=hourly_price,
        systems=tuple(_entry(system, hourly_price) for system in systems),
        pairs=tuple(
            _pair(tuned, untuned, task) for tuned in systems if tuned.tuned for untuned in systems if not untuned.tuned
        ),
        saving=None if saving is None else SavingView.from_fields_of(saving, because=why_gone_on(saving)),
    )


def paid_by_tokens(task: Task, rung: str) -> bool:
    """Whether calls of the rung's systems are paid by their tokens, since the model answers from somewhere else. A scripted model
    stands for such a one where the task gives its prices.
    """
    if trains(rung):
        return False
    has_prices = None not in (task.use.prompt_price, task.use.output_price)
    return is_paid(task.model) or (is_endpoint(task.model) and has_prices)


def _priced_system(
    task: Task, fold: Fold, outcome: RungOutcome, items: Sequence[ItemScore], test_items: Sequence[ItemScore]
) -> MeasuredSystem:
    """fold: of the run, where the rung trains. items: over which the means are. test_items: all test answers."""
    assert outcome.judgement is not None
    assert outcome.system is not None
    tuned, n, use = trains(outcome.rung), len(items), task.use
    prompt_tokens = sum(item.prompt_tokens for item in items) / n
    completion_tokens = sum(item.completion_tokens for item in items) / n
    seconds = sum(item.seconds for item in items) / n
    call = Amount(0.0, seconds)
    if paid_by_tokens(task, outcome.rung):
        call = tokens_amount(prompt_tokens, completion_tokens, use.prompt_price, use.output_price)
    return MeasuredSystem(
        rung=outcome.rung,
        name=outcome.system,
        model=task.tuned_model if tuned else task.model,
        tuned=tuned,
        judgement=outcome.judgement,
        items=n,
        prompt_tokens=prompt_tokens,
        completion_tokens=completion_tokens,
        seconds=seconds,
        call=call,
        one_off=_one_off(fold, outcome.rung) if tuned else NOTHING,
        scores={item.id: item.score for item in test_items},
    )


def _one_off(fold: Fold, rung: str) -> Amount:
    """All that the rung took. That includes the adapter that it went on from, where there was one."""
    start = RUNGS[rung].starts_from
    rungs = [start, rung] if start is not None and fold.rung(start).frozen else [rung]
    total = NOTHING
    for name in rungs:
        cost = fold.cost(name)
        total += Amount(cost.usd, cost.seconds)
    return total


def _entry(system: MeasuredSystem, hourly_price: float | None) -> PricedSystem:
    call_s, one_off_s = system.call.machine_s, system.one_off.machine_s
    assert call_s is not None, "measured, not foretold"
    assert one_off_s is not None, "measured, not foretold"
    return PricedSystem(
        rung=system.rung,
        name=system.name,
        model=system.model,
        tuned=system.tuned,
        verdict=system.judgement.outcome,
        score=system.judgement.score,
        interval=system.judgement.interval,
        items=system.items,
        prompt_tokens=round(system.prompt_tokens, 1),
        completion_tokens=round(system.completion_tokens, 1),
        seconds=round(system.seconds, 6),
        per_call_usd=system.call.usd(hourly_price),
        per_call_machine_s=call_s,
        one_off_usd=system.one_off.usd(hourly_price),
        one_off_machine_s=one_off_s,
    )


def _pair(tuned: MeasuredSystem, untuned: MeasuredSystem, task: Task) -> CostPair:
    crossing = crossing_of(tuned, untuned, task.use.hourly_price)
    return CostPair(
        tuned=tuned.rung,
        untuned=untuned.rung,
        crossing=crossing.kind,
        calls=crossing.calls,
        months=months_of(crossing.calls, task.use.calls_per_month),
        both=_on_shared_items(tuned, untuned),
    )


def _on_shared_items(tuned: MeasuredSystem, untuned: MeasuredSystem) -> SharedItems:
    """How the two did on the test items that both answered."""
    names = [name for name in tuned.scores if name in untuned.scores]
    means = {
        side: sum(system.scores[name] for name in names) / len(names) if names else None
        for side, system in (("tuned", tuned), ("untuned", untuned))
    }
    return SharedItems(n=len(names), **means)


def _test_items(record: Record, outcome: RungOutcome) -> list[ItemScore]:
    assert outcome.system is not None
    measurement = record.measurement(outcome.rung, outcome.system, "test")
    return [] if measurement is None else list(measurement.items)


def _answered_items(items: Sequence[ItemScore]) -> list[ItemScore]:
    """Without those that the model did not take: they cost nothing."""
    return [item for item in items if item.finish != "refused"]


def _shared_ids(items: Sequence[Sequence[ItemScore]]) -> frozenset[str]:
    """Ids of the items that all of these hold."""
    names = [frozenset(item.id for item in system_items) for system_items in items]
    return frozenset.intersection(*names) if names else frozenset()


def saving_after(
    bench: Workbench, prepared: PreparedTask, rules: Rules, outcomes: Sequence[RungOutcome]
) -> CostSaving | None:
    """What `goal: cost` says after these outcomes; None where it weighs nothing: another goal, no bar met, or a tuned model
    met it.

    What was planned is noted, so that a resumed climb goes the same way on a machine that is faster today, until it is weighed
    by another volume or price.
    """
    last = outcomes[-1] if outcomes else None
    if bench.task.goal != "cost" or last is None or last.judgement is None or last.judgement.outcome != "MET":
        return None
    if trains(last.rung):
        return None
    if (obstacle := _obstacle(bench, rules)) is not None:
        return CostSaving(last.rung, False, obstacle)
    use, event = bench.task.use, bench.record.last(SavingWeighed, last.rung)
    if event is not None and (event.hourly_price, event.calls_per_month) == (use.hourly_price, use.calls_per_month):
        return CostSaving(**event.model_dump(exclude={"kind", "hourly_price"}))
    systems = priced_systems(bench.task, bench.record, [last])
    saving = _planned_saving(bench, prepared, systems[-1])
    bench.record.append(
        SavingWeighed.from_fields_of(saving, calls_per_month=use.calls_per_month, hourly_price=use.hourly_price)
    )
    return saving


def _obstacle(bench: Workbench, rules: Rules) -> Obstacle | None:
    """Why there is no rung with cheaper calls to go on to."""
    if COST_RUNG not in rules.ladder:
        return NotOnLadder(COST_RUNG)
    if rules.until is not None and rules.ladder.index(rules.until) < rules.ladder.index(COST_RUNG):
        return BeyondUntil(rules.until)
    if bench.record.last(SystemFrozen, COST_RUNG) is not None:  # it was gone on to, perhaps on a larger machine
        return None
    skipped = find_rung(COST_RUNG).skip_reason(bench.task, bench.train)
    return None if skipped is None else DoesNotApply(COST_RUNG, skipped)


def _planned_saving(bench: Workbench, prepared: PreparedTask, system: MeasuredSystem) -> CostSaving:
    task, rung = bench.task, find_rung(COST_RUNG)
    assert isinstance(rung, ForecastsCalls)
    assert task.use.calls_per_month, "goal: cost asks for it"
    work = workload(prepared, COST_RUNG)
    forecast, call_forecast = rung.forecast(task, work), rung.forecast_call(task, work)
    seconds = None if call_forecast.seconds is None else call_forecast.seconds * _slowness(prepared, system)
    return saving_of(
        system.rung,
        system.call,
        Amount(call_forecast.usd, seconds),
        Amount(forecast.usd, forecast.seconds),
        hourly_price=task.use.hourly_price,
        calls_per_month=task.use.calls_per_month,
    )


def _slowness(prepared: PreparedTask, system: MeasuredSystem) -> float:
    """How many times longer a call took on this machine than a forecast of it says, at least 1: what was measured of one model
    corrects what is foretold of the other."""
    if paid_by_tokens(prepared.task, system.rung):
        return 1.0
    machine = workload(prepared, system.rung).machine
    forecast_s = answering("", machine, 1, system.prompt_tokens, 0, system.completion_tokens).seconds
    return max(1.0, system.seconds / forecast_s) if forecast_s else 1.0
