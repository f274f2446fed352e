"""The climb: prepare, then rung by rung search on dev, freeze, test once, decide; then write what was found.

Every finished piece is in the record before the next begins, so that a climb killed at any moment goes on with `--resume` and
reaches the same decision.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from lastresort.after.compare.compare import compare_ways
from lastresort.after.compare.entries import why_nothing
from lastresort.after.compare.names import Asked, settle_asked
from lastresort.after.repair.phase import after_repairs, first_gate_of, repairs_of
from lastresort.climb.break_even import Priced, Saving
from lastresort.climb.budget import Budget, beyond_limits
from lastresort.climb.costs import break_even_entry, cheapest_of, priced_systems, saving_after
from lastresort.climb.decide import Conclusion, Rules, RungOutcome, conclude, may_ship, next_step
from lastresort.climb.decision import decision_of
from lastresort.climb.identity import changed_keys, note_origin, provenance
from lastresort.climb.judging import Seat, refuse_what_the_judge_cannot_read
from lastresort.climb.prepare import Prepared, data_report, prepare, with_shares
from lastresort.climb.reasons import extra_reasons, would_change
from lastresort.climb.room import check_room, max_new_tokens, refuse_what_fits_no_prompt
from lastresort.climb.test import run_test
from lastresort.climb.winner import write_winner
from lastresort.climb.workspace import LEDGER, RESPONSES, held, shared_folder
from lastresort.data.rendering import training_messages
from lastresort.errors import TaskError
from lastresort.gate.in_climb import Mode, gated, mode_of, shown
from lastresort.gate.suite_table import check_further
from lastresort.models.open import settled_name
from lastresort.records.ledger import Ledger, item_hash
from lastresort.records.record import Record
from lastresort.records.responses import ResponseCache
from lastresort.report.decision import write_decision
from lastresort.report.html import write_report
from lastresort.report.words import break_even
from lastresort.report.words.wording import percent_in_text as percent
from lastresort.rungs import TRAINED
from lastresort.rungs.open_models import OpenModels
from lastresort.rungs.prompting import instruction
from lastresort.rungs.rung import GivenUp, Search, Workbench, find_rung
from lastresort.rungs.supervised.training import tuned_model
from lastresort.spec.task import Task
from lastresort.systems.files import load_system
from lastresort.systems.system import PromptDesign, System
from lastresort.types import Decided, Decoding, Judgement, Progress, Silent


@dataclass(frozen=True, slots=True)
class Climbed:
    """A finished climb: its folder, decision and report."""

    run: Path
    decision: dict[str, Any]
    report: Path


def climb(
    task: Task | Prepared,
    run: Path,
    *,
    until: str | None = None,
    gate: Mode | None = None,
    compare: Asked | None = None,
    progress: Progress | None = None,
    clock: Callable[[], float] = time.monotonic,
) -> Climbed:
    """Climb the ladder of `task` in the folder `run`, going on from whatever its record already holds.

    until: the last rung to try. gate: what a tuned system that would win is asked before it does; None as the run was begun with,
    at first the full gate. Raises InputError for bad input, StoppedError where it stopped and can be resumed.
    """
    progress = progress or Silent()
    progress.stage("reading the task", None)
    prepared = prepare(task) if isinstance(task, Task) else task
    rules = rules_of(prepared.task, until)
    run.mkdir(parents=True, exist_ok=True)
    with held(run), Record.open(run) if (run / "record.sqlite").exists() else Record.create(run) as record:
        prepared = with_shares(record, prepared)
        _same_task(record, prepared, run)
        note_origin(record, prepared.task, run)
        asked = settle_asked(record, compare, prepared, rules.until)
        shared = shared_folder(run)
        with Ledger(shared / LEDGER) as ledger:
            budget = Budget.of(prepared.task, record, clock)
            bench = _workbench(prepared, record, run, _models(prepared.task, shared), progress, budget)
            mode = mode_of(record, gate)
            if mode != "none":
                check_further(prepared.task)
            try:
                outcomes, why, saving = _climb_rungs(bench, prepared, rules, ledger, mode)
                costs = break_even_entry(bench.task, _standing(bench, outcomes), saving)
                conclusion = _concluded(bench, rules, outcomes, why)
                if asked.names:
                    _decide(
                        bench, prepared, rules, outcomes, conclusion, ledger, costs
                    )  # whatever becomes of the comparison
                    compare_ways(bench, prepared, asked, conclusion.winner, ledger)
            finally:
                budget.note()
                bench.models.close()
            decision = _decide(bench, prepared, rules, outcomes, conclusion, ledger, costs)
            return Climbed(run, decision, write_report(run))  # the report last, so that it marks a finished run


def _models(task: Task, shared: Path) -> OpenModels:
    return OpenModels(
        ResponseCache(shared / RESPONSES),
        base_folder=task.folder,
        base_name=settled_name(task.model, task.folder),
        tuned_name=settled_name(tuned_model(task), task.folder),
        prompt_price=task.use.prompt_price or 0.0,
        output_price=task.use.output_price or 0.0,
    )


def rules_of(task: Task, until: str | None) -> Rules:
    if until is not None and until not in task.ladder:
        raise TaskError(
            f"--until {until}",
            where=task.path.name,
            expected=f"one of the ladder: {', '.join(task.ladder)}",
            remedy="Name one of these.",
        )
    return Rules(task.ladder, task.bar, task.on_undecided, until)


def _same_task(record: Record, prepared: Prepared, run: Path) -> None:
    """Note the task and its files at the first start; refuse to go on with others. Limits may change, since more may be spent, and
    so may the volume and the price of an hour, by which costs are only weighed.
    """
    resolved = {key: value for key, value in prepared.task.resolved().items() if key != "limits"}
    found = {"task": {**resolved, "path": prepared.task.path.name}, "files": prepared.files}
    for kind, now in found.items():
        known = record.last(kind)
        if known is None:
            record.note(kind, now)
            continue
        changed = changed_keys(known, now, prepared.task if kind == "task" else None)
        if changed:
            raise TaskError(
                f"the {kind} of this run differs from the one this run began with, in {', '.join(changed)}",
                where=f"{prepared.task.path.name} and {run}",
                expected="an unchanged task and unchanged data",
                remedy="Undo the change, or start a new run without --resume.",
            )


def _workbench(
    prepared: Prepared, record: Record, run: Path, models: OpenModels, progress: Progress, budget: Budget
) -> Workbench:
    task = prepared.task
    kwargs = task.chat_template_kwargs
    bare = System("bare", models.base_name, PromptDesign(instruction(task)), Decoding(1), template_kwargs=kwargs)
    progress.stage(f"opening the model {task.model}", None)
    model = models.open(bare)
    seat = Seat(task, record, models, budget.pay)
    scorer = seat.seated(prepared.scorer)
    known = record.last("sizes")
    if known is None:
        known = {"max_new_tokens": max_new_tokens(prepared, model), "model": model.fingerprint}
        too_long = refuse_what_fits_no_prompt(task, prepared.split, models, known["max_new_tokens"])
        refuse_what_the_judge_cannot_read(scorer, (*prepared.split.dev, *prepared.split.test), known["max_new_tokens"])
        record.note("too_long", {"train": too_long})
        model = models.open(bare)
        report = data_report(
            prepared, lambda example: model.count_tokens(training_messages(example)), model.context_tokens
        )
        record.note("data", report.as_dict())
        record.note("sizes", known)
    elif known["model"] != model.fingerprint:
        raise TaskError(
            f"the model {task.model} is not the one this run began with (its weights, template or precision differ)",
            where=str(run),
            expected="the same model",
            remedy="Start a new run without --resume.",
        )
    seat.check_agreement(scorer, progress, budget.check)
    return Workbench(
        task=task,
        train=tuple(prepared.split.train),
        dev=tuple(prepared.split.dev),
        scorer=scorer,
        record=record,
        folder=run,
        models=models,
        progress=progress,
        max_new_tokens=known["max_new_tokens"],
        check_budget=budget.check,
        pay=budget.pay,
        out_of_time=budget.out_of_time,
        preferences=prepared.preferences,
        hours_left=budget.hours_left,
        check_room=lambda system: check_room(models.answerer(system), (*prepared.split.dev, *prepared.split.test)),
        shared=shared_folder(run),
    )


def _climb_rungs(
    bench: Workbench, prepared: Prepared, rules: Rules, ledger: Ledger, mode: Mode
) -> tuple[list[RungOutcome], str, Saving | None]:
    """Go up until the decision says stop and what would win has passed the gate, or may not win. Returns the outcomes in order, why
    it stopped, and what `goal: cost` weighed.
    """
    outcomes: list[RungOutcome] = []
    saving: Saving | None = None
    while True:
        weighed = saving_after(bench, prepared, rules, outcomes)
        if weighed is not None:
            saving = weighed
            bench.progress.say(weighed.because)
        step = next_step(rules, outcomes, weighed)
        if step.rung is None:
            asked = _ask_gate(bench, prepared, outcomes, _concluded(bench, rules, outcomes, step.because), mode)
            if asked is None:
                return outcomes, step.because, saving
            ledger.use([item_hash(example) for example in prepared.split.test], bench.record.run_id)
            outcomes = asked
            continue
        outcome = _one_rung(bench, prepared, step.rung, ledger)
        outcomes.append(outcome)
        bench.progress.say(_outcome_line(outcome))


def _standing(bench: Workbench, outcomes: Sequence[RungOutcome]) -> list[Priced]:
    """The tested systems with their costs, without those that the gate rejected."""
    return priced_systems(bench.task, bench.record, [outcome for outcome in outcomes if not outcome.rejected])


def _concluded(bench: Workbench, rules: Rules, outcomes: Sequence[RungOutcome], why: str) -> Conclusion:
    free = may_ship(outcomes)
    systems = [system for system in _standing(bench, outcomes) if system.rung in free]
    return conclude(rules, outcomes, why, cheapest_of(bench.task, systems))


def _ask_gate(
    bench: Workbench, prepared: Prepared, outcomes: Sequence[RungOutcome], conclusion: Conclusion, mode: Mode
) -> list[RungOutcome] | None:
    """The outcomes with the gate's word on the tuned system that would win, after its repairs; None where nothing is asked."""
    won = next((outcome for outcome in outcomes if outcome.rung == conclusion.winner), None)
    if won is None or won.rung not in TRAINED or won.gate is not None:
        return None
    found = gated(bench, prepared, outcomes, won, mode)
    if found is None:
        return None
    bench.progress.say(f"{won.rung}: the gate says {found.verdict}: {found.because}")
    settled = after_repairs(bench, prepared, outcomes, replace(won, gate=found), mode)
    return [settled if outcome is won else outcome for outcome in outcomes]


