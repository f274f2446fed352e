"""Whether what a gate says calls for repairs, and for which. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from lastresort.gate.verdict.decide import GENERAL, pays_too_much
from lastresort.spec.sections import PREFIX

CLIMB_ALPHA = 0.025  # of each of the two gates of a climb

Kind = Literal["scale", "fewer_epochs", "replay", "learning_rate"]
KINDS: tuple[Kind, ...] = ("scale", "fewer_epochs", "replay", "learning_rate")
UNTRAINED: tuple[Kind, ...] = ("scale", "fewer_epochs")


@dataclass(frozen=True, slots=True)
class Needed:
    """What a repair has to mend. offending: the measures that lost too much. costly: what was lost in general is more than half of
    what was won, of whatever size. kinds: what may be tried, cheapest first.
    """

    offending: tuple[str, ...]
    costly: bool
    kinds: tuple[Kind, ...]


def repairs_after(gate: Mapping[str, Any]) -> Needed | None:
    """What repairs have to mend after this gate; None where there are to be none.

    gate: as the decision has it. They are tried after REJECT, and after HOLD where a loss is seen or too much was paid for what was
    won. A lack of items, a suite that says nothing of this base or a target that is missed are nothing that a milder training
    mends, and of the documents of lm-eval there is no draw in which it would show. After a quick gate, whose time is bounded, only
    after REJECT and without training. A gate of an earlier version took all of the error that two share, and is followed by none.
    """
    target, quick = gate["target"], gate["mode"] == "quick"
    if gate["verdict"] == "SHIP" or gate["alpha"] > CLIMB_ALPHA or target["passed"] is False:
        return None
    if quick and gate["verdict"] != "REJECT":
        return None
    costly = pays_too_much(_lost_in_general(gate["suites"]), target["by"], target["gain"])
    offending = tuple(suite["name"] for suite in gate["suites"] if _offends(suite, gate["verdict"], costly=costly))
    if not offending or any(name.startswith(PREFIX) for name in offending):
        return None
    return Needed(offending, costly, UNTRAINED if quick else KINDS)


def _offends(suite: Mapping[str, Any], verdict: str, *, costly: bool) -> bool:
    if suite["verdict"] in ("UNINFORMATIVE", "SKIPPED"):
        return False
    if suite["verdict"] == "REGRESSED" or (costly and suite["suite"] == GENERAL and suite["difference"] < 0):
        return True
    return verdict == "HOLD" and suite["verdict"] == "UNDERPOWERED" and bool(suite["loss_seen"])


def _lost_in_general(suites: Sequence[Mapping[str, Any]]) -> float:
    lost = [-suite["difference"] for suite in suites if suite["suite"] == GENERAL and suite["difference"] is not None]
    return max(lost, default=0.0)
