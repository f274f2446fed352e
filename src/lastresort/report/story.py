"""What a report says, gathered from the record and the decision and put in order: no markup, no numbers of its own."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from datetime import datetime

from lastresort.errors import TaskError
from lastresort.evals.evidence.bar import FALSE_NOT_MET
from lastresort.evals.evidence.corrected import LABELS_SHARE
from lastresort.records.clock import worked_s
from lastresort.records.data_report import DataReport
from lastresort.records.decision import RungView, RunView
from lastresort.records.decision_parts import CandidateFacts
from lastresort.records.events.run import DataChecked, ErrorShared, TaskRead
from lastresort.records.events.search import RungSearched, RungTested
from lastresort.records.events.training import DriftMeasured, TrainingReached
from lastresort.records.gate import GateSpent
from lastresort.records.measurement import Cost, DevScore, ItemScore, failure_kind
from lastresort.records.record import Record
from lastresort.records.view import standing_finish
from lastresort.report.commands import ResumeCommand, commands, resume_command
from lastresort.report.confusion import Confusion, labels_of, of_items
from lastresort.report.words import titles
from lastresort.report.words.wording import percent
from lastresort.types import JsonObject

EXAMPLES = 5
_BELOW = "not reached: the climb stopped below it"


@dataclass(frozen=True, slots=True)
class TrainingRun:
    """One training run. reached: its newest event."""

    candidate: str
    reached: TrainingReached
    curve: tuple[dict[str, float], ...]


@dataclass(frozen=True, slots=True)
class CandidateRow:
    """A candidate in the table of its rung. seconds: None where the search did not time it."""

    name: str
    dev: DevScore
    prompt_tokens: float
    seconds: float | None
    chosen: bool
    facts: CandidateFacts | None


@dataclass(frozen=True, slots=True)
class FailedAnswer:
    """A wrong answer of the chosen candidate on dev. kind: format | knowledge | other."""

    kind: str
    item: ItemScore


@dataclass(frozen=True, slots=True)
class AllAnswered:
    """What a tested system scored on every test item that it answered: more than those up to where its test stopped."""

    n: int
    score: float


@dataclass(frozen=True, slots=True)
class RungStory:
    """One rung: its entry in the decision, what the search found, and the evidence behind it.

    entry: None for a rung that the climb did not reach. passed_over: because a higher one was tried for its cost. ahead: the climb
    has not decided, and may come to it. overtaken: why it does not count although it was tested, None elsewhere. answered: None
    where the verdict rests on all that was answered. confused: which labels the chosen candidate answered on dev, None where the
    task has none. json_schema: of its answers.
    """

    name: str
    finding: str
    entry: RungView | None
    search: RungSearched | None = None
    candidates: tuple[CandidateRow, ...] = ()
    failing: tuple[FailedAnswer, ...] = ()
    wrong: int = 0
    dev_n: int = 0
    cut: int = 0
    graded: bool = False
    trained: tuple[TrainingRun, ...] = ()
    drifts: tuple[DriftMeasured, ...] = ()
    passed_over: bool = False
    ahead: bool = False
    overtaken: str | None = None
    answered: AllAnswered | None = None
    confused: Confusion | None = None
    json_schema: JsonObject | None = None

    @property
    def tested(self) -> bool:
        return self.entry is not None and self.entry.test is not None

    @property
    def why_not(self) -> str:
        """Why a rung has no test, in words."""
        if self.ahead:
            return "not tried yet"
        if self.overtaken is not None:
            return self.overtaken
        if self.entry is None:
            return "the bar was met below it, and nothing suggests that it is cheaper" if self.passed_over else _BELOW
        skipped = self.entry.skipped_because
        return f"it {titles.untested(self.entry)}" if skipped is None else skipped.text


@dataclass(frozen=True, slots=True)
class Story:
    """The whole report. commands: that make the run and this report again. resume: the one that takes it up.
    ran_s: how long the run took, see `records.clock`; None where unknown. errors: of the test behind each score, by rung.
    labels_errors: where labels correct a judge, what they spend of a false MET and of a false NOT_MET.
    """

    decision: RunView
    rungs: tuple[RungStory, ...]
    commands: tuple[str, ...]
    resume: ResumeCommand
    task: JsonObject
    data: DataReport | None
    began: datetime
    ended: datetime
    ran_s: float | None = None
    errors: Mapping[str, float] = field(default_factory=dict)
    labels_errors: tuple[float, float] | None = None

    @property
    def total(self) -> Cost:
        """Of all rungs, judge, gates, repairs and comparison. usd: None where a part of it is not known."""
        decision = self.decision
        costs = [rung.entry.cost for rung in self.rungs if rung.entry is not None]
        costs += [decision.judge.cost] if decision.judge is not None else []
        costs += [way.cost for way in decision.compare]
        gates = [gate.spent for gate in (decision.gate, decision.first_gate) if gate is not None]
        spent: list[Cost | GateSpent] = [*costs, *gates, *spent_on_repairs(decision)]
        paid = [cost.usd for cost in costs if cost.usd is not None]
        return Cost(
            tokens_in=sum(one.tokens_in for one in spent),
            tokens_out=sum(one.tokens_out for one in spent),
            seconds=sum(one.seconds for one in spent),
            usd=sum(paid) if len(paid) == len(costs) else None,
        )

    @property
    def n_test(self) -> int:
        tests = [rung.entry.test for rung in self.rungs if rung.entry is not None]
        return max((test.n_available for test in tests if test is not None), default=0)


def spent_on_repairs(decision: RunView) -> list[GateSpent]:
    """What measuring the repairs took, and a second gate that is not the decision's."""
    shown = None if decision.gate is None else decision.gate.system
    gates = [repair.gate for repair in decision.repairs if repair.gate is not None and repair.system != shown]
    return [*(repair.spent for repair in decision.repairs), *(gate.spent for gate in gates)]


