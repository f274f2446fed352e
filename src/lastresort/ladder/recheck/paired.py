"""Two systems on the frozen test set, item by item: a test where both answered all of it, a description where one stopped. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from lastresort.evals.evidence import better
from lastresort.types import Unit

ROUNDING = 1e-9


@dataclass(frozen=True, slots=True)
class Compared:
    """A system against the run's winner.

    whole: whether both answered the whole test set; otherwise n counts the items that both answered before one stopped, and
    nothing is tested, since where it stopped depended on its answers. difference: the system's mean score less the winner's,
    with its interval at `confidence`. p_better, p_worse: one-sided, of "the system is better", or worse, than the winner.
    Interval and p are None unless whole.
    """

    n: int
    unit: Unit
    whole: bool
    winner_score: float
    score: float
    difference: float
    confidence: float
    interval: tuple[float, float] | None = None
    p_better: float | None = None
    p_worse: float | None = None


def compare(
    winner: Sequence[float],
    scores: Sequence[float],
    *,
    n_items: int,
    groups: Sequence[str] | None,
    binary: bool,
    confidence: float,
    seed: int,
) -> Compared | None:
    """winner, scores: of the first items of the test set in its order. n_items: of all. groups: the label of each of all.

    None where no item was answered by both.
    """
    n = min(len(winner), len(scores))
    if not n:
        return None
    old, now = list(winner[:n]), list(scores[:n])
    if n < n_items:
        before, after = sum(old) / n, sum(now) / n
        return Compared(n, "item", False, before, after, _rounded(after - before), confidence)
    found = better(old, now, binary=binary, groups=groups, seed=seed, confidence=confidence)
    before = _mean(old, groups)
    return Compared(
        n=found.n,
        unit="item" if groups is None else "group",
        whole=True,
        winner_score=before,
        score=_mean(now, groups),
        difference=_rounded(found.difference),
        confidence=confidence,
        interval=found.interval,
        p_better=found.p,
        p_worse=better(now, old, binary=binary, groups=groups, seed=seed, confidence=confidence).p,
    )


def _mean(scores: Sequence[float], groups: Sequence[str] | None) -> float:
    """Of the items, or of the groups by their means."""
    if groups is None:
        return sum(scores) / len(scores)
    parts: dict[str, list[float]] = {}
    for score, group in zip(scores, groups, strict=True):
        parts.setdefault(group, []).append(score)
    return sum(sum(part) / len(part) for part in parts.values()) / len(parts)


def _rounded(difference: float) -> float:
    return 0.0 if abs(difference) < ROUNDING else difference
