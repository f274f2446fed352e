"""What a report says, gathered from the record and the decision and put in order: no markup, no numbers of its own.

The titles of the report: each states what was found, from the numbers it stands over.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from lastresort.records.events import DataChecked, DriftMeasured, LapTrained, RungSearched, TaskRead, TrainingReached
from lastresort.records.measurement import ItemScore, failure_kind
from lastresort.records.record import Record
from lastresort.report.words.wording import count, duration, listed, money, percent, round_percent, times

_GATED = {"HOLD": ", and the gate holds it", "REJECT": ", but the gate rejects it"}


def of_rung(name: str, entry: Mapping[str, Any] | None, bar: float) -> str:
    if entry is None:
        return f"{name} was not tried"
    if not entry["applies"]:
        return f"{name} was skipped"
    test = entry["test"]
    if test is None:
        return f"{name} was not tested"
    score = percent(test["score"])
    if test["verdict"] == "MET":
        return f"{name} meets the bar with {score}{_GATED.get(entry['gate'], '')}"
    if test["verdict"] == "NOT_MET":
        return f"{name} stays below the bar with {score}"
    side = "at or above" if test["score"] >= bar else "below"
    return f"{name} scores {score}, {side} the bar, but not surely{_GATED.get(entry['gate'], '')}"


def of_ladder(decision: Mapping[str, Any]) -> str:
    bar = round_percent(decision["bar"])
    tested = [rung for rung in decision["rungs"] if rung["test"]]
    met = [rung["name"] for rung in tested if rung["test"]["verdict"] == "MET"]
    open_ones = [rung["name"] for rung in tested if rung["test"]["verdict"] == "UNDECIDED"]
    failed = [rung["name"] for rung in tested if rung["test"]["verdict"] == "NOT_MET"]
    shown = f"{listed(failed)} {'is' if len(failed) == 1 else 'are'} shown to stay below"
    if met:
        below = f"; {shown} it" if failed else ""
        open_below = f"; the test cannot tell on which side {listed(open_ones)} {_lies(open_ones)}" if open_ones else ""
        first = ", the first rung tested," if tested[0]["name"] == met[0] else ""
        also = f", and so is {listed(met[1:])}" if len(met) > 1 else ""
        return f"{met[0]}{first} is shown to reach the bar of {bar}{also}{below}{open_below}"
    if open_ones:
        return f"The test cannot tell on which side of the bar of {bar} {listed(open_ones)} {_lies(open_ones)}"
    if not tested:
        return "No rung could be tested"
    return f"{shown} the bar of {bar}"


def of_failures(failures: Mapping[str, int | None], wrong: int, n: int, *, graded: bool = False) -> str:
    """What kind of mistake the chosen candidate makes on dev. graded: some answers are neither right nor wrong."""
    if not wrong:
        return f"Every one of {count(n)} dev answers is right"
    names = {
        "format": "do not have the form asked for",
        "knowledge": "fail for want of knowledge",
        "other": "have the right form and fall short" if graded else "have the right form and are wrong",
    }
    kind = max(names, key=lambda name: failures.get(name) or 0)
    most = failures.get(kind) or 0
    share = "all" if most == wrong else f"{count(most)}"
    which = "dev answers below the full score" if graded else "wrong dev answers"
    return f"Of {count(wrong)} {which} (of {count(n)}), {share} {names[kind]}"


def of_training(curves: Mapping[str, Sequence[Mapping[str, float]]], chosen_rate: str | None) -> str:
    """What the loss did, or the reward, of the run that went furthest."""
    longest = max(curves, key=lambda name: len(curves[name]), default=None)
    rewards = [point["reward"] for point in curves[longest] if "reward" in point] if longest else []
    if len(rewards) > 1:
        first, last = rewards[0], sum(rewards[-5:]) / len(rewards[-5:])
        return f"Mean reward {'rises' if last > first else 'does not rise:'} from {first:.2f} to {last:.2f}"
    losses = [point["loss"] for point in curves[longest] if "loss" in point] if longest else []
    finite = [loss for loss in losses if math.isfinite(loss)]
    if len(finite) < 2:
        return "Training"
    first, last = finite[0], sum(finite[-5:]) / len(finite[-5:])
    verb = "falls" if last < first else "does not fall:"
    raced = f", the best of {len(curves)} learning rates raced" if len(curves) > 1 and chosen_rate else ""
    return f"Training loss {verb} from {first:.2f} to {last:.2f}{raced}"


def of_sharing(trainings: Sequence[Mapping[str, Any]]) -> str:
    """How much computing the shared prefixes saved; nothing where it was not recorded."""
    computed = sum(body.get("computed_tokens") or 0 for body in trainings)
    nominal = sum(body.get("nominal_tokens") or 0 for body in trainings)
    if not computed or nominal < computed:
        return ""
    return (
        f"{count(computed)} tokens were computed for {count(nominal)} tokens of rows: "
        f"shared beginnings, computed once, save {times(nominal / computed)}."
    )


def of_cost(total: Mapping[str, Any], rungs: Mapping[str, Mapping[str, Any]]) -> str:
    title = f"The climb computed for {duration(total['seconds'])}"
    if len(rungs) > 1 and total["seconds"]:
        dearest = max(rungs, key=lambda name: rungs[name]["seconds"])
        title += f", {percent(rungs[dearest]['seconds'] / total['seconds'], 0)} of it for {dearest},"
    if total["usd"] is None:
        return f"{title} and spent an unknown amount: the task gives no price"
    return f"{title} and spent {money(total['usd'])}" if total["usd"] else f"{title} and made no paid call"


def _lies(names: Sequence[str]) -> str:
    return "lies" if len(names) == 1 else "lie"


EXAMPLES = 5
_BELOW = "the climb ended below it"


@dataclass(frozen=True, slots=True)
class Trained:
    """One training run, of which the newest event counts. body: all that it says, its settings among it."""

    candidate: str
    body: dict[str, Any]
    curve: tuple[dict[str, float], ...]


@dataclass(frozen=True, slots=True)
class Failing:
    """A wrong answer of the chosen candidate on dev. kind: format | knowledge | other."""

    kind: str
    item: ItemScore


@dataclass(frozen=True, slots=True)
class RungStory:
    """One rung: its entry in the decision, what the search said, and what stands behind it.

    entry is None for a rung of the ladder that the climb did not come to. passed_over: because a higher one was tried for its cost.
    """

    name: str
    finding: str
    entry: dict[str, Any] | None
    search: dict[str, Any]
    candidates: tuple[dict[str, Any], ...] = ()
    failing: tuple[Failing, ...] = ()
    wrong: int = 0
    dev_n: int = 0
    cut: int = 0
    graded: bool = False
    trained: tuple[Trained, ...] = ()
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
            return "the bar was met below it, and nothing said that it would be cheaper" if self.passed_over else _BELOW
        return self.entry["skipped_because"] or "the climb stopped before its test"


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
        data=checked.report if checked is not None else {},
        began=began,
        ended=ended,
    )


def _rung(record: Record, name: str, entry: dict[str, Any] | None, bar: float) -> RungStory:
    finding = of_rung(name, entry, bar)
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


def examples(wrong: Sequence[ItemScore], knowledge: frozenset[str] = frozenset()) -> tuple[Failing, ...]:
    """Up to EXAMPLES wrong answers, every kind by turns and the lowest score first.

    knowledge: ids of the items that retrieval has shown to fail for want of knowledge.
    """
    kinds: dict[str, list[ItemScore]] = {"format": [], "knowledge": [], "other": []}
    for item in sorted(wrong, key=lambda item: item.score):
        why = failure_kind(item, knowledge)
        if why is not None:
            kinds[why].append(item)
    chosen: list[Failing] = []
    while len(chosen) < EXAMPLES and any(kinds.values()):
        for kind, items in kinds.items():
            if items and len(chosen) < EXAMPLES:
                chosen.append(Failing(kind, items.pop(0)))
    return tuple(sorted(chosen, key=lambda failing: list(kinds).index(failing.kind)))


def _candidates(entry: Mapping[str, Any], search: Mapping[str, Any]) -> tuple[dict[str, Any], ...]:
    """The entry's candidates with their time, those measured longest and best first."""
    seconds = {candidate["name"]: candidate.get("seconds") for candidate in search.get("candidates", ())}
    rows = [
        {**candidate, "seconds": seconds.get(candidate["name"]), "chosen": candidate["name"] == entry["chosen"]}
        for candidate in entry["candidates"]
    ]
    return tuple(sorted(rows, key=lambda row: (-row["dev"]["n"], -row["dev"]["score"], row["prompt_tokens"])))


def _trained(record: Record, rung: str) -> tuple[Trained, ...]:
    """Training runs of a rung, by learning rate."""
    newest = {one.candidate: one for one in record.all(TrainingReached) if one.rung == rung}
    ordered = sorted(newest.values(), key=lambda one: (one.settings["learning_rate"], one.candidate))
    return tuple(Trained(one.candidate, _body(one), tuple(record.curve(one.candidate))) for one in ordered)


def _body(training: TrainingReached) -> dict[str, Any]:
    return {**training.model_dump(exclude={"settings"}, exclude_none=True), **training.settings}
