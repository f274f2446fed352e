"""How a climb shares its error, the chance 1 - confidence that it ends wrongly MET, among the tests of the bar that it may make.

    ruled out by the task or its data    nothing
    the first rung                       half, assuming that half of the climbs stop there
    repairs                              4%, in equal parts, and what is left over
    every other rung                     the same part of the rest

The rules were chosen by simulation (docs/simulations.md). The shares add up to the error, so that the promise holds however the
rungs depend on one another (Bonferroni). They are fixed and in the record before anything is measured.

A test of a given size cannot use every share: what the exact test at the last item leaves unused goes to the next rung, and from
the last one to the repairs, which have far more than 4% where the test set is small (28% at 40 items, a bar of 85% and five rungs).
"Cannot use" means: does not need unless the test goes on with fresh items, which is stricter for what was passed on. The first of
five rungs, with 180 of 200 right against 85%, says MET after 200 more items with 44% probability; at its whole half it would with
64%.

A test that says MET hands its whole error on to the one test that is made because of it: that of its repair, or with `goal: cost`
that of the rung with cheaper calls (`records.events.run.ErrorShared`).

**Why a climb wrongly says MET with chance at most the error**, however its tests depend on one another and however often it is
resumed or goes on with fresh items: as long as no test was wrong, every error that was handed on came from a MET that was right,
whose own test can no longer be wrong. So each share counts for one test of a system below the bar alone: its own, or that to
which right METs have handed it (the fallback procedure: Wiens 2003; Wiens and Dmitrienko 2005). What is left to show is that a test
whose error changes, by what the other tests say and while it runs, errs with at most the sum of the shares that it may be given:

    a repaired system is tested once, on the test set. What says MET there at one error says so at every larger one, so the sum
    itself may be used.

    a rung may go on with fresh items. What these are tested at (`evals.evidence.outlook`) may fall as the error grows, since more
    was spent before. So no sum is used but the largest of the shares: whichever it is at any time, a MET is that of one of the
    tests at one share each, throughout, and these err with at most the sum of their errors (Bonferroni).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING

from lastresort.climb.llm_judge import refuse_labels_that_decide_nothing
from lastresort.data.split import groups_of
from lastresort.evals.evidence.bar import check_test_size, smallest_deciding_test, usable_share
from lastresort.ladder import trains
from lastresort.records.events.run import ErrorShared, repair_test
from lastresort.records.record import Record
from lastresort.records.rungs import LacksMemory
from lastresort.report.words.wording import counted
from lastresort.rungs.rung import find_rung
from lastresort.spec.task import Task
from lastresort.types import Example, Unit

if TYPE_CHECKING:
    from lastresort.climb.prepare import PreparedTask

FIRST, REPAIRS = 0.5, 0.04
UNITS = 10**12  # in which shares are counted, so that they add up exactly

Usable = Callable[[float], float]


def error_shares(rungs: Sequence[str], error: float, usable: Usable = float) -> dict[str, float]:
    """The share of each test, by rung and `repair_test` of a rung; multiples of 1e-12 that add up to `error`.

    rungs: those that may be tested, in order. usable: the part of a share that a test can use.
    """
    trained_rungs = [rung for rung in rungs if trains(rung)]
    total = round(error * UNITS)
    repairs = round(REPAIRS * total) if trained_rungs else 0
    shares, unused = dict[str, int](), 0
    for rung, planned_share in zip(rungs, _planned_shares(len(rungs), total, repairs), strict=True):
        offered = planned_share + unused
        shares[rung] = min(offered, math.ceil(usable(offered / UNITS) * UNITS))
        unused = offered - shares[rung]
    last_tests = [repair_test(rung) for rung in trained_rungs] or list(rungs[-1:])
    for number, test in enumerate(last_tests):
        part, remainder = divmod(unused + repairs, len(last_tests))
        shares[test] = shares.get(test, 0) + part + (number < remainder)
    return {test: share / UNITS for test, share in shares.items()}


def _planned_shares(rungs: int, total: int, repairs: int) -> list[int]:
    """In units, before anything is passed on."""
    if rungs < 2:
        return [total - repairs] * rungs
    first_share = round(FIRST * total)
    part, remainder = divmod(total - repairs - first_share, rungs - 1)
    return [first_share, *(part + (number < remainder) for number in range(rungs - 1))]


def shares_of(task: Task, train: Sequence[Example], test_items: int | None) -> dict[str, float]:
    """Of a climb of this task. test_items: size of the test set; None for graded scores and groups, which can use any share."""
    rungs = [rung for rung in task.ladder if not ruled_out(rung, task, train)]
    usable = float if test_items is None else partial(usable_share, n=test_items, bar=task.bar)
    return error_shares(rungs, 1 - task.confidence, usable)


def ruled_out(rung: str, task: Task, train: Sequence[Example]) -> bool:
    """Whether the task or its data exclude the rung on every machine: memory does not count, as a run may be resumed elsewhere."""
    reason = find_rung(rung).skip_reason(task, train)
    return reason is not None and not isinstance(reason, LacksMemory)


def smallest_share(shares: dict[str, float], task: Task) -> float | None:
    """Of the rungs; None where none may be tested."""
    return min((shares[rung] for rung in task.ladder if rung in shares), default=None)


def share_of_tuned(shares: dict[str, float], task: Task) -> float:
    """Of a tuned system that is tested outside a climb, whose rung is not known: the smallest one of a rung that trains. All of the
    error where none can be tested.
    """
    trained_shares = [share for rung, share in shares.items() if rung in task.ladder and trains(rung)]
    return min(trained_shares, default=smallest_share(shares, task) or 1 - task.confidence)


def note_shares(record: Record, shares: dict[str, float]) -> None:
    """Once: a run keeps the shares that it began with."""
    if record.last(ErrorShared) is None:
        record.append(ErrorShared(r=max(1, len(shares)), shares=shares))


def refuse_few_items(prepared: PreparedTask) -> None:
    """Raises TaskError where some rung could not meet the bar on so few test items."""
    task, smallest = prepared.task, smallest_share(prepared.shares, prepared.task)
    if smallest is None:
        return
    unit: Unit = "item" if groups_of(prepared.split.test) is None else "group"
    check_test_size(
        prepared.n_units,
        bar=task.bar,
        alpha=smallest,
        binary=prepared.counts_right,
        unit=unit,
        where=f'{task.path.name}, key "{"split" if task.examples.test is None else "examples"}.test"',
        instead=partial(_what_would_do, prepared, unit),
        test_file=task.examples.test is not None,
    )
    refuse_labels_that_decide_nothing(task, prepared.scorer, prepared.n_units, smallest, unit)


def _what_would_do(prepared: PreparedTask, unit: Unit) -> tuple[str, ...]:
    """Instead of a larger test set: the highest bar, in hundredths, that this one can show, and its size for a shorter ladder."""
    task, train, binary = prepared.task, prepared.split.train, prepared.counts_right

    def smallest_size(bar: float, ladder: tuple[str, ...], n: int) -> int | None:
        """The smallest test set that decides, at the shares of one of n."""
        changed_task = task.model_copy(update={"bar": bar, "ladder": ladder})
        share = smallest_share(shares_of(changed_task, train, n if binary else None), changed_task)
        return None if share is None else smallest_deciding_test(bar, share, binary=binary)

    n = prepared.n_units
    lower_bars = (hundredths / 100 for hundredths in range(math.ceil(100 * task.bar) - 1, 0, -1))
    bar = next((bar for bar in lower_bars if (smallest_size(bar, task.ladder, n) or n) <= n), None)
    shorter = task.ladder[:2] if len(task.ladder) > 2 else task.ladder[:1]
    shorter_size = smallest_size(task.bar, shorter, n) if shorter != task.ladder else None
    return (
        *([] if bar is None else [f"a bar of at most {bar:g}, which {counted(n, unit)} can show"]),
        *([] if shorter_size is None else [f"{shorter_size} with `ladder: [{', '.join(shorter)}]`"]),
    )
