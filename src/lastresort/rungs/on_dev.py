"""The rule of the test, on dev: whether a system can be given up before its test."""

from __future__ import annotations

from collections.abc import Sequence

from lastresort.evals.evidence import judge_bar
from lastresort.records.measurement import ItemScore
from lastresort.rungs.rung import Workbench
from lastresort.types import Judgement

# The error of giving up a system that would reach the bar: small, since its test may fail it wrongly, too.
GIVE_UP_ERROR = 0.01


def judge_on_dev(bench: Workbench, rung: str, items: Sequence[ItemScore]) -> Judgement | None:
    """The rule of the test on the first items of dev; None while they do not decide, never None on all of dev.

    If rows belong to groups, only the whole of dev decides, since half a group proves nothing.
    """
    return judge_scores_on_dev(bench, rung, [item.score for item in items])


def judge_scores_on_dev(
    bench: Workbench, rung: str, scores: Sequence[float], n_available: int | None = None
) -> Judgement | None:
    """As `judge_on_dev`, by the scores alone. n_available: items that are asked at most, all of dev by default; of groups all."""
    groups = bench.dev_groups()
    if groups is not None and len(scores) < len(groups):
        return None
    order = range(len(scores)) if groups is None else sorted(range(len(scores)), key=lambda i: groups.index(groups[i]))
    return judge_bar(
        [scores[i] for i in order],
        bar=bench.missed_below,
        alpha=bench.alpha_of_rung(rung),
        beta=GIVE_UP_ERROR,
        binary=bench.scorer.binary,
        n_available=(n_available or len(bench.dev)) if groups is None else len(set(groups)),
        groups=None if groups is None else [groups[i] for i in order],
    )
