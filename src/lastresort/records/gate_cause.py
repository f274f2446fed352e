"""What a gate's verdict rests on and what would settle a HOLD, as values: from what was found of each suite and the target."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from lastresort.records.gate import SuiteFound, SuiteVerdict, TargetFound, TestedMeasure
from lastresort.types import FARTHEST


@dataclass(frozen=True, slots=True)
class AbilityLost:
    """A measure that lost more than the accepted margin, in shares of 1."""

    measure: str
    lost: float
    margin: float


@dataclass(frozen=True, slots=True)
class GateCause:
    """What a gate's verdict rests on. lost: measures that are shown to lose too much. underpowered: those that need more items.
    uninformative: those in which the base has nothing to lose. passed: whether the tuned system passes on its own task, None where
    that is not tested. costly: whether more general ability was lost than the gain is worth.
    """

    lost: tuple[AbilityLost, ...] = ()
    underpowered: tuple[str, ...] = ()
    uninformative: tuple[str, ...] = ()
    passed: bool | None = None
    costly: bool = False


@dataclass(frozen=True, slots=True)
class GateItems:
    """More items of a measure than the n that were used. n_needed: if the difference seen is the true one; None where that is more
    than ten times n. most: that this gate may use; None where its items are not counted out beforehand.
    """

    measure: str
    n: int
    n_needed: int | None
    unit: str
    difference: float
    most: int | None

    @property
    def is_short(self) -> bool:
        """Whether this gate has fewer items than it needs, as far as that is estimated."""
        return self.most is not None and self.most < (self.n_needed or FARTHEST * self.n + 1)


@dataclass(frozen=True, slots=True)
class GateInformative:
    """Items of a measure on which the base has something to lose. leave_out: how a user writes that it is not required."""

    measure: str
    leave_out: str


@dataclass(frozen=True, slots=True)
class GateTestItems:
    """More test items than the n that were used. n_needed: for the bar; None where the gain over the best prompt is not shown."""

    n: int
    n_needed: int | None
    unit: str


@dataclass(frozen=True, slots=True)
class GateSmallerLoss:
    """Less lost in general ability for what was gained on the task."""


GateNeed = GateItems | GateInformative | GateTestItems | GateSmallerLoss


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
        if isinstance(found, TestedMeasure) and found.verdict == "UNDERPOWERED":
            needs.append(items_of(found))
        elif found.verdict == "UNINFORMATIVE":
            needs.append(GateInformative(found.name, leaves_out(found.suite)))
    return [*needs, GateSmallerLoss()] if costly else needs


def items_of(found: TestedMeasure) -> GateItems:
    """What an UNDERPOWERED needs."""
    looked = found.looked_at
    most = None if looked is None else round(looked.most * found.n / looked.items)
    return GateItems(found.name, found.n, found.n_needed, found.unit, found.difference, most)
