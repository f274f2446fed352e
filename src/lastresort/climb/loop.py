"""How a climb goes: from the cheapest rung up, until the evidence says stop.

For each rung of the task's ladder, in order:

    skip      a rung that does not apply, or does not fit the time left        `Rung.skip_reason`, `climb.budget`
    search    build candidate systems, measure them on dev, choose one          `Rung.search`
    freeze    the chosen system is in the record before the test is touched
    test      once, on held-out items, against the bar: MET, NOT_MET, UNDECIDED `climb.bar_test`
    decide    the next rung, or stop                                            `climb.decide.next_rung`

`next_rung` goes up only where the rung below is not shown to meet the bar. When it stops on a trained system that would win, the
gate asks whether that system broke anything else. It comes as an argument (`Review`), since the gate is a layer above the climb:
`app.climb._gate_and_repair` makes it of `gate.in_climb.run_first_gate` and `after.repair`. A rejected system may not win, so the
loop decides again, and may go on up. At the end `climb.decide.conclude` names the winner and the reasons.

All judgement is in `climb.decide`, which is pure. Nothing here names a rung: `ladder` says which places a new
one touches.

Every finished piece is in the record before the next begins, so a climb that was killed goes on with `--resume` and reaches the
same decision.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

from lastresort.climb.bar_test import goes_on, items_in_groups, met_in, run_test
from lastresort.climb.break_even import MeasuredSystem
from lastresort.climb.budget import beyond_limits, rung_ahead, say_cost
from lastresort.climb.costs import cheapest_of, priced_systems, saving_after
from lastresort.climb.decide import Conclusion, Rules, RungOutcome, conclude, may_ship, next_rung
from lastresort.climb.prepare import PreparedTask
from lastresort.errors import TaskError
from lastresort.ladder import trains
from lastresort.records.document import Statement
from lastresort.records.events.search import (
    RungGivenUp,
    RungSearched,
    RungSkipped,
    RungTested,
    SearchedCandidate,
    SystemFrozen,
)
from lastresort.records.ledger import Ledger, item_hash
from lastresort.records.measurement import DevScore
from lastresort.records.reasons import CostSaving, Stopped
from lastresort.report.words.answer import progress_line
from lastresort.report.words.break_even import why_gone_on
from lastresort.report.words.progress import cut_line
from lastresort.report.words.rungs import of_search, of_skip
from lastresort.rungs.rung import GivenUp, Rung, Search, Workbench, find_rung
from lastresort.spec.task import Task
from lastresort.systems.files import artefact_sha256, load_measured, load_system

Review = Callable[[Sequence[RungOutcome], RungOutcome], RungOutcome | None]
"""(outcomes so far, the trained one that would win) -> that outcome after its gate and repairs; None where no gate is to run."""


def rules_of(task: Task, until: str | None) -> Rules:
    if until is not None and until not in task.ladder:
        raise TaskError(
            f"--until {until}",
            where=task.path.name,
            expected=f"one of the ladder: {', '.join(task.ladder)}",
            remedy="Name one of these.",
        )
    return Rules(task.ladder, task.bar, task.on_undecided, until)


def climb_rungs(
    bench: Workbench, prepared: PreparedTask, rules: Rules, ledger: Ledger, review: Review
) -> tuple[list[RungOutcome], Stopped, CostSaving | None]:
    """Climb until `next_rung` says stop and a trained winner has its gate verdict. Returns the outcomes in order, why it stopped,
    and what `goal: cost` weighed.
    """
    outcomes: list[RungOutcome] = []
    last_saving: CostSaving | None = None
    while True:
        saving = saving_after(bench, prepared, rules, outcomes)
        if saving is not None:
            last_saving = saving
            bench.progress.say(why_gone_on(saving))
        step = next_rung(rules, outcomes, saving, met_in(bench.record, _rungs_ahead(rules, outcomes)))
        if isinstance(step, Stopped):
            reviewed = _after_review(outcomes, concluded(bench, rules, outcomes, step), review)
            if reviewed is None:
                return outcomes, _with_rung_ahead(bench, prepared, rules, step), last_saving
            ledger.use([item_hash(example) for example in prepared.split.test], bench.record.run_id)
            outcomes = reviewed
            continue
        outcome = _climb_rung(bench, prepared, step, ledger)
        outcomes.append(outcome)
        bench.progress.say(progress_line(outcome.rung, outcome.system, outcome.judgement, outcome.skipped))


def _with_rung_ahead(bench: Workbench, prepared: PreparedTask, rules: Rules, stopped: Stopped) -> Stopped:
    if stopped.why != "UNTIL":
        return stopped
    return replace(stopped, ahead=rung_ahead(bench, prepared, rules.ladder, stopped.at))


def eligible(bench: Workbench, outcomes: Sequence[RungOutcome]) -> list[MeasuredSystem]:
    """The tested systems that the gate has not rejected, with their costs."""
    return priced_systems(bench.task, bench.record, [outcome for outcome in outcomes if not outcome.rejected])


def concluded(bench: Workbench, rules: Rules, outcomes: Sequence[RungOutcome], stopped: Stopped | None) -> Conclusion:
    shippable = may_ship(outcomes)
    systems = [system for system in eligible(bench, outcomes) if system.rung in shippable]
    return conclude(rules, outcomes, stopped, cheapest_of(bench.task, systems))


def _after_review(outcomes: Sequence[RungOutcome], conclusion: Conclusion, review: Review) -> list[RungOutcome] | None:
    """The outcomes after the review of the tuned system that would win; None if there is no review."""
    winner = next((outcome for outcome in outcomes if outcome.rung == conclusion.winner), None)
    if winner is None or not trains(winner.rung) or winner.gate is not None:
        return None
    reviewed = review(outcomes, winner)
    return None if reviewed is None else [reviewed if outcome is winner else outcome for outcome in outcomes]


def _rungs_ahead(rules: Rules, outcomes: Sequence[RungOutcome]) -> list[str]:
    """The rungs above these, as far as the climb may go."""
    climbed = {outcome.rung for outcome in outcomes}
    return [rung for rung in rules.rungs if rung not in climbed]


def _climb_rung(bench: Workbench, prepared: PreparedTask, name: str, ledger: Ledger) -> RungOutcome:
    rung = find_rung(name)
    bench.at(name)
    given_up = bench.record.last(RungGivenUp, name)
    if given_up is not None:
        return RungOutcome(name, skipped=given_up.reason)
    frozen = bench.record.last(SystemFrozen, name)
    if frozen is None and (reason := _why_skipped(bench, prepared, rung)) is not None:
        last_skip = bench.record.last(RungSkipped, name)
        if last_skip is None or last_skip.reason != reason:
            bench.record.append(RungSkipped(rung=name, reason=reason))
        return RungOutcome(name, skipped=reason)
    alpha = bench.alpha_of_rung(name)
    if frozen is None:
        say_cost(bench, prepared, rung)
        search = rung.search(bench)
        if isinstance(search, GivenUp):
            return _give_up(bench, name, search)
        system = load_system(bench.candidate_folder(name, _freeze(bench, name, search).name))
    else:
        system = load_measured(bench.candidate_folder(name, frozen.name), frozen.sha256)
    last_test = bench.record.last(RungTested, name)
    parts = [prepared.split.test, *(file.examples for file in prepared.fresh)]
    if last_test is not None and not goes_on(last_test.judgement, len(parts)):
        return RungOutcome(name, last_test.judgement, system.name)
    judgement, measurements = run_test(bench, name, system, parts, alpha)
    items = [item for part in measurements for item in part.items]
    if n_cut := sum(item.finish == "length" for item in items):
        bench.progress.say(cut_line(name, n_cut, len(items), system.decoding.max_new_tokens))
    tested_ids = {item.id for item in items}
    tested_examples = [example for part in parts for example in part if example.id in tested_ids]
    ledger.use([item_hash(example) for example in tested_examples], bench.record.run_id)
    bench.record.append(
        RungTested(rung=name, system=system.name, judgement=judgement, items=items_in_groups(judgement, parts))
    )
    return RungOutcome(name, judgement, system.name)


def _why_skipped(bench: Workbench, prepared: PreparedTask, rung: Rung) -> Statement | None:
    """Of a rung without a result. One that has a result keeps it, also on a machine on which the rung would be skipped."""
    skip = rung.skip_reason(bench.task, bench.train)
    return beyond_limits(bench, prepared, rung) if skip is None else of_skip(skip)


def _give_up(bench: Workbench, rung: str, given_up: GivenUp) -> RungOutcome:
    """Record that dev has ruled the rung out, so that a resumed climb does not search again."""
    reason = of_skip(given_up.reason)
    bench.record.append(RungGivenUp(rung=rung, reason=reason))
    return RungOutcome(rung, skipped=reason)


def _freeze(bench: Workbench, rung: str, search: Search) -> SystemFrozen:
    """Record what the search found and which system goes to the test."""
    seconds: dict[str, float] = {}
    for measurement in bench.record.measured():
        seconds[measurement.candidate] = seconds.get(measurement.candidate, 0.0) + measurement.seconds
    candidates = tuple(
        SearchedCandidate(
            name=candidate.system.name,
            dev=DevScore(score=candidate.score, n=candidate.n),
            prompt_tokens=round(candidate.prompt_tokens, 1),
            seconds=round(seconds.get(candidate.system.name, 0.0), 3),
        )
        for candidate in search.candidates
    )
    bench.record.append(
        RungSearched(
            rung=rung,
            candidates=candidates,
            chosen=search.chosen.name,
            why=search.why,
            findings=tuple(of_search(finding) for finding in search.findings),
            bias_corrected=search.bias_corrected,
        )
    )
    chosen_folder = bench.candidate_folder(rung, search.chosen.name)
    frozen = SystemFrozen(rung=rung, name=search.chosen.name, sha256=artefact_sha256(chosen_folder))
    bench.record.append(frozen)
    return frozen
