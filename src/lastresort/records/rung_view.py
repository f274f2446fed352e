"""What the events say of a rung and of what its candidates are made of, and the parts of its view. Nothing is read from a name."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TypeVar

from lastresort.records.decision import CandidateView, CeilingSystem, CeilingView, Failures
from lastresort.records.decision_parts import (
    CandidateFacts,
    RepairView,
    SecondGate,
    TrainedFacts,
    Weighing,
)
from lastresort.records.document import Statement
from lastresort.records.events.after_test import RepairTested, RepairTried
from lastresort.records.events.base import OfRung
from lastresort.records.events.search import (
    CandidateMeasured,
    CandidateProposed,
    CeilingMeasured,
    PromptOptimised,
    RungSearched,
    RungTested,
)
from lastresort.records.events.training import (
    BaseAnswered,
    BestSampled,
    CandidateTrained,
    GroupsDrawn,
    ReplayMade,
    RewardsJudged,
    SamplesPaired,
    TrainingReached,
)
from lastresort.records.gate import ClimbGate, stands
from lastresort.records.measurement import DEV, BarTest, DevScore, whole_of
from lastresort.records.record import Record
from lastresort.records.training import RecordedSettings

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


def repair_view(rung: RungState, tried: RepairTried) -> RepairView:
    tested = rung.repaired if rung.repaired is not None and rung.repaired.system == tried.system else None
    second = None if tested is None else rung.gates.get(tested.system)
    return RepairView.from_fields_of(
        tried,
        kind=tried.repair,
        frozen=tested is not None,
        test=None if tested is None else BarTest.of(tested.judgement),
        gate=None if second is None else SecondGate.from_fields_of(second, measures=second.suites),
    )


def on_dev(rung: RungState, candidate: str | None) -> list[CandidateMeasured]:
    return [one for (name, split), one in rung.measured.items() if name == candidate and whole_of(split) == DEV]


def candidate_views(rung: RungState, chosen: str | None) -> tuple[CandidateView, ...]:
    """Those of the search, and the chosen system where it came of a repair; during a search those that were measured so far."""
    searched = () if rung.searched is None else rung.searched.candidates
    found = {one.name: CandidateView.from_fields_of(one, facts=rung.facts(one.name)) for one in searched}
    others = (name for name, split in rung.measured if whole_of(split) == DEV)
    for name in dict.fromkeys([chosen] if rung.searched is not None else others):
        if name is not None and name not in found and (stretches := on_dev(rung, name)):
            found[name] = _candidate(name, stretches, rung.facts(name))
    return tuple(found.values())


def _candidate(name: str, stretches: Sequence[CandidateMeasured], facts: CandidateFacts | None) -> CandidateView:
    n, tokens = sum(one.n for one in stretches), sum(one.tokens_in for one in stretches)
    score = stretches[0].score if len(stretches) == 1 else sum(one.score * one.n for one in stretches) / max(1, n)
    return CandidateView(
        name=name,
        dev=DevScore(score=min(1.0, score), n=n),
        prompt_tokens=round(tokens / n, 1) if n else 0.0,
        facts=facts,
    )


def failures_of(stretches: Sequence[CandidateMeasured], knowledge: frozenset[str] | None) -> Failures:
    wrong = {name for one in stretches for name in one.wrong}
    lacking = len(wrong & (knowledge or frozenset()))
    return Failures(
        format=len({name for one in stretches for name in one.ill_formed}),
        knowledge=None if knowledge is None else lacking,
        other=len(wrong) - lacking,
    )


def ceiling_view(measured: CeilingMeasured) -> CeilingView:
    return CeilingView(
        n=measured.n,
        labelled=measured.labelled,
        closed_book=measured.closed_book,
        knowledge=len(measured.knowledge),
        systems=tuple(
            CeilingSystem(name=name, verdict=found.outcome, score=found.score, interval=found.interval)
            for name, found in measured.systems.items()
        ),
    )


OfRungT = TypeVar("OfRungT", bound=OfRung)


def facts_in(record: Record, rung: str, candidate: str) -> CandidateFacts | None:
    """None where the record does not say what was proposed."""

    def newest(kind: type[OfRungT], key: str) -> OfRungT | None:
        """Of this rung: another one may train under the same name."""
        last = record.last(kind, key)
        if last is None or last.rung == rung:
            return last
        return next((one for one in reversed(record.all(kind, key)) if one.rung == rung), None)

    return facts_of(
        newest(CandidateProposed, f"{rung}/{candidate}"),
        newest(CandidateTrained, candidate),
        lambda run: newest(TrainingReached, run),
    )


def facts_of(
    proposed: CandidateProposed | None,
    trained: CandidateTrained | None,
    reached: Callable[[str], TrainingReached | None],
) -> CandidateFacts | None:
    """From the newest of each event of one rung. reached: of the training that the candidate came of, by its name."""
    if proposed is None:
        return None
    training = None
    if proposed.weights == "trained" and trained is not None and (run := reached(trained.run)) is not None:
        training = _training(trained, run.settings)
    return CandidateFacts(weights=proposed.weights, prompt=proposed.prompt, trained=training)


def _training(trained: CandidateTrained, settings: RecordedSettings) -> TrainedFacts:
    adapter = settings.adapter
    return TrainedFacts.from_fields_of(
        trained,
        method=adapter.choice,
        rank=None if adapter.choice == "full" else adapter.r,
        objective=settings.objective.name,
    )
