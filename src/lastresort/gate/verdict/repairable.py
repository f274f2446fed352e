"""Whether what a gate says calls for repairs, and for which. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from lastresort.records.gate import GENERAL, ClimbGate, SuiteFound, TestedMeasure
from lastresort.spec.sections import PREFIX

CLIMB_ALPHA = 0.025  # of each of the two gates of a climb

Kind = Literal["scale", "fewer_epochs", "replay", "learning_rate"]
KINDS: tuple[Kind, ...] = ("scale", "fewer_epochs", "replay", "learning_rate")
UNTRAINED: tuple[Kind, ...] = ("scale", "fewer_epochs")


@dataclass(frozen=True, slots=True)
class RepairNeed:
    """What a repair has to mend. offending: the measures that lost too much. costly: what was lost in general is more than half of
    what was won, of whatever size. kinds: what may be tried, cheapest first.
    """

    offending: tuple[str, ...]
    costly: bool
    kinds: tuple[Kind, ...]


def repairs_after(gate: ClimbGate) -> RepairNeed | None:
    """What repairs have to mend after this gate; None where there are to be none.

    They are tried after REJECT, and after HOLD where a loss is seen or too much was paid for what was won. A lack of items, a suite
    that says nothing of this base or a target that is missed are nothing that a milder training mends, and of the documents of
    lm-eval there is no draw in which it would show. After a quick gate, whose time is bounded, only after REJECT and without
    training. A gate that took all of the error that two share is followed by none.
    """
    quick = gate.mode == "quick"
    if gate.verdict == "SHIP" or gate.alpha > CLIMB_ALPHA or gate.target.passed is False:
        return None
    if quick and gate.verdict != "REJECT":
        return None
    offending = tuple(found.name for found in gate.suites if _offends(found, gate))
    if not offending or any(name.startswith(PREFIX) for name in offending):
        return None
    return RepairNeed(offending, gate.costly, UNTRAINED if quick else KINDS)


def _offends(found: SuiteFound, gate: ClimbGate) -> bool:
    if not isinstance(found, TestedMeasure):
        return False
    if found.verdict == "REGRESSED" or (gate.costly and found.suite == GENERAL and found.difference < 0):
        return True
    return gate.verdict == "HOLD" and found.verdict == "UNDERPOWERED" and found.loss_seen
