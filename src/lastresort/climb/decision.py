"""The record of a finished climb -> decision.json (DESIGN part 12).

How far the kept checkpoints of a rung are from their base, in the decision: shown, never part of a verdict.

What the record says of retrieval -> its entry in decision.json, and the sentences that a reader must not miss.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from lastresort.climb.decide import Conclusion, RungOutcome
from lastresort.climb.judging import judge_entry
from lastresort.evals.measure import failures
from lastresort.ladder import trains
from lastresort.records.decision import VERSION, RunView
from lastresort.records.events import (
    BaseAnswered,
    CeilingMeasured,
    JudgeCalls,
    ReplayMade,
    RewardsJudged,
    RungSearched,
    SamplesPaired,
    SearchesMeasured,
    StoreBuilt,
    TrainingReached,
)
from lastresort.records.gate import ClimbGate
from lastresort.records.measurement import as_test
from lastresort.records.reasons import Change, Reason
from lastresort.records.record import ItemScore, Record
from lastresort.records.view import retrieval_view
from lastresort.report.words import answer
from lastresort.report.words.wording import round_percent as percent
from lastresort.spec.score import without_price
from lastresort.spec.task import Task
from lastresort.train.watch.alarm import KEYS, measured, warning

NAMES = ("step", *KEYS, "base_perplexity")


def early_warnings(record: Record, rung: str) -> list[dict[str, Any]]:
    """Of every training of the rung that was compared with its base the newest figures, and its alarm or null."""
    names = dict.fromkeys(training.candidate for training in record.all(TrainingReached) if training.rung == rung)
    found = []
    for name in names:
        curve = record.curve(name)
        if looked := measured(curve):
            values = {key: _finite(looked[-1].get(key)) for key in NAMES}
            found.append({"training": name, **values, "alarm": warning(curve)})
    return found


def _finite(value: float | None) -> float | None:
    return None if value is None or not math.isfinite(value) else value


def retrieval_entry(record: Record) -> dict[str, Any] | None:
    """`retrieval` of decision.json; None where no store was built."""
    found = retrieval_view(record.last(StoreBuilt), record.last(SearchesMeasured), record.last(CeilingMeasured))
    return None if found is None else found.as_json()


def retrieval_reasons(entry: Mapping[str, Any] | None) -> list[str]:
    """How much of what fails is knowledge, and how good the search is by itself."""
    if entry is None or entry["ceiling"] is None:
        return []
    ceiling, reasons = entry["ceiling"], list[str]()
    which = "the right passage" if ceiling["labelled"] == ceiling["n"] else "the likeliest passages"
    if ceiling["systems"]:
        reasons.append(
            f"Knowledge: {ceiling['knowledge']} of {ceiling['n']} dev items were wrong closed book and right with {which} in the "
            f"prompt; closed book scored {percent(ceiling['closed_book'])}, with {which} "
            + " and ".join(f"{percent(system['score'])} ({system['name']})" for system in ceiling["systems"])
            + "."
        )
    else:
        reasons.append(
            f"Knowledge: whether it is missing was not measured, since no prompt with {which} fits the model."
        )
    used = next(
        (search for search in reversed(entry["searches"]) if search["mode"] == "hybrid"), None
    )  # reranked comes last
    if used is not None:
        found = ", ".join(
            f"{percent(share)} {'at the first place' if k == '1' else f'among the first {k}'}"
            for k, share in used["recall"].items()
        )
        reranked = ", reranked," if used["reranked"] else ""
        reasons.append(
            f"The search by itself{reranked} found of the right passages of {used['questions']} dev questions {found}."
        )
    return reasons


@dataclass(frozen=True, slots=True)
class Winner:
    """What was written to winner/. path: relative to the run. sha256: over the folder's files."""

    kind: str
    path: str | None
    sha256: str | None