def _one_rung(bench: Workbench, prepared: Prepared, name: str, ledger: Ledger) -> RungOutcome:
    rung = find_rung(name)
    skipped = rung.skip_reason(bench.task, bench.train) if rung is not None else why_absent(name, bench.task)
    if rung is None or skipped is not None:
        if bench.record.last("skip", name) is None:
            bench.record.note("skip", {"rung": name, "reason": skipped}, key=name)
        return RungOutcome(name, skipped=skipped)
    if (beyond := beyond_limits(bench, prepared, rung)) is not None:
        bench.record.note("skip", {"rung": name, "reason": beyond}, key=name)
        return RungOutcome(name, skipped=beyond)
    given_up = bench.record.last("given_up", name)
    if given_up is not None:
        return RungOutcome(name, skipped=given_up["reason"])
    frozen = bench.record.last("frozen", name)
    if frozen is None:
        found = rung.search(bench)
        if isinstance(found, GivenUp):
            return _note_given_up(bench, name, found)
        _note_search(bench, name, found)
        frozen = bench.record.last("frozen", name)
        assert frozen is not None
    system = load_system(bench.candidate_folder(name, frozen["name"]))
    known = bench.record.last("verdict", name)
    if known is not None and "unit" in known["judgement"]:  # as version 0.1 noted it, it is judged again from its items
        return RungOutcome(name, _judgement(known["judgement"]), system.name)
    judgement, measurement = run_test(bench, name, system, prepared.split.test)
    used = {item.id for item in measurement.items}
    ledger.use([item_hash(example) for example in prepared.split.test if example.id in used], bench.record.run_id)
    bench.record.note("verdict", {"rung": name, "judgement": asdict(judgement)}, key=name)
    return RungOutcome(name, judgement, system.name)


