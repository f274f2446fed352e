"""What a gate says in a clause: why it ships, holds or rejects."""

from __future__ import annotations

from collections.abc import Sequence

from lastresort.records.gate import GateFindings, SuiteFound, SuiteVerdict, TargetFound
from lastresort.report.words.wording import listed
from lastresort.types import GateVerdict


def why(gate: GateFindings) -> str:
    """ "whether too much was lost cannot be told yet for general"."""
    return why_so(gate.verdict, gate.suites, gate.target, costly=gate.costly)


def summary(verdict: GateVerdict, suites: Sequence[SuiteFound], target: TargetFound, *, costly: bool) -> str:
    """ "Hold: whether too much was lost cannot be told yet for general."."""
    return f"{verdict.capitalize()}: {why_so(verdict, suites, target, costly=costly)}."


def why_so(verdict: GateVerdict, suites: Sequence[SuiteFound], target: TargetFound, *, costly: bool) -> str:
    """costly: whether more was lost in general than the gain is worth."""

    def those(judged: SuiteVerdict) -> str:
        return listed(found.name for found in suites if found.verdict == judged)

    if verdict == "REJECT":
        return f"the tuned model lost more than is accepted in {those('REGRESSED')}"
    if verdict == "SHIP":
        won = "" if target.passed is None else "the tuned model is worth having for its task, and "
        return f"{won}nothing that is required got worse by more than is accepted"
    unknown, silent = those("UNDERPOWERED"), those("UNINFORMATIVE")
    causes = [
        "the tuned model did not pass on its own task" if target.passed is False else "",
        f"whether too much was lost cannot be told yet for {unknown}" if unknown else "",
        f"{silent} cannot say anything about this model" if silent else "",
        "too much was paid for what was won" if costly else "",
    ]
    return "; ".join(filter(None, causes))
