"""Fold events into the state of a run. Works for running and killed runs too.

Once the run has decided, its dump is `decision.json`.
"""

from __future__ import annotations

import os
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from shlex import quote
from typing import Any, Literal

from pydantic import BaseModel, JsonValue, ValidationError

from lastresort.errors import DataError, TaskError
from lastresort.ladder import STORE_RUNG, trains
from lastresort.records.decision import (
    RetrievalView,
    RungView,
    RunView,
    SearchView,
    StoreView,
)
from lastresort.records.decision_parts import ComparedWay, OptimisedPrompt, RepairView
from lastresort.records.document import Name, OpenShare, ReuseView, Statement
from lastresort.records.events import Event
from lastresort.records.events.after_test import (
    FullRateChosen,
    GateChosen,
    GateRun,
    OfWay,
    RepairTested,
    RepairTried,
    WaysChosen,
    WaysCompared,
    WaysRefused,
)
from lastresort.records.events.base import OfRung
from lastresort.records.events.run import (
    AnswersJudged,
    BudgetSpent,
    ClimbDecided,
    ClimbFinished,
    ClimbResumed,
    ClimbStopped,
    ErrorShared,
    ItemsAdded,
    JudgeChecked,
    JudgedAnswer,
    JudgeOpened,
    ModelOpened,
    OptionsChosen,
    StudyBegan,
    StudyFinished,
    TaskPlaced,
    TaskRead,
)
from lastresort.records.events.search import (
    CandidateMeasured,
    CandidateProposed,
    CeilingMeasured,
    PromptOptimised,
    RungGivenUp,
    RungSearched,
    RungSkipped,
    RungTested,
    SearchesMeasured,
    StoreBuilt,
    SystemFrozen,
)
from lastresort.records.events.training import (
    BaseAnswered,
    BestSampled,
    CandidateTrained,
    CheckpointsWeighed,
    GroupsDrawn,
    ReplayMade,
    RewardsJudged,
    SamplesPaired,
    TrainingReached,
)
from lastresort.records.gate import ClimbGate
from lastresort.records.measurement import BarTest, Cost
from lastresort.records.record import FILE_NAME, Record
from lastresort.records.rung_view import (
    RungState,
    candidate_views,
    ceiling_view,
    failures_of,
    on_dev,
    repair_view,
)
from lastresort.types import GateVerdict, Judgement


class NotedTask(BaseModel):
    """Of a task in the record, what a view holds."""

    task: Name
    goal: Literal["quality", "cost"]
    model: Name
    bar: OpenShare
    confidence: OpenShare


def noted_task(task: dict[str, Any]) -> NotedTask:
    """Raises DataError where the record does not hold a task."""
    try:
        return NotedTask.model_validate(task)
    except ValidationError as error:
        fault = error.errors()[0]
        raise DataError(
            f"found in the task of the record, key {fault['loc'][0]}: {fault['msg']}",
            where=FILE_NAME,
            expected="a task as lastresort resolves it",
            remedy="Restore the record from a copy, or climb again.",
        ) from error


@dataclass
class Fold:
    """The fold, event by event, for those who follow a run.

    gated: the rung whose system was gated last. judged: by item and answer; one that is met again counts once. decided: the
    decision, until a rung goes on. reuse: of the test items, as the last decision found it. finished: everything is written, and
    no rung, gate or comparison went on since.
    stopped: how the climb ended early, where it did and has not gone on since. study: None of a climb.
    """

    task: dict[str, Any] | None = None
    r: int = 1
    shares: dict[str, float] | None = None
    price_known: bool = True
    rungs: dict[str, RungState] = field(default_factory=dict)
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
    stopped: ClimbStopped | None = None
    study: StudyBegan | None = None

    @classmethod
    def of(cls, events: Iterable[Event]) -> Fold:
        fold = cls()
        for event in events:
            fold.take(event)
        return fold

    @property
    def repairs(self) -> tuple[RepairView, ...]:
        """All that were tried, rung by rung, in that order."""
        return tuple(repair_view(rung, tried) for rung in self.rungs.values() for tried in rung.tried.values())

    @property
    def retrieval(self) -> RetrievalView | None:
        """None where no store was built."""
        if self.store is None:
            return None
        searches = () if self.searches is None else self.searches.searches
        return RetrievalView(
            store=StoreView.from_fields_of(self.store),
            searches=tuple(
                SearchView(**search.model_dump(mode="json", include=set(SearchView.model_fields)))
                for search in searches
            ),
            ceiling=None if self.ceiling is None else ceiling_view(self.ceiling),
        )

    def first_gate(self, rung: str) -> ClimbGate | None:
        """The gate that led to repairs, if a repaired system represents the rung."""
        return self.rung(rung).first_gate

    def rung(self, name: str) -> RungState:
        return self.rungs.setdefault(name, RungState())

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
            candidates=candidate_views(rung, system) if skipped is None else (),
            chosen=system,
            test=None if test is None else BarTest.of(test),
            gate=gate,
            failures=failures_of(on_dev(rung, system), _knowledge(self.ceiling)),
            cost=self.cost(name),
            early_warnings=(),
            weighed=rung.weighed,
            optimised=None if rung.optimised is None else OptimisedPrompt.from_fields_of(rung.optimised),
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
        return self.decided if self.decided is not None else standing(self)


