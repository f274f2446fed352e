"""Testing a frozen system once: item by item in the fixed order, until the evidence decides."""

from __future__ import annotations

from collections.abc import Sequence

from lastresort.evals.evidence import judge_bar
from lastresort.evals.measure import measured
from lastresort.evals.scorers import Scorer
from lastresort.ladder.prepare import BETA
from lastresort.records.record import ItemScore, Measurement, Record
from lastresort.spec.task import Task
from lastresort.systems.answerer import Answerer
from lastresort.types import Example, Judgement, Progress


def order_of_test(test: Sequence[Example], grouped: bool) -> list[Example]:
    """The fixed order of the test set; with groups, each group's items together, groups in the order they first appear."""
    if not grouped:
        return list(test)
    groups: dict[str | None, list[Example]] = {}
    for example in test:
        groups.setdefault(example.group, []).append(example)
    return [example for items in groups.values() for example in items]


def run_test(
    rung: str,
    answerer: Answerer,
    test: Sequence[Example],
    *,
    task: Task,
    scorer: Scorer,
    record: Record,
    progress: Progress,
) -> tuple[Judgement, Measurement]:
    """Judge a system against the bar. A finished test is read from the record and never repeated."""
    name = answerer.system.name
    known = record.measurement(rung, name, "test")
    grouped = task.split.group_by is not None
    order = order_of_test(test, grouped)
    if known is None:
        progress.stage(f"{rung}: testing {name}", len(order))
        items: list[ItemScore] = []
        for batch in measured(answerer, order, scorer, task.output, batch_size=answerer.model.batch_size):
            items += batch
            progress.advance(len(batch), note=f"{sum(item.score for item in items) / len(items):.0%} right")
            if len(items) < len(order) and _judge(task, scorer, items, order) is not None:
                break
        known = Measurement(rung, name, "test", len(order), tuple(items))
        record.add_measurement(known)
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
