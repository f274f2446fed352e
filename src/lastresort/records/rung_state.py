"""What the events say of a rung."""

from __future__ import annotations

from dataclasses import dataclass, field

from lastresort.records.candidates import facts_of
from lastresort.records.decision_parts import (
    CandidateFacts,
    Weighing,
)
from lastresort.records.document import Statement
from lastresort.records.events import (
    BaseAnswered,
    BestSampled,
    CandidateMeasured,
    CandidateProposed,
    CandidateTrained,
    GroupsDrawn,
    PromptOptimised,
    RepairTested,
    RepairTried,
    ReplayMade,
    RewardsJudged,
    RungSearched,
    RungTested,
    SamplesPaired,
    TrainingReached,
)
from lastresort.records.gate import ClimbGate, stands

Made = ReplayMade | SamplesPaired | BestSampled | GroupsDrawn | BaseAnswered


@dataclass
class RungState:
    """What the events say of a rung. measured: the newest of every candidate and split. kept: what came of trainings, by candidate.
    gates: by system. trained: the newest of each training. rewarded: by what was asked. tried: repairs, by their key; one that was
    tried again counts once.
    """

    proposed: dict[str, CandidateProposed] = field(default_factory=dict)
    kept: dict[str, CandidateTrained] = field(default_factory=dict)
    measured: dict[tuple[str, str], CandidateMeasured] = field(default_factory=dict)
    skipped: Statement | None = None
    searched: RungSearched | None = None
    weighed: Weighing | None = None
    optimised: PromptOptimised | None = None
    frozen: bool = False
    tested: RungTested | None = None
    repaired: RepairTested | None = None
    gates: dict[str, ClimbGate] = field(default_factory=dict)
    trained: dict[str, TrainingReached] = field(default_factory=dict)
    made: list[Made] = field(default_factory=list)
    rewarded: dict[str, RewardsJudged] = field(default_factory=dict)
    tried: dict[str, RepairTried] = field(default_factory=dict)

    @property
    def standing(self) -> RungTested | RepairTested | None:
        """The test of the system that represents the rung: the repaired one once its own gate has put it in place of the first."""
        return self.repaired if self._is_repaired else self.tested

    @property
    def _is_repaired(self) -> bool:
        if self.tested is None or self.repaired is None:
            return False
        first, second = self.gates.get(self.tested.system), self.gates.get(self.repaired.system)
        if first is None or second is None:
            return False
        return stands(first.verdict, self.tested.judgement, second.verdict, self.repaired.judgement)

    def facts(self, candidate: str) -> CandidateFacts | None:
        return facts_of(self.proposed.get(candidate), self.kept.get(candidate), self.trained.get)

    @property
    def gate(self) -> ClimbGate | None:
        """Of the system that represents the rung."""
        return None if self.standing is None else self.gates.get(self.standing.system)

    @property
    def first_gate(self) -> ClimbGate | None:
        """The gate that led to repairs, where the repaired system took the place of the first."""
        return self.gates.get(self.tested.system) if self.tested is not None and self._is_repaired else None
