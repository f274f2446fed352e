"""Whether a gate calls for repairs, and for which. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from lastresort.records.gate import GENERAL, ClimbGate, SuiteFound, TestedMeasure
from lastresort.spec.sections import SUITES

CLIMB_ALPHA = 0.025  # of each of the two gates of a climb

Kind = Literal["scale", "fewer_epochs", "replay", "learning_rate"]
KINDS: tuple[Kind, ...] = ("scale", "fewer_epochs", "replay", "learning_rate")
UNTRAINED: tuple[Kind, ...] = ("scale", "fewer_epochs")


@dataclass(frozen=True, slots=True)
class RepairNeed:
    """What a repair has to fix. offending: the measures that lost too much. costly: general lost more than half of what the target
    gained. kinds: which repairs may be tried, the cheapest first.
    """

    offending: tuple[str, ...]
    costly: bool
    kinds: tuple[Kind, ...]


def repairs_after(gate: ClimbGate) -> RepairNeed | None:
    """What repairs have to fix after this gate; None if there are none to try.

    They are tried after REJECT, and after HOLD if a loss is seen or general lost too much for the gain. Milder training fixes
    neither a lack of items, nor an uninformative suite, nor a missed target, and lm-eval's documents leave no separate draw to
    measure it on. After a quick gate only REJECT is followed by repairs, without training.
    """
    quick = gate.mode == "quick"
    if gate.verdict == "SHIP" or gate.target.passed is False:
        return None
    if quick and gate.verdict != "REJECT":
        return None
    offending = [found for found in gate.suites if _offends(found, gate)]
    if not offending or any(found.suite not in SUITES for found in offending):
        return None
    return RepairNeed(tuple(found.name for found in offending), gate.costly, UNTRAINED if quick else KINDS)


def _offends(found: SuiteFound, gate: ClimbGate) -> bool:
    if not isinstance(found, TestedMeasure):
        return False
    if found.verdict == "REGRESSED" or (gate.costly and found.suite == GENERAL and found.difference < 0):
        return True
    return gate.verdict == "HOLD" and found.verdict == "UNDERPOWERED" and found.loss_seen
