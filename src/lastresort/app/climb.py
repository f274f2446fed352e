"""A climb from its task file to the decision: begin or go on, climb the rungs, gate and repair, compare, write what was found."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from types import MappingProxyType
from typing import Any

from lastresort.after.compare.compare import compare_ways
from lastresort.after.compare.results import comparison_of, why_not_compared
from lastresort.after.compare.ways import ComparisonRequest, settle_request
from lastresort.after.repair.phase import after_repairs
from lastresort.climb.budget import Budget, say_forecast, say_lack_of_memory, skipped_in
from lastresort.climb.costs import break_even_entry
from lastresort.climb.decide import Conclusion, Rules, RungOutcome
from lastresort.climb.decision import decision_of, write_winner
from lastresort.climb.fresh_items import with_fresh
from lastresort.climb.identity import provenance, record_origin, settle_options
from lastresort.climb.laps import ClimbWorkers, take_laps, with_workers
from lastresort.climb.llm_judge import check_agreement
from lastresort.climb.loop import climb_rungs, concluded, eligible, rules_of
from lastresort.climb.prepare import PreparedTask, prepare
from lastresort.climb.reasons import extra_reasons, would_change
from lastresort.climb.room import refuse_beyond_cards, rungs_to_train
from lastresort.climb.shares import note_shares
from lastresort.climb.workbench import StageWriter, open_models, open_workbench, refuse_another_task
from lastresort.climb.workspace import LEDGER, RESPONSES, noted_stop, run_lock, shared_folder
from lastresort.gate.built_in import check_further_suites
from lastresort.gate.in_climb import gate_of_decision, gated_artefact, run_first_gate, settle_mode
from lastresort.records.decision import RunView
from lastresort.records.decision_parts import BreakEven
from lastresort.records.events.run import ClimbDecided, ClimbFinished
from lastresort.records.ledger import Ledger, item_hash
from lastresort.records.record import FILE_NAME as RECORD
from lastresort.records.record import Record
from lastresort.records.responses import ResponseCache
from lastresort.records.view import Finish, last_finish
from lastresort.report.decision import write_decision
from lastresort.report.html import write_report
from lastresort.report.words import break_even
from lastresort.report.words.answer import gate_line, nothing_left
from lastresort.report.words.data import of_reuse
from lastresort.rungs.rung import Workbench
from lastresort.spec.task import Task
from lastresort.stop import NEVER, FirstOf, GoOn, Stop, stop_file
from lastresort.types import SILENT, GateMode, Progress


@dataclass(frozen=True, slots=True)
class Climbed:
    """A finished climb: its folder, how it ended, and its report."""

    run: Path
    decision: RunView
    report: Path


def climb(
    task: Task | PreparedTask,
    run: Path,
    *,
    settings: Mapping[str, Any] = MappingProxyType({}),
    until: str | None = None,
    gate: GateMode | None = None,
    compare: ComparisonRequest | None = None,
    more: Path | None = None,
    progress: Progress = SILENT,
    stop: Stop = NEVER,
    workers: ClimbWorkers | None = None,
    go_on: GoOn | None = None,
    clock: Callable[[], float] = time.monotonic,
) -> Climbed:
    """Climb the ladder of `task` in the folder `run`, going on from whatever its record already holds.

    settings: that were read into `task`, for the record. until: the last rung to try; None for what the run was started with, at
    first the top of the ladder. gate: of a tuned system that would win; None likewise, at first the full gate. more: fresh items,
    with which the tests of the run that ended UNDECIDED go on. stop: checked between batches and steps, as is a file named stop in
    the run's folder, which is removed when the climb ends. workers: that answer and train, None for this process.
    go_on: asks the user before what is expensive, None where nobody is there: then it goes on.
    Raises InputError for bad input, StoppedError where it stopped and can be resumed.
    """
    progress.stage("reading the task", None)
    begins = not (run / RECORD).exists()
    prepared = prepare(task, begins=begins) if isinstance(task, Task) else task
    rules = rules_of(prepared.task, until)  # refused before anything is written, as is what does not fit the cards
    machines = None if workers is None else workers.machines
    if begins:  # else the record says what has its result
        rungs = rungs_to_train(prepared.task, prepared.split.train, rules.rungs)
        refuse_beyond_cards(prepared.task, rungs, machines=machines)
    run.mkdir(parents=True, exist_ok=True)
    with (
        run_lock(run),
        stop_file(run) as file,
        Record.open(run) if (run / RECORD).exists() else Record.create(run) as record,
        noted_stop(record, file, begins=begins),
    ):
        note_shares(record, prepared.shares)
        refuse_another_task(record, prepared, run)
        prepared = with_fresh(prepared, record, run, more)
        record_origin(record, prepared.task, run)
        finished = None if begins else last_finish(record)
        rules = rules_of(prepared.task, settle_options(record, settings, until))
        if not begins:
            rungs = rungs_to_train(prepared.task, prepared.split.train, rules.rungs)
            refuse_beyond_cards(prepared.task, rungs, record, machines=machines)
        comparison = settle_request(record, compare, prepared, rules.until)
        mode = settle_mode(record, gate)
        if mode != "none":
            check_further_suites(prepared.task)  # before the model is loaded and a judge is paid
        shared = shared_folder(run)
        with Ledger(shared / LEDGER) as ledger, ResponseCache(shared / RESPONSES) as cache:
            budget = Budget.of(prepared.task, record, clock)
            writer = StageWriter(progress, record, budget.spent, clock=clock)
            models = open_models(prepared.task, cache, record, writer.read)
            try:
                bench = open_workbench(prepared, record, run, models, writer, budget, FirstOf((stop, file, budget)))
            except BaseException:
                try:  # a large model opens for minutes: one that is stopped meanwhile spent them, too
                    budget.note(left=True)
                finally:
                    models.close()
                raise
            try:
                bench = replace(with_workers(bench, workers), go_on=go_on)
                check_agreement(bench)
                take_laps(bench)
                gated = mode != "none"
                say_lack_of_memory(bench, rules.rungs)
                say_forecast(bench, prepared, rules.rungs, gated=gated)
                review = partial(_gate_and_repair, bench, prepared, mode)
                outcomes, why, saving = climb_rungs(bench, prepared, rules, ledger, review)
                costs = break_even_entry(bench.task, eligible(bench, outcomes), saving)
                conclusion = concluded(bench, rules, outcomes, why)
                if comparison.names:
                    # Decided before the comparison, whatever becomes of it.
                    _decide(bench, prepared, rules, outcomes, conclusion, ledger, costs)
                    compare_ways(with_workers(bench, None), prepared, comparison, conclusion.winner, ledger)
            finally:
                try:
                    budget.note()
                finally:
                    bench.processes.close()
                    bench.models.close()
            decision = _decide(bench, prepared, rules, outcomes, conclusion, ledger, costs)
            if finished is not None and finished.decided_as(decision):
                progress.say(nothing_left(options_kept=_keep_options(record, finished)))
            report = write_report(run)
            record.append(ClimbFinished())
            return Climbed(run, decision, report)


def _keep_options(record: Record, finished: Finish) -> bool:
    """Record again the options that gave the decision where others were named since, so that the report names those. Returns
    whether others were.
    """
    options = (finished.options.chosen, finished.options.gate, finished.options.ways)
    old_events = [event for event in options if event is not None and event != record.last(type(event))]
    for event in old_events:
        record.append(event)
    return bool(old_events)


def _gate_and_repair(
    bench: Workbench, prepared: PreparedTask, mode: GateMode, outcomes: Sequence[RungOutcome], winner: RungOutcome
) -> RungOutcome | None:
    """The outcome of the tuned system that would win, after its gate and repairs; None where no gate is to run."""
    gating = run_first_gate(bench, prepared, outcomes, winner, mode)
    if gating is None:
        return None
    bench.progress.say(gate_line(winner.rung, gating.verdict, gating.cause))
    return after_repairs(bench, prepared, outcomes, replace(winner, gate=gating), mode)


def _decide(
    bench: Workbench,
    prepared: PreparedTask,
    rules: Rules,
    outcomes: Sequence[RungOutcome],
    conclusion: Conclusion,
    ledger: Ledger,
    costs: BreakEven | None,
) -> RunView:
    """Write the winner and the decision, each whole or not at all."""
    task, winner = bench.task, next((outcome for outcome in outcomes if outcome.rung == conclusion.winner), None)
    tested = (*prepared.split.test, *(example for file in prepared.fresh for example in file.examples))
    decision = decision_of(
        bench.record,
        outcomes,
        conclusion,
        winner=write_winner(bench, winner, None if winner is None else gated_artefact(bench.record, winner)),
        gate=gate_of_decision(bench.record, outcomes, conclusion.winner),
        extra_reasons=[
            *break_even.reasons(costs, task.goal),
            *extra_reasons(bench, prepared, conclusion, outcomes),
            *why_not_compared(bench.record),
        ],
        would_change=would_change(
            rules,
            outcomes,
            conclusion,
            knowledge=task.knowledge is not None,
            labelled=0 if bench.correction is None else bench.correction.n,
            inapplicable=skipped_in(bench, task.ladder),
        ),
        compare=comparison_of(bench.record),
        break_even=costs,
        test_reuse=of_reuse(ledger.reuse([item_hash(example) for example in tested], bench.record.run_id)),
        provenance=provenance(task, prepared.files | prepared.fresh_files, bench.record),
    )
    bench.record.append(ClimbDecided(decision=decision))
    write_decision(bench.folder, decision)
    return decision