def why_absent(name: str, task: Task) -> str:
    return "this version of lastresort cannot try it yet"


def _note_given_up(bench: Workbench, rung: str, found: GivenUp) -> RungOutcome:
    """Record that the search showed the rung to be no way, so that a resumed climb does not search again."""
    bench.record.note("given_up", {"rung": rung, "reason": found.reason}, key=rung)
    return RungOutcome(rung, skipped=found.reason)


def _note_search(bench: Workbench, rung: str, search: Search) -> None:
    """Record what the search found, and freeze its choice."""
    seconds = {m.candidate: 0.0 for m in bench.record.measurements()}
    for m in bench.record.measurements():
        seconds[m.candidate] += m.seconds
    bench.record.note(
        "search",
        {
            "rung": rung,
            "candidates": [
                {
                    "name": candidate.system.name,
                    "dev": {"score": candidate.score, "n": candidate.n},
                    "prompt_tokens": round(candidate.prompt_tokens, 1),
                    "seconds": round(seconds.get(candidate.system.name, 0.0), 3),
                }
                for candidate in search.candidates
            ],
            "chosen": search.chosen.name,
            "why": search.why,
            "note": search.note,
            "bias_corrected": search.bias_corrected,
        },
        key=rung,
    )
    bench.record.note("frozen", {"rung": rung, "name": search.chosen.name}, key=rung)


