"""Fold events into the state of a run. Works for running and killed runs too.

Once the run has decided, its dump is `decision.json`.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from pydantic import BaseModel, ValidationError

from lastresort.errors import DataError
from lastresort.ladder import STORE_RUNG, trains
from lastresort.records.candidates import facts_of
from lastresort.records.decision import (
    CandidateView,
    CeilingSystem,
    CeilingView,
    Failures,
    RetrievalView,
    RungView,
    RunView,
    SearchView,
    StoreView,
)
from lastresort.records.decision_parts import (
    CandidateFacts,
    ComparedWay,
    OptimisedPrompt,
    RepairView,
    SecondGate,
    SecondGateMeasure,
    Weighing,
)
from lastresort.records.document import Name, OpenShare, ReuseView, Statement
from lastresort.records.events import (
    AnswersJudged,
    BaseAnswered,
    BestSampled,
    CandidateMeasured,
    CandidateProposed,
    CandidateTrained,
    CeilingMeasured,
    CheckpointsWeighed,
    ClimbDecided,
    ClimbFinished,
    ClimbResumed,
    ClimbStopped,
    ErrorShared,
    Event,
    FullRateChosen,
    GateChosen,
    GateRun,
    GroupsDrawn,
    ItemsAdded,
    JudgeChecked,
    JudgedAnswer,
    JudgeOpened,
    ModelOpened,
    OfRung,
    OfWay,
    PromptOptimised,
    RepairTested,
    RepairTried,
    ReplayMade,
    RewardsJudged,
    RungGivenUp,
    RungSearched,
    RungSkipped,
    RungTested,
    SamplesPaired,
    SearchesMeasured,
    StoppedBy,
    StoreBuilt,
    SystemFrozen,
    TaskRead,
    TrainingReached,
    WaysChosen,
    WaysCompared,
    WaysRefused,
)
from lastresort.records.gate import ClimbGate, stands
from lastresort.records.measurement import DEV, BarTest, Cost, DevScore, whole_of
from lastresort.records.record import FILE_NAME, Record
from lastresort.types import GateVerdict, Judgement

Made = ReplayMade | SamplesPaired | BestSampled | GroupsDrawn | BaseAnswered


@dataclass
class _Rung:
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


@dataclass
class Fold:
    """The fold, event by event, for those who follow a run.

    gated: the rung whose system was gated last. judged: by item and answer; one that is met again counts once. decided: the
    decision, until a rung goes on. reuse: of the test items, as the last decision found it. finished: everything is written, and
    no rung, gate or comparison went on since.
    stopped_by: what asked the climb to stop, where it did and has not gone on since.
    """

    task: dict[str, Any] | None = None
    r: int = 1
    shares: dict[str, float] | None = None
    price_known: bool = True
    rungs: dict[str, _Rung] = field(default_factory=dict)
    gated: str | None = None
    judge: JudgeOpened | None = None
    agreement: JudgeChecked | None = None
    judged: dict[tuple[str, str], JudgedAnswer] = field(default_factory=dict)
    store: StoreBuilt | None = None
    searches: SearchesMeasured | None = None
    ceiling: CeilingMeasured | None = None
    compare: tuple[ComparedWay, ...] = ()
    decided: RunView | None = None
    reuse: ReuseView | None = None
    finished: bool = False
    stopped_by: StoppedBy | None = None

    @classmethod
    def of(cls, events: Iterable[Event]) -> Fold:
        fold = cls()
        for event in events:
            fold.take(event)
        return fold

    @property
    def repairs(self) -> tuple[RepairView, ...]:
        """All that were tried, rung by rung, in that order."""
        return tuple(_repair(rung, tried) for rung in self.rungs.values() for tried in rung.tried.values())

    @property
    def retrieval(self) -> RetrievalView | None:
        """None where no store was built."""
        if self.store is None:
            return None
        searches = () if self.searches is None else self.searches.searches
        return RetrievalView(
            store=StoreView(**self.store.model_dump(include=set(StoreView.model_fields))),
            searches=tuple(
                SearchView(**search.model_dump(mode="json", include=set(SearchView.model_fields)))
                for search in searches
            ),
            ceiling=None if self.ceiling is None else _ceiling(self.ceiling),
        )

    def first_gate(self, rung: str) -> ClimbGate | None:
        """The gate that led to repairs, if a repaired system represents the rung."""
        return self.rung(rung).first_gate

    def rung(self, name: str) -> _Rung:
        return self.rungs.setdefault(name, _Rung())

    def take(self, event: Event) -> None:
        _take(self, event)

    def rung_view(
        self,
        name: str,
        *,
        system: str | None,
        test: Judgement | None,
        gate: GateVerdict | None,
        skipped: Statement | None,
    ) -> RungView:
        """What the rung did, with this system as the one that it chose. Its early warnings are not among the events."""
        rung = self.rung(name)
        return RungView(
            name=name,
            applies=skipped is None,
            skipped_because=skipped,
            candidates=_candidates(rung, system) if skipped is None else (),
            chosen=system,
            test=None if test is None else BarTest.of(test),
            gate=gate,
            failures=_failures(_on_dev(rung, system), _knowledge(self.ceiling)),
            cost=self.cost(name),
            early_warnings=(),
            weighed=rung.weighed,
            optimised=None if rung.optimised is None else _optimised(rung.optimised),
        )

    def cost(self, name: str) -> Cost:
        """Tokens, seconds and money of everything the rung did: dev, test, training where it trained, the prompt that it optimised,
        and the judges that rewarded it, whose seconds are in the training's. usd is None if it called a model of unknown price.
        """
        rung = self.rung(name)
        written = [] if rung.optimised is None else [rung.optimised]
        done = list(rung.measured.values())
        asked = [*rung.made, *written, *(step.spent for step in rung.rewarded.values())]
        all_priced = all(step.priced for step in rung.rewarded.values()) and all(one.priced for one in written)
        priced = (self.price_known or trains(name)) and all_priced
        seconds = sum(one.seconds for one in (*done, *rung.made, *written)) + sum(
            one.seconds for one in rung.trained.values()
        )
        if name == STORE_RUNG and self.store is not None:
            seconds += self.store.seconds
        usd = sum(one.usd for one in done) + sum(one.usd for one in written)
        usd += sum(step.spent.usd for step in rung.rewarded.values())
        return Cost(
            tokens_in=sum(one.tokens_in for one in done) + sum(one.tokens_in for one in asked),
            tokens_out=sum(one.tokens_out for one in done) + sum(one.tokens_out for one in asked),
            seconds=round(seconds, 3),
            usd=usd if priced or not done else None,
        )

    def view(self) -> RunView | None:
        """None before the run has read its task. Raises DataError where the task in the record is none."""
        return self.decided if self.decided is not None else _standing(self)


def view(events: Iterable[Event]) -> RunView | None:
    """How the run stands after these events; None before it has read its task."""
    return Fold.of(events).view()


def fold_of(record: Record) -> Fold:
    """What the events of a run say so far."""
    return Fold.of(event for _, event in record.since())


def _take(run: Fold, event: Event) -> None:
    match event:
        case TaskRead():
            run.task = event.task
        case ErrorShared():
            run.r, run.shares = event.r, event.shares
        case ModelOpened():
            run.price_known = event.price_known
        case StoreBuilt():
            run.store = event
        case SearchesMeasured():
            run.searches = event
        case CeilingMeasured():
            run.ceiling = event
        case JudgeOpened():
            run.judge = event
        case JudgeChecked():
            run.agreement = event
        case AnswersJudged():
            run.judged |= {(item.id, item.answer): item for item in event.items}
        case GateRun():
            run.gated = event.gate.rung
            run.rung(event.gate.rung).gates[event.gate.system] = event.gate
            run.decided, run.finished = None, False
        case WaysCompared():
            run.compare, run.finished = event.ways, False
        case ItemsAdded() | GateChosen() | WaysChosen() | WaysRefused() | FullRateChosen() | OfWay():
            run.finished = False
        case ClimbDecided():
            run.decided, run.reuse, run.finished = event.decision, event.decision.test_reuse, False
        case ClimbFinished():
            run.finished = True
        case ClimbStopped():
            run.stopped_by = event.by
        case ClimbResumed():
            run.stopped_by = None
        case _:
            _take_of_rung(run, event)


def _take_of_rung(run: Fold, event: Event) -> None:
    """Anything that a rung does opens a decision that was made before: the climb goes on."""
    if not isinstance(event, OfRung) or event.rung not in _ladder(run):
        return
    run.decided, run.finished = None, False
    match event:
        case CandidateMeasured():
            measured, place = run.rung(event.rung).measured, (event.candidate, event.split)
            measured.pop(place, None)
            measured[place] = event
            run.rung(event.rung).skipped = None  # it may have been skipped for lack of time: there is time now
        case CandidateProposed():
            run.rung(event.rung).proposed[event.name] = event
        case CandidateTrained():
            run.rung(event.rung).kept[event.candidate] = event
        case RungSkipped() | RungGivenUp():
            run.rung(event.rung).skipped = event.reason
        case RungSearched():
            run.rung(event.rung).searched = event
        case CheckpointsWeighed():
            run.rung(event.rung).weighed = event.weighing
        case PromptOptimised():
            run.rung(event.rung).optimised = event
        case SystemFrozen():
            run.rung(event.rung).frozen = True
        case RungTested():
            run.rung(event.rung).tested = event
        case RepairTested():
            run.rung(event.rung).repaired = event
        case RepairTried():
            run.rung(event.rung).tried[event.key] = event
        case TrainingReached():
            run.rung(event.rung).trained[event.candidate] = event
        case ReplayMade() | SamplesPaired() | BestSampled() | GroupsDrawn() | BaseAnswered():
            run.rung(event.rung).made.append(event)
        case RewardsJudged():
            run.rung(event.rung).rewarded[event.asked] = event
        case _:
            pass


def _ladder(run: Fold) -> Sequence[str]:
    ladder = None if run.task is None else run.task.get("ladder")
    return ladder if isinstance(ladder, list | tuple) else ()


class _NotedTask(BaseModel):
    """Of a task in the record, what a view holds."""

    task: Name
    goal: Literal["quality", "cost"]
    model: Name
    bar: OpenShare
    confidence: OpenShare


def noted_task(task: dict[str, Any]) -> _NotedTask:
    """Raises DataError where the record does not hold a task."""
    try:
        return _NotedTask.model_validate(task)
    except ValidationError as error:
        fault = error.errors()[0]
        raise DataError(
            f"found in the task of the record, key {fault['loc'][0]}: {fault['msg']}",
            where=FILE_NAME,
            expected="a task as lastresort resolves it",
            remedy="Restore the record from a copy, or climb again.",
        ) from error


def _standing(run: Fold) -> RunView | None:
    if run.task is None:
        return None
    task, gated = noted_task(run.task), None if run.gated is None else run.rung(run.gated)
    return RunView(
        task=task.task,
        goal=task.goal,
        model=task.model,
        bar=task.bar,
        confidence=task.confidence,
        r=run.r,
        alpha_per_rung=round((1 - task.confidence) / run.r, 12),
        shares=run.shares,
        verdict=None,
        meets_bar=None,
        provisional=None,
        stopped_at=None,
        answer=None,
        answer_code=None,
        answer_figures=None,
        reasons=(),
        would_change=(),
        judge=None,
        retrieval=run.retrieval,
        test_reuse=run.reuse,
        rungs=tuple(_rung(run, name) for name in _ladder(run) if name in run.rungs),
        gate=None if gated is None else gated.gate,
        first_gate=None if gated is None else gated.first_gate,
        repairs=run.repairs,
        compare=run.compare,
        break_even=None,
        winner=None,
        provenance=None,
    )


def _knowledge(ceiling: CeilingMeasured | None) -> frozenset[str] | None:
    return frozenset(ceiling.knowledge) if ceiling is not None and ceiling.systems else None


def _rung(run: Fold, name: str) -> RungView:
    """As far as the events tell: the system that was tested, or that the search chose."""
    rung = run.rung(name)
    tested, gate = rung.standing, rung.gate
    chosen = None if rung.searched is None else rung.searched.chosen
    return run.rung_view(
        name,
        system=chosen if tested is None else tested.system,
        test=None if tested is None else tested.judgement,
        gate=None if gate is None else gate.verdict,
        skipped=rung.skipped,
    )


def _repair(rung: _Rung, tried: RepairTried) -> RepairView:
    tested = rung.repaired if rung.repaired is not None and rung.repaired.system == tried.system else None
    second = None if tested is None else rung.gates.get(tested.system)
    return RepairView(
        rung=tried.rung,
        kind=tried.repair,
        setting=tried.setting,
        system=tried.system,
        dev=tried.dev,
        measures=tried.measures,
        good=tried.good,
        findings=tried.findings,
        spent=tried.spent,
        frozen=tested is not None,
        test=None if tested is None else BarTest.of(tested.judgement),
        gate=None if second is None else _second_gate(second),
    )


def _second_gate(gate: ClimbGate) -> SecondGate:
    return SecondGate(
        verdict=gate.verdict,
        mode=gate.mode,
        seed=gate.seed,
        alpha=gate.alpha,
        artefact_sha256=gate.artefact_sha256,
        reasons=gate.reasons,
        measures=tuple(
            SecondGateMeasure(
                name=suite.name,
                verdict=suite.verdict,
                base=suite.base,
                tuned=suite.tuned,
                difference=suite.difference,
                interval=suite.interval,
                margin=suite.margin,
                n=suite.n,
            )
            for suite in gate.suites
        ),
        spent=gate.spent,
    )


def _optimised(found: PromptOptimised) -> OptimisedPrompt:
    return OptimisedPrompt.model_validate(found, from_attributes=True)


def _on_dev(rung: _Rung, candidate: str | None) -> list[CandidateMeasured]:
    return [one for (name, split), one in rung.measured.items() if name == candidate and whole_of(split) == DEV]


def _candidates(rung: _Rung, chosen: str | None) -> tuple[CandidateView, ...]:
    """Those of the search, and the chosen system where it came of a repair; during a search those that were measured so far."""
    searched = () if rung.searched is None else rung.searched.candidates
    found = {
        one.name: CandidateView(name=one.name, dev=one.dev, prompt_tokens=one.prompt_tokens, facts=rung.facts(one.name))
        for one in searched
    }
    others = (name for name, split in rung.measured if whole_of(split) == DEV)
    for name in dict.fromkeys([chosen] if rung.searched is not None else others):
        if name is not None and name not in found and (stretches := _on_dev(rung, name)):
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


def _failures(stretches: Sequence[CandidateMeasured], knowledge: frozenset[str] | None) -> Failures:
    wrong = {name for one in stretches for name in one.wrong}
    lacking = len(wrong & (knowledge or frozenset()))
    return Failures(
        format=len({name for one in stretches for name in one.ill_formed}),
        knowledge=None if knowledge is None else lacking,
        other=len(wrong) - lacking,
    )


def _ceiling(measured: CeilingMeasured) -> CeilingView:
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
