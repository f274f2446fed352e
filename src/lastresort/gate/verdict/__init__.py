"""The gate: does the tuned model ship? Pure, on scores that were measured before (DESIGN part 9)."""

from lastresort.gate.verdict.compare import (
    MeasureDesign,
    MeasureSize,
    planned,
    planned_power,
    silent,
    skipped,
    suite_found,
)
from lastresort.gate.verdict.decide import Comparator, gate, not_asked, target_found
from lastresort.gate.verdict.findings import GateConclusion

__all__ = [
    "Comparator",
    "GateConclusion",
    "MeasureDesign",
    "MeasureSize",
    "gate",
    "not_asked",
    "planned",
    "planned_power",
    "silent",
    "skipped",
    "suite_found",
    "target_found",
]
