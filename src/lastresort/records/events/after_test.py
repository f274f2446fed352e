"""Events after the test of a tuned system: its gate, repairs, and ways of training that are compared."""

from __future__ import annotations

from typing import Literal

from lastresort.records.decision_parts import ComparedWay, ComparisonRefusal, RepairFinding, RepairKind, RepairMeasure
from lastresort.records.events.base import BaseEvent, EventValue, OfRung
from lastresort.records.gate import ClimbGate, GateSpent
from lastresort.records.measurement import DevScore
from lastresort.types import GateMode, Judgement, WayName


class GateChosen(BaseEvent):
    kind: Literal["gate_chosen"] = "gate_chosen"
    mode: GateMode


class GateRun(BaseEvent):
    """repaired: it is the second gate, of a repaired system."""

    kind: Literal["gate_run"] = "gate_run"
    gate: ClimbGate
    repaired: bool

    @property
    def key(self) -> str:
        return gate_key(self.gate.rung, repaired=self.repaired)


def gate_key(rung: str, *, repaired: bool) -> str:
    return f"{rung}, repaired" if repaired else rung


class RepairsBegun(OfRung):
    """system: that the gate rejected or held. The rest is what a repair has to fix, as `gate.verdict.decide.RepairNeed`."""

    kind: Literal["repairs_begun"] = "repairs_begun"
    system: str
    offending: tuple[str, ...]
    costly: bool
    kinds: tuple[RepairKind, ...]


def repair_key(rung: str, repair: str, setting: float) -> str:
    return f"{rung} {repair} {setting:g}"


class RepairTried(OfRung):
    """setting: the scale, the epoch or step of a checkpoint, the share of replay, or the learning rate. system, dev: None where it
    was not made. spent: of asking for the measures, the base's part only in the first of a run that was measured.
    """

    kind: Literal["repair_tried"] = "repair_tried"
    repair: RepairKind
    setting: float
    system: str | None
    dev: DevScore | None
    measures: tuple[RepairMeasure, ...]
    good: bool
    findings: tuple[RepairFinding, ...]
    spent: GateSpent

    @property
    def key(self) -> str:
        return repair_key(self.rung, self.repair, self.setting)


class RepairPostponed(OfRung):
    """A repair that did not fit the time left of so many hours."""

    kind: Literal["repair_postponed"] = "repair_postponed"
    repair: RepairKind
    setting: float
    limit_hours: float | None

    @property
    def key(self) -> str:
        return repair_key(self.rung, self.repair, self.setting)


class RepairTested(OfRung):
    """items: as in `RungTested`."""

    kind: Literal["repair_tested"] = "repair_tested"
    system: str
    judgement: Judgement
    items: int | None = None


class WaysChosen(BaseEvent):
    """names: the reference first; empty where nothing is to be compared any more."""

    kind: Literal["ways_chosen"] = "ways_chosen"
    names: tuple[WayName, ...]
    seeds: int


class WaysRefused(BaseEvent):
    kind: Literal["ways_refused"] = "ways_refused"
    names: tuple[WayName, ...]
    because: ComparisonRefusal


class FullRateChosen(BaseEvent):
    """The learning rate at which all weights are trained, found with the first seed."""

    kind: Literal["full_rate_chosen"] = "full_rate_chosen"
    rate: float


class TrainingSpent(EventValue):
    """memory_bytes: peak, None where it is not known. tokens: of the rows, however often they were computed."""

    memory_bytes: int | None
    seconds: float
    tokens: int
    learning_rate: float


class AnsweringSpent(EventValue):
    """On the whole test set."""

    memory_bytes: int | None
    seconds: float
    tokens: int


class OfWay(BaseEvent):
    """An event of one way of training with one seed."""

    way: WayName
    seed: int

    @property
    def key(self) -> str:
        return way_key(self.way, self.seed)


def way_key(way: WayName, seed: int) -> str:
    return f"{way}-seed{seed}"


class WayTrained(OfWay):
    """Noted as soon as it is over, since the peak of a training cannot be measured afterwards."""

    kind: Literal["way_trained"] = "way_trained"
    spent: TrainingSpent


class WayMeasured(OfWay):
    """training: None where it was made of what another way has trained. failed: why there is none."""

    kind: Literal["way_measured"] = "way_measured"
    training: TrainingSpent | None
    answering: AnsweringSpent | None
    failed: str | None


class WaysCompared(BaseEvent):
    kind: Literal["ways_compared"] = "ways_compared"
    names: tuple[WayName, ...]
    seeds: int
    ways: tuple[ComparedWay, ...]


AfterTestEvent = (
    GateChosen
    | GateRun
    | RepairsBegun
    | RepairTried
    | RepairPostponed
    | RepairTested
    | WaysChosen
    | WaysRefused
    | FullRateChosen
    | WayTrained
    | WayMeasured
    | WaysCompared
)
