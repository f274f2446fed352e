"""Testing a frozen system once: item by item in the fixed order, until the evidence decides."""

from __future__ import annotations

from collections.abc import Sequence

from lastresort.evals.evidence import judge_bar
from lastresort.evals.scorers import Scorer
from lastresort.ladder.prepare import BETA
from lastresort.records.record import ItemScore, Measurement
from lastresort.rungs.rung import Workbench
from lastresort.spec.task import Task
from lastresort.systems.system import System
from lastresort.types import Example, Judgement


def order_of_test(test: Sequence[Example], grouped: bool) -> list[Example]:
    """The fixed order of the test set; with groups, each group's items together, groups in the order they first appear."""
    if not grouped:
        return list(test)
    groups: dict[str | None, list[Example]] = {}
    for example in test:
        groups.setdefault(example.group, []).append(example)
    return [example for items in groups.values() for example in items]


def run_test(bench: Workbench, rung: str, system: System, test: Sequence[Example]) -> tuple[Judgement, Measurement]:
    """Judge a frozen system against the bar. A finished test is read from the record and never repeated."""
    task, scorer = bench.task, bench.scorer
    known = bench.record.measurement(rung, system.name, "test")
    order = order_of_test(test, task.split.group_by is not None)
    if known is None:
        bench.progress.stage(f"{rung}: testing {system.name}", len(order))
        items: list[ItemScore] = []
        for batch in bench.measured(system, order):
            items += batch
            if len(items) < len(order) and _judge(task, scorer, items, order) is not None:
                break
        known = Measurement(rung, system.name, "test", len(order), tuple(items))
        bench.record.add_measurement(known)
    judgement = _judge(task, scorer, known.items, order)
    assert judgement is not None, "a finished test is judged"
    return judgement, known


def _judge(task: Task, scorer: Scorer, items: Sequence[ItemScore], order: Sequence[Example]) -> Judgement | None:
    scores = [item.score for item in items]
    groups: list[str] | None = None
    available = len(order)
    if task.split.group_by is not None:
        groups = [str(example.group) for example in order[: len(items)]]
        available = len({example.group for example in order})
        if len(items) < len(order):  # a group counts once all its items are in
            while groups and groups[-1] == str(order[len(items)].group):
                groups.pop()
                scores.pop()
            if not groups:
                return None
    return judge_bar(
        scores,
        bar=task.bar,
        alpha=task.alpha_per_rung,
        beta=BETA,
        binary=scorer.binary,
        n_available=available,
        groups=groups,
    )
