"""Whether dev shows that a system is below the bar, so that it need not be tested."""

from __future__ import annotations

from collections.abc import Sequence

from lastresort.evals.evidence import judge_bar
from lastresort.records.record import ItemScore
from lastresort.rungs.rung import Workbench
from lastresort.types import Judgement

BETA = 0.01  # of giving up what would reach the bar; small, since its test may fail it wrongly too


def judged_on_dev(bench: Workbench, items: Sequence[ItemScore]) -> Judgement | None:
    """The verdict rule of the test, on the first items of dev; None while they do not decide, never None on all of them.

    Half a group shows nothing that is certain, so that where rows belong together only the whole of dev does.
    """
    groups = bench.dev_groups()
    if groups is not None and len(items) < len(groups):
        return None
    order = range(len(items)) if groups is None else sorted(range(len(items)), key=lambda i: groups.index(groups[i]))
    return judge_bar(
        [items[i].score for i in order],
        bar=bench.task.bar,
        alpha=bench.task.alpha_per_rung,
        beta=BETA,
        binary=bench.scorer.binary,
        n_available=len(bench.dev if groups is None else set(groups)),
        groups=None if groups is None else [groups[i] for i in order],
    )
