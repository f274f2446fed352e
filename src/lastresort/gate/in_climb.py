"""The gates of a climb: a tuned system that would win is compared with its base before the decision; after a repair, a second time.

The result is recorded under the rung, so a resumed climb does not ask again, whatever mode it names: a second look at the same
system would add its own error. A gate that was stopped resumes from the kept answers.

The target is the tuned system against the best untuned one, on all test items, or on the first of them in a quick gate. Both were
tested against the bar before and may have stopped early; that verdict stays. The remaining items are asked now and recorded
separately, so that the two can be compared in pairs. How many are compared is fixed beforehand, because the number that the tests
used depends on their result.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

from lastresort.climb.bar_test import order_of_test
from lastresort.climb.break_even import currency_of
from lastresort.climb.costs import priced_systems
from lastresort.climb.decide import Gating, RungOutcome, best_prompt
from lastresort.climb.prepare import PreparedTask
from lastresort.data.split import groups_of
from lastresort.gate.command import gate_sides
from lastresort.gate.scored import GateSettings
from lastresort.gate.sides import resolve_sides
from lastresort.gate.suites.asking import kept_answers
from lastresort.gate.target import first_items
from lastresort.gate.verdict.decide import CLIMB_ALPHA, Comparator, judge_target, judged_again, kept_out, repairs_after
from lastresort.records.events.after_test import GateChosen, GateRun, gate_key
from lastresort.records.gate import ClimbGate, TargetFound
from lastresort.records.gate_cause import cause_of, needs_of
from lastresort.records.measurement import rest_of_test
from lastresort.records.record import Measurement, Record
from lastresort.report.words.gate import already_gated
from lastresort.rungs.rung import Workbench
from lastresort.scale.executor import crew_of
from lastresort.systems.files import load_system
from lastresort.types import Example, GateMode, Judgement, LabelledProgress, MeasureSoFar

QUICK_COMPARED = 96

Costs = tuple[float, float] | tuple[None, None]


def judge_climb_target(
    bench: Workbench,
    test: Sequence[Example],
    prompt: RungOutcome | None,
    tuned: RungOutcome,
    alpha: float,
    *,
    quick: bool = False,
) -> TargetFound:
    """Does the tuned system meet the bar, and is it better than the best prompt?

    prompt: None if no untuned system was tested, so that the bar alone decides. quick: compare on the first items only, which can
    cost power and nothing else.
    """
    assert tuned.judgement is not None
    if prompt is None:
        return judge_target(tuned.judgement, alpha=alpha)
    whole_order = order_of_test(test)
    order = first_items(whole_order, QUICK_COMPARED) if quick else whole_order
    prompt_scores, tuned_scores = (_scores(bench, outcome, order) for outcome in (prompt, tuned))
    costs = _call_costs(bench, prompt, tuned)
    comparator = Comparator(
        f"{prompt.rung} ({prompt.system})", prompt_scores, tuned_scores, bench.scorer.binary, groups_of(order), *costs
    )
    return judge_target(tuned.judgement, comparator, alpha=alpha, seed=bench.task.split.seed)


def _scores(bench: Workbench, outcome: RungOutcome, order: Sequence[Example]) -> list[float]:
    """Of every item of the order, a prefix of the test set."""
    assert outcome.system is not None
    measurement = bench.record.measurement(outcome.rung, outcome.system, "test")
    assert measurement is not None
    items = [*measurement.items[: len(order)], *_rest(bench, outcome, order[measurement.n :], measurement.n).items]
    return [item.score for item in items]


def _rest(bench: Workbench, outcome: RungOutcome, examples: Sequence[Example], start: int) -> Measurement:
    """Items that the test did not reach. They begin where a batch ended, so batches are those of the whole test."""
    assert outcome.system is not None
    split = rest_of_test(start, start + len(examples))
    recorded = bench.record.measurement(outcome.rung, outcome.system, split)
    if recorded is not None or not examples:
        return recorded or Measurement(outcome.rung, outcome.system, split, 0, ())
    system = load_system(bench.candidate_folder(outcome.rung, outcome.system))
    items = bench.test_scores(system, examples, f"gate: the rest of the test set, {system.name}")
    measurement = Measurement(outcome.rung, outcome.system, split, len(examples), tuple(items))
    bench.record.add_measurement(measurement)
    return measurement


def _call_costs(bench: Workbench, prompt: RungOutcome, tuned: RungOutcome) -> Costs:
    """Cost of a call of each, in the same unit; None if a price is missing, or if seconds count that do not compare."""
    calls = {system.rung: system.call for system in priced_systems(bench.task, bench.record, [prompt, tuned])}
    hourly_price = bench.task.use.hourly_price
    currency = currency_of(calls.values(), hourly_price)
    if currency is None or len(calls) < 2 or not bench.models.seconds_compare:  # a tuned model's calls cost seconds
        return None, None
    return calls[prompt.rung].value(currency, hourly_price), calls[tuned.rung].value(currency, hourly_price)


def gating_of(gate: ClimbGate) -> Gating:
    cause = cause_of(gate.suites, gate.target, costly=gate.costly)
    if gate.verdict != "HOLD":
        return Gating(gate.verdict, cause)
    needs = needs_of(gate.suites, gate.target, costly=gate.costly, leaves_out=kept_out)
    return Gating(gate.verdict, cause, tuple(needs))


SEED = 0  # of the first gate; the second has the next


def settle_mode(record: Record, requested: GateMode | None) -> GateMode:
    """The mode asked for now, else the one that the run was started or last resumed with, else full. Recorded if it changes."""
    event = record.last(GateChosen)
    mode: GateMode = requested or (event.mode if event is not None else "full")
    if event is None or event.mode != mode:
        record.append(GateChosen(mode=mode))
    return mode


def run_first_gate(
    bench: Workbench, prepared: PreparedTask, outcomes: Sequence[RungOutcome], winner: RungOutcome, mode: GateMode
) -> Gating | None:
    """The gate of a tuned system; None if the mode is none and it was not gated before. One that was gated before its test went on
    with fresh items is judged again, whatever the mode: that asks nothing.

    outcomes: of the climb so far, for the best prompt to compare with. winner: of the tuned system. Raises StoppedError if a limit
    is reached or a model cannot be asked; a resumed climb goes on from there.
    """
    run = bench.record.last(GateRun, gate_key(winner.rung, repaired=False))
    if run is None and mode == "none":
        return None
    if run is None:
        settings = GateSettings(SEED, mode == "quick", CLIMB_ALPHA)
        run = GateRun(gate=_gate(bench, prepared, best_prompt(outcomes), winner, settings), repaired=False)
        bench.record.append(run)
    elif winner.judgement is not None and _went_on(run.gate, winner.judgement):
        run = GateRun(gate=judged_again(run.gate, winner.judgement), repaired=False)
        bench.record.append(run)
    elif mode != run.gate.mode:
        ends_repairs = mode == "none" and repairs_after(run.gate) is not None
        bench.progress.say(already_gated(winner.rung, run.gate.mode, ends_repairs=ends_repairs))
    return gating_of(run.gate)


def _went_on(gate: ClimbGate, test: Judgement) -> bool:
    """Whether the test of the bar was UNDECIDED when the gate ran, and has gone on: with fresh items, or at a larger error."""
    target = gate.target
    return target.outcome == "UNDECIDED" and (test.outcome, test.n_used) != (target.outcome, target.n)


def run_second_gate(
    bench: Workbench, prepared: PreparedTask, outcomes: Sequence[RungOutcome], repaired: RungOutcome, first: ClimbGate
) -> ClimbGate:
    """The second gate, of a repaired system, on fresh items. first: the gate that led to the repair."""
    run = bench.record.last(GateRun, gate_key(repaired.rung, repaired=True))
    if run is None:
        settings = GateSettings(first.seed + 1, first.mode == "quick", CLIMB_ALPHA, facts="most")
        run = GateRun(gate=_gate(bench, prepared, best_prompt(outcomes), repaired, settings), repaired=True)
        bench.record.append(run)
    return run.gate


def recorded_gate(record: Record, rung: str, system: str | None) -> ClimbGate | None:
    """The last gate of this system, None if it was not gated."""
    gates = [run.gate for run in record.all(GateRun) if (run.gate.rung, run.gate.system) == (rung, system)]
    return gates[-1] if gates else None


def gated_artefact(record: Record, outcome: RungOutcome) -> str | None:
    """Hash of the system as it was gated, None if it was not."""
    gate = recorded_gate(record, outcome.rung, outcome.system)
    return gate.artefact_sha256 if gate is not None and outcome.gate is not None else None


def gate_of_decision(record: Record, outcomes: Sequence[RungOutcome], winner: str | None) -> ClimbGate | None:
    """The `gate` of decision.json: the winner's, or the last one's if nothing gated won."""
    gated = [outcome for outcome in outcomes if outcome.gate is not None]
    winners = [outcome for outcome in gated if outcome.rung == winner]
    return next((recorded_gate(record, one.rung, one.system) for one in (*winners, *reversed(gated))), None)


def _gate(
    bench: Workbench, prepared: PreparedTask, prompt: RungOutcome | None, winner: RungOutcome, settings: GateSettings
) -> ClimbGate:
    assert winner.system is not None
    bench.at(winner.rung, winner.system, "gate")
    target = judge_climb_target(bench, prepared.split.test, prompt, winner, settings.alpha, quick=settings.quick)
    bench.models.close()  # the gate opens base and tuned model itself
    folder = bench.candidate_folder(winner.rung, winner.system)
    sides = resolve_sides(bench.models.tuned_name, str(folder.absolute()), bench.task.chat_template_kwargs, folder)
    assert bench.shared is not None
    assert sides.system is not None
    on_look = partial(_show_look, bench, winner.rung, winner.system)
    progress = LabelledProgress(bench.progress, "gate")
    with kept_answers(bench.shared, scores=sides.base.scores) as answers:
        findings = gate_sides(
            prepared,
            sides,
            sides.system,
            target,
            settings,
            answers,
            progress,
            bench.stop,
            on_look,
            crew=crew_of(bench.executor),
        )
    return ClimbGate(
        rung=winner.rung,
        system=winner.system,
        mode="quick" if settings.quick else "full",
        seed=settings.seed,
        artefact_sha256=sides.artefact,
        **dict(findings),
    )


def _show_look(bench: Workbench, rung: str, system: str, measures: tuple[MeasureSoFar, ...]) -> None:
    bench.at(rung, system, "gate", gate=measures)
