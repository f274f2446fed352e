"""The gate: does the tuned model ship? Pure, on scores that were measured before (DESIGN part 9)."""

from lastresort.gate.verdict.compare import (
    MeasureDesign,
    MeasureSize,
    judge_measure,
    planned_power,
    sample_sizes,
    skipped_measure,
    uninformative_measure,
)
from lastresort.gate.verdict.decide import Comparator, GateConclusion, conclude, judge_target, no_target

__all__ = [
    "Comparator",
    "GateConclusion",
    "MeasureDesign",
    "MeasureSize",
    "conclude",
    "judge_measure",
    "judge_target",
    "no_target",
    "planned_power",
    "sample_sizes",
    "skipped_measure",
    "uninformative_measure",
]
