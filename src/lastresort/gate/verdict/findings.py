"""The verdict on the measures and the target of a gate.

Has a base anything to lose by an accuracy? Pure.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from lastresort.evals.evidence import wilson_interval
from lastresort.records.gate import SuiteFound, TargetFound
from lastresort.types import GateVerdict

CONFIDENCE = 0.95


def why_no_headroom(scores: Sequence[float], *, chance: float, margin: float, of: str = "of a pilot") -> str:
    """Why it has not: its lower limit, one-sided at 95%, is below chance + 2 margins (DESIGN part 9). Empty where it has.

    scores: of the base. margin: on the scale of the scores. of: which items these are.
    """
    if not scores:
        return f"no item {of} says anything about it"
    mean = sum(scores) / len(scores)
    low, _ = wilson_interval(sum(scores), len(scores), 2 * CONFIDENCE - 1)
    floor = chance + 2 * margin
    if low >= floor:
        return ""
    return (
        f"the base scores {mean:.1%} on the {len(scores)} items {of} (at least {low:.1%}), and to have something to lose it "
        f"would have to score {floor:.1%}, which is chance and twice the margin"
    )


@dataclass(frozen=True, slots=True)
class GateConclusion:
    """The verdict, with one sentence a reason, the decisive ones first.

    would_decide: what would turn a HOLD into an answer, as sentences. alpha: the error of this gate: .05 alone, .025 where a second
    may follow.
    """

    verdict: GateVerdict
    reasons: tuple[str, ...]
    suites: tuple[SuiteFound, ...]
    target: TargetFound
    would_decide: tuple[str, ...]
    alpha: float