def fold_of(record: Record) -> Fold:
    """What the events of a run say so far."""
    return Fold.of(event for _, event in record.since())


@dataclass(frozen=True, slots=True)
class Options:
    """How a climb was started or resumed, as far as anything was named."""

    chosen: OptionsChosen | None = None
    gate: GateChosen | None = None
    ways: WaysChosen | None = None


@dataclass(frozen=True, slots=True)
class Finish:
    """What a run had decided when it last finished, and the options that it did so with. number, worked_s: of the event with which
    it first did so, and the seconds that were noted by then. Later sessions that found nothing to do change neither.
    """

    decision: RunView
    options: Options
    number: int
    worked_s: float

    def decided_as(self, decision: RunView) -> bool:
        """Wherever, by which version and after how many other runs it was drawn again: in other words, or with figures that only
        one of two versions notes.
        """
        return _agree(decision.as_json(), self.decision.as_json(), apart_from=("answer", "provenance", "test_reuse"))


def _agree(one: JsonValue, other: JsonValue, *, apart_from: Collection[str] = (), figures: bool = False) -> bool:
    """Whether two decisions, or parts of them, say the same, whatever the text of a statement. figures: from which a sentence is
    made: what one has besides all that the other has may be new. Where both have their own, these are two kinds of value.
    """
    if isinstance(one, dict) and isinstance(other, dict):
        grown = figures and (one.keys() <= other.keys() or other.keys() <= one.keys())
        keys = {*(one.keys() & other.keys() if grown else one.keys() | other.keys())}.difference(apart_from)
        if Statement.model_fields.keys() <= one.keys():
            keys.discard("text")
        return all(
            _agree(one.get(k), other.get(k), figures=figures or k in ("answer_figures", "figures")) for k in keys
        )
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(_agree(a, b, figures=figures) for a, b in zip(one, other, strict=True))
    return one == other


def last_finish(record: Record) -> Finish | None:
    """Whatever options were named since, and whatever was done. None of a run that never finished."""
    return None if record.last(ClimbFinished) is None else _finish_and_options(record)[0]


def standing_finish(record: Record) -> Finish | None:
    """The last finish, None where anything was done since."""
    finish, stands, _ = _finish_and_options(record)
    return finish if stands else None


def options_in(record: Record) -> Options:
    """The options by which the record holds what it holds: those of the last finish, until something is done with others. A session
    that is killed before may have named some; whoever resumes the run goes on with them.
    """
    finish, stands, named = _finish_and_options(record)
    return finish.options if finish is not None and stands else named


def _finish_and_options(record: Record) -> tuple[Finish | None, bool, Options]:
    """The last finish, whether it still stands, and the options that were named last."""
    fold, named, finish, stands, worked_s = Fold(), Options(), None, False, 0.0
    for number, event in record.since():
        fold.take(event)
        match event:
            case OptionsChosen():
                named = replace(named, chosen=event)
            case GateChosen():
                named = replace(named, gate=event)
            case WaysChosen():
                named = replace(named, ways=event)
            case BudgetSpent():
                worked_s += event.seconds
            case ClimbFinished() if fold.decided is not None and finish is not None and stands:
                finish = replace(finish, decision=fold.decided, options=named)
            case ClimbFinished() if fold.decided is not None:
                finish, stands = Finish(fold.decided, named, number, worked_s), True
            case ClimbDecided():
                stands = finish is not None and finish.decided_as(event.decision)
            case WaysCompared() | WaysRefused() | FullRateChosen() | OfWay():
                stands = False
            case _:
                stands = stands and fold.decided is not None
    return finish, stands, named


def refuse_study(record: Record) -> None:
    """Raises DataError where the folder is that of a study, which decides nothing and is no run to go on with."""
    if (found := record.last(StudyBegan)) is not None:
        raise DataError(
            f"found a study ({found.study})",
            where=str(record.folder),
            expected="the run of a climb",
            remedy=f"`lastresort report {quote(str(record.folder))}` says what it found, or how to go on with it.",
        )


def task_file_of(record: Record, run: Path) -> Path:
    """The task file that the run was last climbed with; it need not be there any more. Raises DataError where none is noted, and
    of a study.
    """
    refuse_study(record)
    placed = record.last(TaskPlaced)
    if placed is None:
        raise DataError(
            "the record does not say where its task file is",
            where=str(run),
            expected="a run that read its task",
            remedy="Start it with `lastresort climb TASK`.",
        )
    return Path(os.path.normpath(run.resolve() / placed.path))


def refuse_moved(task_file: Path, remedy: str) -> None:
    """Raises TaskError where the task file of a run is not there."""
    if not task_file.is_file():
        raise TaskError(
            "no such file",
            where=str(task_file),
            expected="the task file that the run was climbed with",
            remedy=remedy,
        )


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
        case ClimbFinished() | StudyFinished():
            run.finished = True
        case ClimbStopped():
            run.stopped = event
        case ClimbResumed():
            run.stopped = None
        case StudyBegan():
            run.study, run.finished, run.stopped = event, False, None
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


def standing(run: Fold) -> RunView | None:
    """The view of a run without its decision; None before it has read its task."""
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
