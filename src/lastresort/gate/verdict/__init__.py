"""The gate: does the tuned model ship? Pure, on scores that were measured before."""

from lastresort.gate.verdict.compare import (
    judge_measure,
    needed_items,
    planned_power,
    skipped_measure,
    uninformative_measure,
)
from lastresort.gate.verdict.decide import Comparator, conclude, judge_target, no_target

__all__ = [
    "Comparator",
    "conclude",
    "judge_measure",
    "judge_target",
    "needed_items",
    "no_target",
    "planned_power",
    "skipped_measure",
    "uninformative_measure",
]