def _decide(
    bench: Workbench,
    prepared: Prepared,
    rules: Rules,
    outcomes: Sequence[RungOutcome],
    conclusion: Conclusion,
    ledger: Ledger,
    costs: dict[str, Any] | None,
) -> dict[str, Any]:
    """Write the winner and the decision, each whole or not at all."""
    task = bench.task
    gate = shown(bench.record, outcomes, conclusion.winner)
    decision = decision_of(
        task,
        bench.record,
        outcomes,
        conclusion,
        winner=write_winner(bench, conclusion, outcomes),
        gate=gate,
        first_gate=first_gate_of(bench.record, gate),
        repairs=repairs_of(bench.record),
        extra_reasons=[
            *break_even.reasons(costs, task.goal),
            *extra_reasons(bench, prepared, conclusion, outcomes),
            *why_nothing(bench.record),
        ],
        would_change=would_change(rules, outcomes, conclusion, knowledge=task.knowledge is not None),
        break_even=costs,
        test_reuse=ledger.reuse_summary([item_hash(example) for example in prepared.split.test], bench.record.run_id),
        provenance=provenance(task, prepared.files, bench.record),
    )
    bench.record.note("decision", decision)
    write_decision(bench.folder, decision)
    return decision


def _judgement(body: dict[str, Any]) -> Judgement:
    decided = None if body["decided"] is None else Decided(**body["decided"])
    return Judgement(**{**body, "interval": tuple(body["interval"]), "decided": decided})


def _outcome_line(outcome: RungOutcome) -> str:
    if outcome.judgement is None:
        return f"{outcome.rung}: skipped, {outcome.skipped}"
    return (
        f"{outcome.rung}: {outcome.judgement.outcome}, {outcome.system} scored {percent(outcome.judgement.score)} "
        f"on {outcome.judgement.n_used} test {outcome.judgement.unit}s"
    )
