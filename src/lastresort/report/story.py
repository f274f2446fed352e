"""What a report says, gathered from the record and the decision and put in order: no markup, no numbers of its own."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from lastresort.records.events import DataChecked, DriftMeasured, LapTrained, RungSearched, TaskRead, TrainingReached
from lastresort.records.measurement import ItemScore, failure_kind
from lastresort.records.record import Record
from lastresort.report.words import titles

EXAMPLES = 5
_BELOW = "the climb stopped below it"


@dataclass(frozen=True, slots=True)
class TrainingRun:
    """One training run, of which the newest event counts. body: all that it says, its settings among it."""

    candidate: str
    body: dict[str, Any]
    curve: tuple[dict[str, float], ...]


@dataclass(frozen=True, slots=True)
class FailedAnswer:
    """A wrong answer of the chosen candidate on dev. kind: format | knowledge | other."""

    kind: str
    item: ItemScore


@dataclass(frozen=True, slots=True)
class RungStory:
    """One rung: its entry in the decision, what the search said, and the evidence behind it.

    entry is None for a rung of the ladder that the climb did not come to. passed_over: because a higher one was tried for its cost.
    """

    name: str
    finding: str
    entry: dict[str, Any] | None
    search: dict[str, Any]
    candidates: tuple[dict[str, Any], ...] = ()
    failing: tuple[FailedAnswer, ...] = ()
    wrong: int = 0
    dev_n: int = 0
    cut: int = 0
    graded: bool = False
    trained: tuple[TrainingRun, ...] = ()
    raced: tuple[LapTrained, ...] = ()
    drifts: tuple[DriftMeasured, ...] = ()
    passed_over: bool = False

    @property
    def tested(self) -> bool:
        return self.entry is not None and self.entry["test"] is not None

    @property
    def why_not(self) -> str:
        """Why a rung has no test, in words."""
        if self.entry is None:
            return "the bar was met below it, and nothing suggests that it is cheaper" if self.passed_over else _BELOW
        skipped = self.entry["skipped_because"]
        return str(skipped["text"]) if skipped else "the climb stopped before its test"


@dataclass(frozen=True, slots=True)
class Story:
    """The whole report."""

    decision: dict[str, Any]
    rungs: tuple[RungStory, ...]
    task: dict[str, Any]
    data: dict[str, Any]
    began: datetime
    ended: datetime

    @property
    def total(self) -> dict[str, Any]:
        """Tokens, seconds and money over all rungs, judge, gate and comparison; money is None where a part of it is not known."""
        costs = [rung.entry["cost"] for rung in self.rungs if rung.entry is not None]
        costs += [self.decision["judge"]["cost"]] if self.decision["judge"] else []
        costs += [entry["cost"] for entry in self.decision["compare"]]
        paid = [cost["usd"] for cost in costs]
        gates = filter(None, (self.decision["gate"], self.decision["first_gate"]))
        done = [*costs, *(gate["spent"] for gate in gates)]
        whole = {key: sum(cost[key] for cost in done) for key in ("tokens_in", "tokens_out", "seconds")}
        return {**whole, "usd": None if None in paid else sum(paid)}

    @property
    def n_test(self) -> int:
        return max((rung.entry["test"]["n_available"] for rung in self.rungs if rung.entry and rung.tested), default=0)


def gather(record: Record, decision: dict[str, Any]) -> Story:
    """Read from the record whatever the decision does not hold."""
    read, checked = record.last(TaskRead), record.last(DataChecked)
    task = read.task if read is not None else {}
    reached = {entry["name"]: entry for entry in decision["rungs"]}
    told = task.get("ladder", ())
    ladder = [*(name for name in reached if name not in told), *told]
    if decision["verdict"] == "NOT_DECIDED":
        ladder = [name for name in ladder if name in reached]
    highest = max((ladder.index(name) for name in reached), default=-1)
    began, ended = record.times()
    return Story(
        decision=decision,
        rungs=tuple(
            replace(
                _rung(record, name, reached.get(name), decision["bar"]),
                passed_over=name not in reached and number < highest,
            )
            for number, name in enumerate(ladder)
        ),
        task=task,
        data=checked.report.as_json() if checked is not None else {},
        began=began,
        ended=ended,
    )


def _rung(record: Record, name: str, entry: dict[str, Any] | None, bar: float) -> RungStory:
    finding = titles.of_rung(name, entry, bar)
    if entry is None or not entry["candidates"]:
        return RungStory(name, finding, entry, {})
    searched = record.last(RungSearched, name)
    search = searched.model_dump() if searched is not None else {}
    items = [*record.dev_items(name, entry["chosen"]).values()]
    wrong = [item for item in items if item.score < 1]
    trained = _trained(record, name)
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
        trained=trained,
        raced=tuple(lap for lap in record.all(LapTrained) if lap.rung == name),
        drifts=tuple(drift for drift in record.all(DriftMeasured) if drift.rung == name),
    )


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


def _candidates(entry: Mapping[str, Any], search: Mapping[str, Any]) -> tuple[dict[str, Any], ...]:
    """The entry's candidates with their time, those measured longest and best first."""
    seconds = {candidate["name"]: candidate.get("seconds") for candidate in search.get("candidates", ())}
    rows = [
        {**candidate, "seconds": seconds.get(candidate["name"]), "chosen": candidate["name"] == entry["chosen"]}
        for candidate in entry["candidates"]
    ]
    return tuple(sorted(rows, key=lambda row: (-row["dev"]["n"], -row["dev"]["score"], row["prompt_tokens"])))


def _trained(record: Record, rung: str) -> tuple[TrainingRun, ...]:
    """Training runs of a rung, by learning rate."""
    newest = {one.candidate: one for one in record.all(TrainingReached) if one.rung == rung}
    ordered = sorted(newest.values(), key=lambda one: (one.settings.learning_rate, one.candidate))
    return tuple(TrainingRun(one.candidate, _body(one), tuple(record.curve(one.candidate))) for one in ordered)


def _body(training: TrainingReached) -> dict[str, Any]:
    return {**training.model_dump(exclude={"settings"}, exclude_none=True), **training.settings.model_dump()}