def gather(record: Record, decision: RunView) -> Story:
    """Read from the record whatever the decision does not hold."""
    read, checked = record.last(TaskRead), record.last(DataChecked)
    task = read.task if read is not None else {}
    reached = {rung.name: rung for rung in decision.rungs}
    planned = task.get("ladder", ())
    ladder = [*(name for name in reached if name not in planned), *planned]
    highest = max((ladder.index(name) for name in reached), default=-1)
    finish = standing_finish(record)
    began, ended = record.times(None if finish is None else finish.number)
    return Story(
        decision=decision,
        rungs=tuple(
            replace(
                _rung(record, name, reached.get(name), decision.bar),
                overtaken=_overtaken(record, name, decision),
                passed_over=name not in reached and number < highest,
                ahead=name not in reached and not decision.decided and number > highest,
            )
            for number, name in enumerate(ladder)
        ),
        commands=commands(record),
        resume=resume_command(record),
        task=task,
        data=None if checked is None else checked.report,
        began=began,
        ended=ended,
        ran_s=(worked_s(record) if finish is None else finish.worked_s) or None,
        errors=_errors(record, decision),
        labels_errors=_labels_errors(decision),
    )


def _labels_errors(decision: RunView) -> tuple[float, float] | None:
    by = None if decision.judge is None else decision.judge.correction
    return None if by is None else (by.error, LABELS_SHARE * FALSE_NOT_MET)


def _errors(record: Record, decision: RunView) -> dict[str, float]:
    """By rung the error at which its score was tested: its share, with what a MET handed on to it."""
    tests = {event.rung: event.judgement.outcome for event in record.all(RungTested)}
    met = [rung for rung, outcome in tests.items() if outcome == "MET"]
    shared, error = ErrorShared(r=decision.r, shares=decision.shares), 1 - decision.confidence
    found = {}
    for rung in decision.rungs:
        if rung.test is not None:
            of_test = shared.alpha_of_repair if decision.is_repaired(rung) else shared.alpha_of_rung
            with suppress(TaskError):  # of a record that says nothing of its share, nothing is said
                found[rung.name] = of_test(rung.name, met, error)
    return found


