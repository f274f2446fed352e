"""Events -> how a run stands: valid at every moment, also of a run that is still at work or was killed. Pure.

Once the run has decided, its dump is `decision.json`.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from lastresort.records.decision import (
    BarTest,
    Candidate,
    CeilingSystem,
    CeilingView,
    ComparedWay,
    Cost,
    DevScore,
    Failures,
    RetrievalView,
    RungView,
    RunView,
    SearchView,
    StoreView,
)
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
from lastresort.types import Judgement

DEV = "dev["  # how the splits begin that are stretches of dev


@dataclass
class _Rung:
    """What the events say of a rung. measured: the newest of every candidate and split. spent: by training or what was made."""

    measured: dict[tuple[str, str], CandidateMeasured] = field(default_factory=dict)
    skipped: str | None = None
    searched: RungSearched | None = None
    tested: tuple[str, Judgement] | None = None
    gates: dict[str, ClimbGate] = field(default_factory=dict)
    spent: dict[str, Cost] = field(default_factory=dict)
    trains: bool = False


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
            run.rung("retrieval").spent["store"] = Cost(tokens_in=0, tokens_out=0, seconds=event.seconds, usd=0.0)
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
            run.rung(event.rung).measured[event.candidate, event.split] = event
        case RungSkipped() | RungGivenUp():
            run.rung(event.rung).skipped = event.reason
        case RungSearched():
            run.rung(event.rung).searched = event
        case RungTested() | RepairTested():
            run.rung(event.rung).tested = event.system, event.judgement
        case TrainingReached():
            rung = run.rung(event.rung)
            rung.trains = True
            rung.spent[f"training {event.candidate}"] = Cost(tokens_in=0, tokens_out=0, seconds=event.seconds, usd=0.0)
        case ReplayMade() | SamplesPaired() | BaseAnswered():
            made = Cost(tokens_in=event.tokens_in, tokens_out=event.tokens_out, seconds=event.seconds, usd=0.0)
            run.rung(event.rung).spent[f"{event.kind} {len(run.rung(event.rung).spent)}"] = made
        case RewardsJudged():
            asked = event.spent
            took = Cost(tokens_in=asked.tokens_in, tokens_out=asked.tokens_out, seconds=0.0, usd=asked.usd)
            run.rung(event.rung).spent[f"rewards {event.asked}"] = took
        case _:
            return
    run.decided = None


def _ladder(run: Fold) -> Sequence[str]:
    return () if run.task is None else run.task["ladder"]


def _standing(run: Fold) -> RunView | None:
    if run.task is None:
        return None
    task, knowledge = run.task, _knowledge(run.ceiling)
    started = [name for name in (*_ladder(run), *run.rungs) if name in run.rungs]
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
        reasons=(),
        would_change=(),
        judge=None,
        retrieval=_retrieval(run),
        test_reuse=None,
        rungs=tuple(_rung(run, name, knowledge) for name in dict.fromkeys(started)),
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


def _rung(run: Fold, name: str, knowledge: frozenset[str] | None) -> RungView:
    rung = run.rungs[name]
    candidates = _candidates(rung)
    chosen = _chosen(rung)
    known = run.price_known or rung.trains
    gate = rung.gates.get(chosen or "")
    return RungView(
        name=name,
        applies=rung.skipped is None or bool(rung.measured),
        skipped_because=None if rung.measured else rung.skipped,
        candidates=candidates,
        chosen=chosen,
        test=None if rung.tested is None else test_view(rung.tested[1]),
        gate=None if gate is None else gate.verdict,
        failures=_failures([one for one in _on_dev(rung) if one.candidate == chosen], knowledge),
        early_warnings=(),
        cost=_cost([*map(_cost_of, rung.measured.values()), *rung.spent.values()], known=known),
    )


def _chosen(rung: _Rung) -> str | None:
    if rung.tested is not None:
        return rung.tested[0]
    return None if rung.searched is None else rung.searched.chosen


def _on_dev(rung: _Rung) -> list[CandidateMeasured]:
    return [one for one in rung.measured.values() if one.split.startswith(DEV)]


def _candidates(rung: _Rung) -> tuple[Candidate, ...]:
    """Those of the search; before it has ended, and after repairs, also what was measured so far."""
    known = [] if rung.searched is None else rung.searched.candidates
    found = {one.name: Candidate(name=one.name, dev=one.dev, prompt_tokens=one.prompt_tokens) for one in known}
    for name in dict.fromkeys(one.candidate for one in _on_dev(rung)):
        if name not in found and (rung.searched is None or name == _chosen(rung)):
            found[name] = _candidate(name, [one for one in _on_dev(rung) if one.candidate == name])
    return tuple(found.values())


def _candidate(name: str, stretches: Sequence[CandidateMeasured]) -> Candidate:
    n = sum(one.n for one in stretches)
    score, tokens = sum(one.score * one.n for one in stretches), sum(one.tokens_in for one in stretches)
    dev = DevScore(score=min(1.0, score / n) if n else 0.0, n=n)
    return Candidate(name=name, dev=dev, prompt_tokens=round(tokens / n, 1) if n else 0.0)


def _failures(stretches: Sequence[CandidateMeasured], knowledge: frozenset[str] | None) -> Failures:
    wrong = {name for one in stretches for name in one.wrong}
    lacking = len(wrong & (knowledge or frozenset()))
    return Failures(
        format=sum(one.ill_formed for one in stretches),
        knowledge=None if knowledge is None else lacking,
        other=len(wrong) - lacking,
    )


def _cost_of(measured: CandidateMeasured) -> Cost:
    return Cost(
        tokens_in=measured.tokens_in, tokens_out=measured.tokens_out, seconds=measured.seconds, usd=measured.usd
    )


def _cost(parts: Sequence[Cost], *, known: bool) -> Cost:
    return Cost(
        tokens_in=sum(part.tokens_in for part in parts),
        tokens_out=sum(part.tokens_out for part in parts),
        seconds=round(sum(part.seconds for part in parts), 3),
        usd=sum(part.usd or 0.0 for part in parts) if known or not parts else None,
    )


def test_view(found: Judgement) -> BarTest:
    return BarTest(
        verdict=found.outcome,
        score=found.score,
        n_used=found.n_used,
        n_available=found.n_available,
        unit=found.unit,
        interval=found.interval,
        decided=found.decided,
        n_needed=found.n_needed,
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
