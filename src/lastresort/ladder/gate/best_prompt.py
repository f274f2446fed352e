"""The target of a gate in a climb: the tuned system and the best untuned one, on all test items, or on the first of them.

Each was tested against the bar before, and may have stopped early: that verdict stays. The items that were left are asked now,
under a split of their own, so that the two can be compared in pairs. How many are compared is fixed beforehand: as many as the
tests happened to use would depend on what they found.
"""

from __future__ import annotations

from collections.abc import Sequence

from lastresort.data.split import groups_of
from lastresort.evals.gate import Comparator, TargetFound, target_found
from lastresort.ladder.break_even import currency_of
from lastresort.ladder.costs import priced_systems
from lastresort.ladder.decide import RungOutcome
from lastresort.ladder.gate.target import beginning
from lastresort.ladder.testing import order_of_test
from lastresort.records.record import Measurement
from lastresort.rungs import TRAINED
from lastresort.rungs.rung import Workbench
from lastresort.systems.files import load_system
from lastresort.types import Example

QUICK_COMPARED = 96

Costs = tuple[float, float] | tuple[None, None]


def best_prompt(outcomes: Sequence[RungOutcome]) -> RungOutcome | None:
    """The untuned system with the highest score in its test; None where none was tested."""
    untuned = [outcome for outcome in outcomes if outcome.judgement is not None and outcome.rung not in TRAINED]
    return max(untuned, key=lambda outcome: outcome.score, default=None)


def target_of(
    bench: Workbench,
    test: Sequence[Example],
    prompt: RungOutcome | None,
    tuned: RungOutcome,
    alpha: float,
    *,
    quick: bool = False,
) -> TargetFound:
    """Does the tuned system meet the bar, and is it worth more than the best prompt?

    prompt: None where no untuned system was tested; the bar alone decides then. quick: compared on the first items only, which can
    cost power and nothing else.
    """
    assert tuned.judgement is not None
    if prompt is None:
        return target_found(tuned.judgement, alpha=alpha)
    whole = order_of_test(test)
    order = beginning(whole, QUICK_COMPARED) if quick else whole
    first, second = (_scores(bench, outcome, order) for outcome in (prompt, tuned))
    costs = _call_costs(bench, prompt, tuned)
    comparator = Comparator(
        f"{prompt.rung} ({prompt.system})", first, second, bench.scorer.binary, groups_of(order), *costs
    )
    return target_found(tuned.judgement, comparator, alpha=alpha, seed=bench.task.split.seed)


def _scores(bench: Workbench, outcome: RungOutcome, order: Sequence[Example]) -> list[float]:
    """Of every item of the order, with which the test set begins."""
    assert outcome.system is not None
    tested = bench.record.measurement(outcome.rung, outcome.system, "test")
    assert tested is not None
    items = [*tested.items[: len(order)], *_rest(bench, outcome, order[tested.n :], tested.n).items]
    return [item.score for item in items]


def _rest(bench: Workbench, outcome: RungOutcome, left: Sequence[Example], start: int) -> Measurement:
    """Items that the test did not come to. They begin where a batch ended, so that batches are those of the whole test."""
    assert outcome.system is not None
    split = f"rest of test[{start}:{start + len(left)}]"
    known = bench.record.measurement(outcome.rung, outcome.system, split)
    if known is not None or not left:
        return known or Measurement(outcome.rung, outcome.system, split, 0, ())
    system = load_system(bench.candidate_folder(outcome.rung, outcome.system))
    bench.progress.stage(f"gate: the rest of the test set, {system.name}", len(left))
    items = [item for batch in bench.measured(system, left, refused_is_wrong=True) for item in batch]
    found = Measurement(outcome.rung, outcome.system, split, len(left), tuple(items))
    bench.record.add_measurement(found)
    return found


def _call_costs(bench: Workbench, prompt: RungOutcome, tuned: RungOutcome) -> Costs:
    """Of a call of each, in one unit; None where a price is missing."""
    calls = {system.rung: system.call for system in priced_systems(bench.task, bench.record, [prompt, tuned])}
    hourly_price = bench.task.use.hourly_price
    currency = currency_of(calls.values(), hourly_price)
    if currency is None or len(calls) < 2:
        return None, None
    return calls[prompt.rung].value(currency, hourly_price), calls[tuned.rung].value(currency, hourly_price)