def _rung(record: Record, name: str, entry: RungView | None, bar: float) -> RungStory:
    finding = titles.of_rung(name, entry, bar)
    if entry is None or not entry.candidates:
        return RungStory(name, finding, entry)
    search = record.last(RungSearched, name)
    items = [*record.dev_items(name, entry.chosen).values()]
    wrong = [item for item in items if item.score < 1]
    read = record.last(TaskRead)
    return RungStory(
        name=name,
        finding=finding,
        entry=entry,
        search=search,
        candidates=_candidates(entry, search),
        failing=examples(wrong, record.lacking_knowledge or frozenset()),
        wrong=len(wrong),
        dev_n=len(items),
        cut=sum(item.finish == "length" for item in items),
        graded=any(0 < item.score < 1 for item in items),
        trained=_trained(record, name),
        drifts=tuple(drift for drift in record.all(DriftMeasured) if drift.rung == name),
        answered=all_answered(record, entry),
        confused=of_items(items, () if read is None else labels_of(read.task)),
        json_schema=None if read is None else read.json_schema,
    )


def _overtaken(record: Record, name: str, decision: RunView) -> str | None:
    """Why a tested rung is not in the decision: by the verdict of the rung where the climb stopped."""
    tests = [rung.test for rung in decision.rungs if rung.test is not None]
    if not tests or any(rung.name == name for rung in decision.rungs) or record.last(RungTested, name) is None:
        return None
    if tests[-1].verdict == "MET":
        return "tested before fresh items showed that a rung below it meets the bar"
    if tests[-1].verdict == "UNDECIDED" and tests[-1].score >= decision.bar:
        return "tested before fresh items raised the score of a rung below it to the bar or above, which is UNDECIDED"
    return "tested before, but this climb stopped below it"


def all_answered(record: Record, entry: RungView) -> AllAnswered | None:
    """None where that is no other score, and as `answered_beyond`."""
    found = answered_beyond(record, entry)
    same = found is None or entry.test is None or percent(found.score) == percent(entry.test.scored)
    return None if same else found


def answered_beyond(record: Record, entry: RungView) -> AllAnswered | None:
    """None for a rung without a test, or one that decided on all items, by groups, or on fresh items."""
    if entry.test is None or entry.test.unit != "item" or entry.test.parts:
        return None
    for one in record.measured(entry.name):
        if (one.candidate, one.split) == (entry.chosen, "test") and one.n != entry.test.n_used:
            return AllAnswered(one.n, one.score)
    return None


def examples(wrong: Sequence[ItemScore], knowledge: frozenset[str] = frozenset()) -> tuple[FailedAnswer, ...]:
    """Up to EXAMPLES wrong answers, every kind by turns and the lowest score first.

    knowledge: ids of the items that retrieval has shown to fail for lack of knowledge.
    """
    kinds: dict[str, list[ItemScore]] = {"format": [], "knowledge": [], "other": []}
    for item in sorted(wrong, key=lambda item: item.score):
        why = failure_kind(item, knowledge)
        if why is not None:
            kinds[why].append(item)
    chosen: list[FailedAnswer] = []
    while len(chosen) < EXAMPLES and any(kinds.values()):
        for kind, items in kinds.items():
            if items and len(chosen) < EXAMPLES:
                chosen.append(FailedAnswer(kind, items.pop(0)))
    return tuple(sorted(chosen, key=lambda failing: list(kinds).index(failing.kind)))


def _candidates(entry: RungView, search: RungSearched | None) -> tuple[CandidateRow, ...]:
    """Those measured longest and best first."""
    seconds = {} if search is None else {candidate.name: candidate.seconds for candidate in search.candidates}
    rows = [
        CandidateRow(one.name, one.dev, one.prompt_tokens, seconds.get(one.name), one.name == entry.chosen, one.facts)
        for one in entry.candidates
    ]
    return tuple(sorted(rows, key=lambda row: (-row.dev.n, -row.dev.score, row.prompt_tokens)))


def _trained(record: Record, rung: str) -> tuple[TrainingRun, ...]:
    """Training runs of a rung, by learning rate."""
    newest = {one.candidate: one for one in record.all(TrainingReached) if one.rung == rung}
    ordered = sorted(newest.values(), key=lambda one: (one.settings.learning_rate, one.candidate))
    return tuple(TrainingRun(one.candidate, one, tuple(record.curve(one.candidate))) for one in ordered)
