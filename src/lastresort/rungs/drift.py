"""Whether a system answers better or only longer: the same dev items before and after."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from lastresort.records.measurement import ItemScore


@dataclass(frozen=True, slots=True)
class Drift:
    """Mean answer tokens and score on dev before and after; and the scores on the `level` items whose answers did not grow
    (0 where there are none).
    """

    tokens_before: float
    tokens_after: float
    score_before: float
    score_after: float
    level: int
    level_before: float
    level_after: float


def drift_of(before: Sequence[ItemScore], after: Sequence[ItemScore]) -> Drift:
    """Both measured on the same items. Raises ValueError where they were not."""
    known = {item.id: item for item in before}
    if {item.id for item in after} != set(known) or not after:
        raise ValueError("drift is measured on the same items")
    level = [item for item in after if item.completion_tokens <= known[item.id].completion_tokens]
    return Drift(
        _mean([item.completion_tokens for item in before]),
        _mean([item.completion_tokens for item in after]),
        _mean([item.score for item in before]),
        _mean([item.score for item in after]),
        len(level),
        _mean([known[item.id].score for item in level]),
        _mean([item.score for item in level]),
    )


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values) if values else 0.0