def decision_of(
    task: Task,
    record: Record,
    outcomes: Sequence[RungOutcome],
    conclusion: Conclusion,
    *,
    winner: Winner,
    gate: ClimbGate | None,
    first_gate: ClimbGate | None,
    repairs: Sequence[dict[str, Any]],
    extra_reasons: Sequence[Reason],
    would_change: Sequence[Change],
    compare: Sequence[dict[str, Any]],
    break_even: dict[str, Any] | None,
    test_reuse: Any,
    provenance: dict[str, Any],
) -> RunView:
    found = {
        "schema": VERSION,
        "task": task.task,
        "goal": task.goal,
        "model": task.model,
        "bar": task.bar,
        "confidence": task.confidence,
        "r": task.r,
        "alpha_per_rung": task.alpha_per_rung,
        "verdict": conclusion.verdict,
        "meets_bar": conclusion.meets_bar,
        "provisional": conclusion.provisional,
        "stopped_at": conclusion.stopped_at,
        "answer": answer.headline(conclusion.answer),
        "reasons": answer.sentences([*conclusion.reasons, *extra_reasons]),
        "would_change": answer.changes(would_change),
        "judge": judge_entry(task, record),
        "retrieval": retrieval_entry(record),
        "test_reuse": test_reuse,
        "rungs": [rung_entry(record, outcome, task) for outcome in outcomes],
        "gate": None if gate is None else gate.as_json(),
        "first_gate": None if first_gate is None else first_gate.as_json(),
        "repairs": list(repairs),
        "compare": list(compare),
        "break_even": break_even,
        "winner": {"kind": winner.kind, "path": winner.path, "held": conclusion.held, "sha256": winner.sha256},
        "provenance": provenance,
    }
    return RunView.model_validate(found)


def rung_entry(record: Record, outcome: RungOutcome, task: Task) -> dict[str, Any]:
    """One entry of `rungs`."""
    search = record.last(RungSearched, outcome.rung)
    chosen = outcome.system
    dev = [*record.dev_items(outcome.rung, chosen).values()]
    found, searched = outcome.judgement, _searched(search)
    return {
        "name": outcome.rung,
        "applies": outcome.skipped is None,
        "skipped_because": outcome.skipped,
        "candidates": [*searched, *_repaired(dev, chosen, [candidate["name"] for candidate in searched])],
        "chosen": chosen,
        "test": None if found is None else as_test(found),
        "gate": None if outcome.gate is None else outcome.gate.verdict,
        "failures": failures(dev, record.lacking_knowledge),
        "cost": rung_cost(record, outcome.rung, task),
        "early_warnings": early_warnings(record, outcome.rung),
    }


def _searched(search: RungSearched | None) -> list[dict[str, Any]]:
    candidates = search.candidates if search is not None else ()
    return [candidate.model_dump(mode="json", exclude={"seconds"}) for candidate in candidates]


def _repaired(items: Sequence[ItemScore], chosen: str | None, searched: Sequence[str]) -> list[dict[str, Any]]:
    """The chosen system, where it came of a repair and not of the search. items: what it answered on dev."""
    if chosen is None or chosen in searched:
        return []
    score, tokens = (
        sum(values) / len(items) for values in zip(*((i.score, i.prompt_tokens) for i in items), strict=True)
    )
    return [{"name": chosen, "dev": {"score": score, "n": len(items)}, "prompt_tokens": round(tokens, 1)}]


def price_known(task: Task, rung: str) -> bool:
    """Whether what the rung's calls cost is known: a rung that trains asks weights that are here, which cost nothing."""
    return task.price_known or trains(rung)


def rung_cost(record: Record, rung: str, task: Task) -> dict[str, Any]:
    """Tokens, seconds and money of everything the rung did: dev, test, training where it trained, and the judges that rewarded it.

    The seconds of those are in the training's. usd is None where the rung asked a model whose price is not known.
    """
    done = record.measured(rung)
    rewarded = {step.asked: step.spent for step in record.all(RewardsJudged, rung)}.values()
    training = {one.candidate: one.seconds for one in record.all(TrainingReached) if one.rung == rung}
    made: list[ReplayMade | SamplesPaired | BaseAnswered] = [
        *record.all(ReplayMade, rung),
        *record.all(SamplesPaired, rung),
        *(one for one in record.all(BaseAnswered) if one.rung == rung),
    ]
    asked: list[ReplayMade | SamplesPaired | BaseAnswered | JudgeCalls] = [*made, *rewarded]
    seconds = sum(m.seconds for m in done) + sum(training.values()) + sum(one.seconds for one in made)
    unpriced = any(term.name == "judge" and without_price(term.parameters) for term in task.reward)
    known = price_known(task, rung) and not (rewarded and unpriced)
    store = record.last(StoreBuilt) if rung == "retrieval" else None
    seconds += store.seconds if store is not None else 0.0
    return {
        "tokens_in": sum(m.tokens_in for m in done) + sum(one.tokens_in for one in asked),
        "tokens_out": sum(m.tokens_out for m in done) + sum(one.tokens_out for one in asked),
        "seconds": round(seconds, 3),
        "usd": sum(m.usd for m in done) + sum(spent.usd for spent in rewarded) if known or not done else None,
    }
