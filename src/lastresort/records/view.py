"""Events -> how a run stands: valid at every moment, also of a run that is still at work or was killed. Pure.

Once the run has decided, its dump is `decision.json`.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from lastresort.ladder import STORE_RUNG, trains
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
from lastresort.records.decision_parts import ComparedWay
from lastresort.records.document import Statement
from lastresort.records.events import (
    BaseAnswered,
    CandidateMeasured,
    CeilingMeasured,
    ClimbDecided,
    ErrorShared,
    Event,
    GateRun,
    ModelOpened,
    OfRung,
    RepairTested,
    ReplayMade,
    RewardsJudged,
    RungGivenUp,
    RungSearched,
    RungSkipped,
    RungTested,
    SamplesPaired,
    SearchesMeasured,
    StoreBuilt,
    TaskRead,
    TrainingReached,
    WaysCompared,
)
from lastresort.records.gate import ClimbGate
from lastresort.records.measurement import BarTest, Cost, DevScore
from lastresort.types import GateVerdict, Judgement

DEV = "dev["  # how the splits begin that are stretches of dev


Made = ReplayMade | SamplesPaired | BaseAnswered


@dataclass
class _Rung:
    """What the events say of a rung. measured: the newest of every candidate and split. trained: seconds of each training.

    rewarded: by what was asked.
    """

    measured: dict[tuple[str, str], CandidateMeasured] = field(default_factory=dict)
    skipped: Statement | None = None
    searched: RungSearched | None = None
    tested: tuple[str, Judgement] | None = None
    gates: dict[str, ClimbGate] = field(default_factory=dict)
    trained: dict[str, float] = field(default_factory=dict)
    made: list[Made] = field(default_factory=list)
    rewarded: dict[str, RewardsJudged] = field(default_factory=dict)


@dataclass
class Fold:
    """The fold, event by event, for those who follow a run."""

    task: dict[str, Any] | None = None
    r: int = 1
    price_known: bool = True
    rungs: dict[str, _Rung] = field(default_factory=dict)
    gate: ClimbGate | None = None
    first_gate: ClimbGate | None = None
    store: StoreBuilt | None = None
    searches: SearchesMeasured | None = None
    ceiling: CeilingMeasured | None = None
    compare: tuple[ComparedWay, ...] = ()
    decided: RunView | None = None

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
        )

    def cost(self, name: str) -> Cost:
        """Tokens, seconds and money of everything the rung did: dev, test, training where it trained, and the judges that rewarded
        it, whose seconds are in the training's. usd is None where it asked a model whose price is not known.
        """
        rung = self.rung(name)
        done, asked = list(rung.measured.values()), [*rung.made, *(step.spent for step in rung.rewarded.values())]
        priced = (self.price_known or trains(name)) and all(step.priced for step in rung.rewarded.values())
        seconds = sum(one.seconds for one in done) + sum(rung.trained.values()) + sum(one.seconds for one in rung.made)
        if name == STORE_RUNG and self.store is not None:
            seconds += self.store.seconds
        usd = sum(one.usd for one in done) + sum(step.spent.usd for step in rung.rewarded.values())
        return Cost(
            tokens_in=sum(one.tokens_in for one in done) + sum(one.tokens_in for one in asked),
            tokens_out=sum(one.tokens_out for one in done) + sum(one.tokens_out for one in asked),
            seconds=round(seconds, 3),
            usd=usd if priced or not done else None,
        )

    def view(self) -> RunView | None:
        """None before the run has read its task."""
        return self.decided if self.decided is not None else _standing(self)


def view(events: Iterable[Event]) -> RunView | None:
    """How the run stands after these events; None before it has read its task."""
    fold = Fold()
    for event in events:
        fold.take(event)
    return fold.view()


def _take(run: Fold, event: Event) -> None:
    match event:
        case TaskRead():
            run.task = event.task
        case ErrorShared():
            run.r = event.r
        case ModelOpened():
            run.price_known = event.price_known
        case StoreBuilt():
            run.store = event
        case SearchesMeasured():
            run.searches = event
        case CeilingMeasured():
            run.ceiling = event
        case GateRun():
            run.first_gate = run.gate if event.repaired else None
            run.gate = event.gate
            run.rung(event.gate.rung).gates[event.gate.system] = event.gate
        case WaysCompared():
            run.compare = event.ways
        case ClimbDecided():
            run.decided = event.decision
        case _:
            _take_of_rung(run, event)


def _take_of_rung(run: Fold, event: Event) -> None:
    """Anything that a rung does opens a decision that was made before: the climb goes on."""
    if not isinstance(event, OfRung) or event.rung not in _ladder(run):
        return
    match event:
        case CandidateMeasured():
            measured, place = run.rung(event.rung).measured, (event.candidate, event.split)
            measured.pop(place, None)
            measured[place] = event
            run.rung(event.rung).skipped = None  # where it was skipped for want of time, there is some now
        case RungSkipped() | RungGivenUp():
            run.rung(event.rung).skipped = event.reason
        case RungSearched():
            run.rung(event.rung).searched = event
        case RungTested() | RepairTested():
            run.rung(event.rung).tested = event.system, event.judgement
        case TrainingReached():
            run.rung(event.rung).trained[event.candidate] = event.seconds
        case ReplayMade() | SamplesPaired() | BaseAnswered():
            run.rung(event.rung).made.append(event)
        case RewardsJudged():
            run.rung(event.rung).rewarded[event.asked] = event
        case _:
            return
    run.decided = None


def _ladder(run: Fold) -> Sequence[str]:
    return () if run.task is None else run.task["ladder"]


def _standing(run: Fold) -> RunView | None:
    if run.task is None:
        return None
    task = run.task
    return RunView(
        task=task["task"],
        goal=task["goal"],
        model=task["model"],
        bar=task["bar"],
        confidence=task["confidence"],
        r=run.r,
        alpha_per_rung=round((1 - task["confidence"]) / run.r, 12),
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
        retrieval=_retrieval(run),
        test_reuse=None,
        rungs=tuple(_rung(run, name) for name in _ladder(run) if name in run.rungs),
        gate=run.gate,
        first_gate=run.first_gate,
        repairs=(),
        compare=run.compare,
        break_even=None,
        winner=None,
        provenance=None,
    )


def _knowledge(ceiling: CeilingMeasured | None) -> frozenset[str] | None:
    return frozenset(ceiling.knowledge) if ceiling is not None and ceiling.systems else None


def _rung(run: Fold, name: str) -> RungView:
    """As far as the events tell: the system that was tested last, or that the search chose."""
    rung = run.rung(name)
    system, test = rung.tested or (None if rung.searched is None else rung.searched.chosen, None)
    gate = rung.gates.get(system or "")
    return run.rung_view(
        name, system=system, test=test, gate=None if gate is None else gate.verdict, skipped=rung.skipped
    )


def _on_dev(rung: _Rung, candidate: str | None) -> list[CandidateMeasured]:
    return [one for (name, split), one in rung.measured.items() if name == candidate and split.startswith(DEV)]


def _candidates(rung: _Rung, chosen: str | None) -> tuple[CandidateView, ...]:
    """Those of the search, and the chosen system where it came of a repair; during a search those that were measured so far."""
    searched = () if rung.searched is None else rung.searched.candidates
    found = {one.name: CandidateView(name=one.name, dev=one.dev, prompt_tokens=one.prompt_tokens) for one in searched}
    others = (name for name, split in rung.measured if split.startswith(DEV))
    for name in dict.fromkeys([chosen] if rung.searched is not None else others):
        if name is not None and name not in found and (stretches := _on_dev(rung, name)):
            found[name] = _candidate(name, stretches)
    return tuple(found.values())


def _candidate(name: str, stretches: Sequence[CandidateMeasured]) -> CandidateView:
    n, tokens = sum(one.n for one in stretches), sum(one.tokens_in for one in stretches)
    score = stretches[0].score if len(stretches) == 1 else sum(one.score * one.n for one in stretches) / max(1, n)
    return CandidateView(
        name=name, dev=DevScore(score=min(1.0, score), n=n), prompt_tokens=round(tokens / n, 1) if n else 0.0
    )


def _failures(stretches: Sequence[CandidateMeasured], knowledge: frozenset[str] | None) -> Failures:
    wrong = {name for one in stretches for name in one.wrong}
    lacking = len(wrong & (knowledge or frozenset()))
    return Failures(
        format=len({name for one in stretches for name in one.ill_formed}),
        knowledge=None if knowledge is None else lacking,
        other=len(wrong) - lacking,
    )


def _retrieval(run: Fold) -> RetrievalView | None:
    return retrieval_view(run.store, run.searches, run.ceiling)


def retrieval_view(
    store: StoreBuilt | None, searches: SearchesMeasured | None, ceiling: CeilingMeasured | None
) -> RetrievalView | None:
    """None where no store was built."""
    if store is None:
        return None
    return RetrievalView(
        store=StoreView(**store.model_dump(include=set(StoreView.model_fields))),
        searches=tuple(
            SearchView(**search.model_dump(mode="json", include=set(SearchView.model_fields)))
            for search in (() if searches is None else searches.searches)
        ),
        ceiling=None if ceiling is None else _ceiling(ceiling),
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
