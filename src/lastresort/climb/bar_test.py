"""Testing a frozen system once: item by item in the fixed order, until the evidence decides."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from lastresort.climb.prepare import BETA
from lastresort.data.split import groups_of
from lastresort.evals.evidence import judge_bar, outlook, so_far
from lastresort.evals.measure import JobRefused, MeasureJob, Result
from lastresort.records.record import ItemScore, Measurement
from lastresort.rungs.rung import Workbench
from lastresort.spec.task import Task
from lastresort.stop import FirstOf, StopSignal
from lastresort.systems.system import System
from lastresort.types import BarSoFar, Example, Judgement


def order_of_test(test: Sequence[Example]) -> list[Example]:
    """The fixed order of the test set; with groups, each group's items together, groups in the order they first appear."""
    groups: dict[str, list[Example]] = {}
    for example, label in zip(test, groups_of(test) or map(str, range(len(test))), strict=True):
        groups.setdefault(label, []).append(example)
    return [example for items in groups.values() for example in items]


def run_test(bench: Workbench, rung: str, system: System, test: Sequence[Example]) -> tuple[Judgement, Measurement]:
    """Judge a frozen system against the bar. A finished test is read from the record and never repeated."""
    task, binary = bench.task, bench.scorer.binary
    known = bench.record.measurement(rung, system.name, "test")
    order = order_of_test(test)
    if known is None:
        bench.progress.stage(f"{rung}: testing {system.name}", len(order))
        bench.at(rung, system.name, "test")
        items = _until_decided(bench, rung, system, order)
        known = Measurement(rung, system.name, "test", len(order), tuple(items))
        bench.record.add_measurement(known)
    judgement = judge_so_far(task, binary, known.items, order)
    assert judgement is not None, "a finished test is judged"
    return _with_outlook(judgement, task, binary, known.items, order), known


def _with_outlook(
    found: Judgement, task: Task, binary: bool, items: Sequence[ItemScore], order: Sequence[Example]
) -> Judgement:
    """An UNDECIDED also says how far it is."""
    if found.outcome != "UNDECIDED":
        return found
    scores, groups = _whole_units(items, order)
    far = outlook(
        scores,
        bar=task.bar,
        alpha=task.alpha_per_rung,
        beta=BETA,
        binary=binary,
        n_needed=found.n_needed,
        groups=groups,
        seed=task.split.seed,
    )
    return replace(found, outlook=far)


def _until_decided(bench: Workbench, rung: str, system: System, order: Sequence[Example]) -> list[ItemScore]:
    """Scores of the first items, batch by batch as jobs, up to the batch by which the evidence decides, or of all."""
    size, enough = bench.answerer(system).model.batch_size, StopSignal()
    starts = range(0, len(order), size)
    jobs = [MeasureJob(start, system, tuple(order[start : start + size]), refused_is_wrong=True) for start in starts]
    items: list[ItemScore] = []

    def use(job: MeasureJob, result: Result) -> None:
        if enough.requested() is not None:  # it was under way when the evidence decided
            return
        if isinstance(result, JobRefused):
            raise result.error()
        items.extend(result.items)
        bench.at(rung, system.name, "test", test=_seen_so_far(bench.task, bench.scorer.binary, items, order))
        if len(items) < len(order) and judge_so_far(bench.task, bench.scorer.binary, items, order) is not None:
            enough.request()

    request = bench.run_jobs(jobs, use, FirstOf((enough, bench.stop)))
    if request is not None and enough.requested() is None:
        raise request.error()
    return items


def judge_so_far(
    task: Task,
    binary: bool,
    items: Sequence[ItemScore],
    order: Sequence[Example],
    alpha: float | None = None,
) -> Judgement | None:
    """The verdict after these items, the first of `order`; None while more are needed. A group counts once it is whole.

    alpha: the error of a false MET, by default that of a rung.
    """
    scores, groups = _whole_units(items, order)
    if not scores:
        return None
    return judge_bar(
        scores,
        bar=task.bar,
        alpha=task.alpha_per_rung if alpha is None else alpha,
        beta=BETA,
        binary=binary,
        n_available=len(order if groups is None else set(groups_of(order) or ())),
        groups=groups,
    )


def _seen_so_far(task: Task, binary: bool, items: Sequence[ItemScore], order: Sequence[Example]) -> BarSoFar | None:
    """None before the first whole group."""
    scores, groups = _whole_units(items, order)
    return so_far(scores, bar=task.bar, alpha=task.alpha_per_rung, binary=binary, groups=groups) if scores else None


def _whole_units(items: Sequence[ItemScore], order: Sequence[Example]) -> tuple[list[float], Sequence[str] | None]:
    """The scores of the items whose group is complete, and their groups, None where there are none."""
    scores, labels = [item.score for item in items], groups_of(order)
    if labels is None:
        return scores, None
    whole = len(items)
    while 0 < whole < len(order) and labels[whole - 1] == labels[whole]:
        whole -= 1
    return scores[:whole], labels[:whole]
