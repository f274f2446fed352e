"""How a climb goes: from the cheapest rung up, until the evidence says stop.

For each rung of the task's ladder, in order:

    skip      a rung that does not apply, or does not fit the time left        `Rung.skip_reason`, `climb.budget`
    search    build candidate systems, measure them on dev, choose one          `Rung.search`
    freeze    the chosen system is in the record before the test is touched
    test      once, on held-out items, against the bar: MET, NOT_MET, UNDECIDED `climb.bar_test`
    decide    the next rung, or stop                                            `climb.decide.next_step`

`next_step` goes up only where the rung below is not shown to meet the bar. When it stops on a trained system that would win, the
gate asks whether that system broke anything else (`review`, which `app.climb` hands in: the gate, then repairs). A rejected system
may not win, so the loop decides again, and may go on up. At the end `climb.decide.conclude` names the winner and the reasons.

All judgement is in `climb.decide`, which is pure. A new rung is a class with the methods of `rungs.rung.Rung` and a row in
`ladder`; nothing here names one.

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
from lastresort.climb.decide import Conclusion, Rules, RungOutcome, conclude, may_ship, next_step
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
) -> tuple[list[RungOutcome], Stopped | None, CostSaving | None]:
    """Climb until `next_step` says stop and a trained winner has its gate verdict. Returns the outcomes in order, why it stopped,
    and what `goal: cost` weighed.
    """
    outcomes: list[RungOutcome] = []
    saving: CostSaving | None = None
    while True:
        weighed = saving_after(bench, prepared, rules, outcomes)
        if weighed is not None:
            saving = weighed
            bench.progress.say(why_gone_on(weighed))
        step = next_step(rules, outcomes, weighed, met_in(bench.record, _ahead(rules, outcomes)))
        if step.rung is None:
            reviewed = _reviewed(outcomes, concluded(bench, rules, outcomes, step.stopped), review)
            if reviewed is None:
                return outcomes, _with_rung_ahead(bench, prepared, rules, step.stopped), saving
            ledger.use([item_hash(example) for example in prepared.split.test], bench.record.run_id)
            outcomes = reviewed
            continue
        outcome = _climb_rung(bench, prepared, step.rung, ledger)
        outcomes.append(outcome)
        bench.progress.say(progress_line(outcome.rung, outcome.system, outcome.judgement, outcome.skipped))


def _with_rung_ahead(bench: Workbench, prepared: PreparedTask, rules: Rules, stopped: Stopped | None) -> Stopped | None:
    if stopped is None or stopped.why != "UNTIL":
        return stopped
    return replace(stopped, ahead=rung_ahead(bench, prepared, rules.ladder, stopped.at))


def eligible(bench: Workbench, outcomes: Sequence[RungOutcome]) -> list[MeasuredSystem]:
    """The tested systems that the gate has not rejected, with their costs."""
    return priced_systems(bench.task, bench.record, [outcome for outcome in outcomes if not outcome.rejected])


def concluded(bench: Workbench, rules: Rules, outcomes: Sequence[RungOutcome], stopped: Stopped | None) -> Conclusion:
    free = may_ship(outcomes)
    systems = [system for system in eligible(bench, outcomes) if system.rung in free]
    return conclude(rules, outcomes, stopped, cheapest_of(bench.task, systems))


def _reviewed(outcomes: Sequence[RungOutcome], conclusion: Conclusion, review: Review) -> list[RungOutcome] | None:
    """The outcomes after the review of the tuned system that would win; None if there is no review."""
    won = next((outcome for outcome in outcomes if outcome.rung == conclusion.winner), None)
    if won is None or not trains(won.rung) or won.gate is not None:
        return None
    settled = review(outcomes, won)
    return None if settled is None else [settled if outcome is won else outcome for outcome in outcomes]


def _ahead(rules: Rules, outcomes: Sequence[RungOutcome]) -> list[str]:
    """The rungs above these, as far as the climb may go."""
    done = {outcome.rung for outcome in outcomes}
    return [rung for rung in rules.rungs if rung not in done]


def _climb_rung(bench: Workbench, prepared: PreparedTask, name: str, ledger: Ledger) -> RungOutcome:
    rung = find_rung(name)
    bench.at(name)
    given_up = bench.record.last(RungGivenUp, name)
    if given_up is not None:
        return RungOutcome(name, skipped=given_up.reason)
    frozen = bench.record.last(SystemFrozen, name)
    if frozen is None and (reason := _why_skipped(bench, prepared, rung)) is not None:
        known = bench.record.last(RungSkipped, name)
        if known is None or known.reason != reason:
            bench.record.append(RungSkipped(rung=name, reason=reason))
        return RungOutcome(name, skipped=reason)
    alpha = bench.alpha_of_rung(name)
    if frozen is None:
        say_cost(bench, prepared, rung)
        found = rung.search(bench)
        if isinstance(found, GivenUp):
            return _give_up(bench, name, found)
        system = load_system(bench.candidate_folder(name, _freeze(bench, name, found).name))
    else:
        system = load_measured(bench.candidate_folder(name, frozen.name), frozen.sha256)
    tested = bench.record.last(RungTested, name)
    parts = [prepared.split.test, *(file.examples for file in prepared.fresh)]
    if tested is not None and not goes_on(tested.judgement, len(parts)):
        return RungOutcome(name, tested.judgement, system.name)
    judgement, measured = run_test(bench, name, system, parts, alpha)
    items = [item for part in measured for item in part.items]
    if cut := sum(item.finish == "length" for item in items):
        bench.progress.say(cut_line(name, cut, len(items), system.decoding.max_new_tokens))
    used = {item.id for item in items}
    asked = [example for part in parts for example in part if example.id in used]
    ledger.use([item_hash(example) for example in asked], bench.record.run_id)
    bench.record.append(
        RungTested(rung=name, system=system.name, judgement=judgement, items=items_in_groups(judgement, parts))
    )
    return RungOutcome(name, judgement, system.name)


def _why_skipped(bench: Workbench, prepared: PreparedTask, rung: Rung) -> Statement | None:
    """Of a rung without a result. One that has a result keeps it, also on a machine on which the rung would be skipped."""
    skipped = rung.skip_reason(bench.task, bench.train)
    return beyond_limits(bench, prepared, rung) if skipped is None else of_skip(skipped)


def _give_up(bench: Workbench, rung: str, found: GivenUp) -> RungOutcome:
    """Record that dev has ruled the rung out, so that a resumed climb does not search again."""
    reason = of_skip(found.reason)
    bench.record.append(RungGivenUp(rung=rung, reason=reason))
    return RungOutcome(rung, skipped=reason)


def _freeze(bench: Workbench, rung: str, search: Search) -> SystemFrozen:
    """Record what the search found and which system goes to the test."""
    seconds: dict[str, float] = {}
    for measured in bench.record.measured():
        seconds[measured.candidate] = seconds.get(measured.candidate, 0.0) + measured.seconds
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
    chosen = bench.candidate_folder(rung, search.chosen.name)
    frozen = SystemFrozen(rung=rung, name=search.chosen.name, sha256=artefact_sha256(chosen))
    bench.record.append(frozen)
    return frozen
