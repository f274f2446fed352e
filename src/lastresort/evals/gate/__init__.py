"""The gate: does the tuned model ship? Pure, on scores that were measured before (DESIGN part 9)."""

from lastresort.evals.gate.compare import skipped, suite_found
from lastresort.evals.gate.found import GateFound, GateVerdict, Stratum, SuiteFound, SuiteVerdict, TargetFound
from lastresort.evals.gate.sizes import Planned, Wanted, planned, planned_power
from lastresort.evals.gate.target import Comparator, not_asked, target_found
from lastresort.evals.gate.verdict import gate

__all__ = [
    "Comparator",
    "GateFound",
    "GateVerdict",
    "Planned",
    "Stratum",
    "SuiteFound",
    "SuiteVerdict",
    "TargetFound",
    "Wanted",
    "gate",
    "not_asked",
    "planned",
    "planned_power",
    "skipped",
    "suite_found",
    "target_found",
]
