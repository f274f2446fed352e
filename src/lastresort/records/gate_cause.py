"""What a gate's verdict rests on and what would settle a HOLD, as values: from what was found of each suite and the target."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from lastresort.records.gate import SuiteFound, SuiteVerdict, TargetFound
from lastresort.records.reasons import (
    AbilityLost,
    GateCause,
    GateInformative,
    GateItems,
    GateNeed,
    GateSmallerLoss,
    GateTestItems,
)


def cause_of(suites: Sequence[SuiteFound], target: TargetFound, *, costly: bool) -> GateCause:
    """What the verdict rests on."""

    def those(judged: SuiteVerdict) -> tuple[str, ...]:
        return tuple(found.name for found in suites if found.verdict == judged)

    lost = [found for found in suites if found.verdict == "REGRESSED"]
    return GateCause(
        tuple(AbilityLost(found.name, -found.difference, found.margin) for found in lost),
        those("UNDERPOWERED"),
        those("UNINFORMATIVE"),
        target.passed,
        costly,
    )


def needs_of(
    suites: Sequence[SuiteFound], target: TargetFound, *, costly: bool, leaves_out: Callable[[str], str]
) -> list[GateNeed]:
    """What would turn a HOLD into an answer. leaves_out: how a user writes that a suite is not required."""
    needs: list[GateNeed] = []
    if target.outcome == "UNDECIDED" and target.n_needed is not None:
        needs.append(GateTestItems(target.n, target.n_needed, target.unit))
    elif target.passed is False and target.outcome == "MET":
        needs.append(GateTestItems(target.n, None, target.unit))
    for found in suites:
        if found.verdict == "UNDERPOWERED":
            needs.append(GateItems(found.name, found.n, found.n_needed, found.unit))
        elif found.verdict == "UNINFORMATIVE":
            needs.append(GateInformative(found.name, leaves_out(found.suite)))
    return [*needs, GateSmallerLoss()] if costly else needs
