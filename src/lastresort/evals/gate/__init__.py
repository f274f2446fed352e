"""The gate: does the tuned model ship? Pure, on scores that were measured before (DESIGN part 9)."""

from lastresort.evals.gate.compare import skipped, suite_found
from lastresort.evals.gate.found import GateFound, Stratum, SuiteFound, TargetFound
from lastresort.evals.gate.target import Comparator, not_asked, target_found
from lastresort.evals.gate.verdict import gate

__all__ = [
    "Comparator",
    "GateFound",
    "Stratum",
    "SuiteFound",
    "TargetFound",
    "gate",
    "not_asked",
    "skipped",
    "suite_found",
    "target_found",
]
