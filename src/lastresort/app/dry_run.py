"""What a climb would do and cost, before anything is spent.

Also what a rung that trains would hold here, by the plan, and what would fit where it does not: no model is loaded.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Literal

from lastresort.after.compare.compare import forecast_of
from lastresort.after.compare.ways import ComparisonRequest, refuse_impossible
from lastresort.app.spread import machines_of
from lastresort.app.start import reachable_models
from lastresort.climb.budget import forecast_of_judge
from lastresort.climb.llm_judge import errors_of_items, labelled_cases, labels_correct
from lastresort.climb.loop import rules_of
from lastresort.climb.prepare import PreparedTask, ignored_keys, prepare
from lastresort.climb.room import refuse_beyond_cards
from lastresort.climb.shares import shares_of
from lastresort.climb.workload import counts_of, model_of, planned_rung, workload
from lastresort.errors import PrerequisiteError
from lastresort.evals.evidence.bar import FALSE_NOT_MET, items_against_bar, smallest_deciding_test
from lastresort.gate.built_in import gate_forecast, lm_eval_names
from lastresort.gate.verdict.decide import CLIMB_ALPHA
from lastresort.hardware.find import cached_config
from lastresort.hardware.memory import free_memory_bytes
from lastresort.hardware.plan.fit import lowered
from lastresort.ladder import trains
from lastresort.models.open import EMBEDDED, looks_like_a_path
from lastresort.models.protocol import is_endpoint
from lastresort.records.reasons import RowsFromChangedPassages, RowsShareSource
from lastresort.records.record import Record
from lastresort.report.forecast import DryRun, DryRunExamples, DryRunGate, DryRunRung, DryRunTest, RungMemory
from lastresort.report.words.answer import of_reason
from lastresort.report.words.rungs import (
    of_assumption,
    of_base_beyond_a_card,
    of_memory,
    of_missing_lm_eval,
    of_model_elsewhere,
    of_skip,
    of_training_cards,
)
from lastresort.report.words.untuned import MISSING_GEPA
from lastresort.report.words.verdicts import changed_passages, shared_source
from lastresort.report.words.wording import capital
from lastresort.rungs.divided import base_beyond_card, card_count, divide, divided_plan
from lastresort.rungs.forecast import Forecast, Workload
from lastresort.rungs.prompting.optimise import lacks_gepa
from lastresort.rungs.rung import find_rung
from lastresort.spec.task import Task
from lastresort.types import SILENT, GateMode, Progress

MARGIN = 0.1  # from the bar, of the scores that a test set should be able to tell from it


def rung_memory(task: Task, rung: str, work: Workload) -> RungMemory | None:
    """None for a rung that trains nothing, a model whose shape is not known, and a machine that does not say
    how much memory it has."""
    training, room = planned_rung(task, rung, work), free_memory_bytes()
    if training is None or room is None:
        return None
    cards = card_count()
    division = divide(task.tune.processes, training, cards)
    loaded_bytes, too_large = training.loaded_bytes, division.sharded and base_beyond_card(training)
    training, _ = divided_plan(training, division, None)
    if division.count > 1 and not cards:  # this process has a copy of its own
        room = max(0, room - loaded_bytes) // division.count
    memory = training.memory
    fits = training.needed_bytes <= room and not too_large
    return RungMemory(
        method=training.setup.method,
        bytes=training.needed_bytes,
        parts={kind: memory.of(kind) for kind in dict.fromkeys(part.kind for part in memory.parts)},
        free_bytes=room,
        fits=fits,
        sentence=of_base_beyond_a_card(training, loaded_bytes)
        if too_large
        else of_memory(training, room, None if fits else lowered(training, room), rung, fits=fits),
    )


def assumptions(prepared: PreparedTask, rungs: Sequence[str]) -> list[str]:
    """What the figures rest on, a sentence for each model that works."""
    sentences = []
    for model, rung in {model_of(prepared.task, rung): rung for rung in rungs}.items():
        machine, counts = workload(prepared, rung).machine, counts_of(prepared.task, model)
        sentences.append(of_assumption(model, counts.summary, machine))
    divided = {of_training_cards(workload(prepared, rung).machine) for rung in rungs} - {""}
    return [*sentences, *divided]


def _of_rows(prepared: PreparedTask) -> list[str]:
    """What rows share that belong to no group, and which were made from passages that changed, in a sentence each."""
    shared_sources = [
        f"{capital(shared_source(note))}." for note in prepared.notes if isinstance(note, RowsShareSource)
    ]
    changed_sources = [changed_passages(note) for note in prepared.notes if isinstance(note, RowsFromChangedPassages)]
    return [*shared_sources, *changed_sources]


def missing(
    task: Task, rungs: Sequence[str], *, gated: bool, run: Path | None = None, ray: str | None = None
) -> list[str]:
    """What the climb would stop for before anything is spent, or download. rungs: that apply. gated: whether a gate may run. run:
    that would go on. ray: the cluster's address, None for this process alone.
    """
    obstacles = [MISSING_GEPA] if lacks_gepa(task) else []
    reached = reachable_models(task)
    if not any(map(trains, task.ladder)):
        del reached["tune.model"]
    models = dict.fromkeys(reached.values())
    obstacles += [of_model_elsewhere(model) for model in models if _is_elsewhere(model, task.folder)]
    try:
        with nullcontext() if run is None else Record.open(run, read_only=True) as record:
            refuse_beyond_cards(task, rungs, record, machines=machines_of(ray))
    except PrerequisiteError as error:
        obstacles.append(str(error))
    names = lm_eval_names(task) if gated else []
    return obstacles if not names or find_spec("lm_eval") is not None else [*obstacles, of_missing_lm_eval(names)]


def _is_elsewhere(model: str, folder: Path) -> bool:
    """Whether a hub id was not downloaded yet."""
    if is_endpoint(model) or model == EMBEDDED or (folder / Path(model).expanduser()).exists():
        return False
    return not looks_like_a_path(model) and cached_config(model) is None


def dry_run(
    task: Task,
    until: str | None = None,
    compare: ComparisonRequest | None = None,
    gate: GateMode | None = None,
    progress: Progress = SILENT,
    run: Path | None = None,
    ray: str | None = None,
) -> DryRun:
    """No model is loaded. compare: ways of training that would be compared afterwards. gate: of what was tuned; None for the full
    one. run: that would go on, None for a new one. ray: the address of the cluster that it would use, to which nothing connects.
    """
    progress.stage("reading the examples")
    prepared = prepare(task, run_code=False)
    rules = rules_of(task, until)
    comparison = compare or ComparisonRequest()
    refuse_impossible(comparison, prepared, rules.until)
    rungs = tuple(_rung(prepared, name, progress) for name in rules.rungs)
    applying = [rung.name for rung in rungs if rung.applies]
    parts = [rung.forecast for rung in rungs]
    comparison_forecast = forecast_of(comparison, prepared) if comparison.names else None
    parts.append(comparison_forecast)
    judge_forecast = forecast_of_judge(prepared, _total(parts).answers + len(labelled_cases(task, prepared.scorer)))
    parts.append(judge_forecast)
    planned_gate, quick_gate = None, None
    if gate != "none" and any(rung.applies and trains(rung.name) for rung in rungs):
        planned_gate = _gate(prepared, gate or "full", progress)
        quick_gate = _gate(prepared, "quick", progress) if planned_gate.mode == "full" else None
        parts.append(planned_gate.forecast)
    split = prepared.split
    return DryRun(
        task=task.task,
        examples=DryRunExamples(
            train=len(split.train),
            dev=len(split.dev),
            test=len(split.test),
            leaks_removed=prepared.leaks,
            left_out=prepared.left_out,
            test_file=task.examples.test is not None,
        ),
        shares=prepared.shares,
        rungs=rungs,
        compare=comparison_forecast,
        test=power_needed(prepared, applying),
        gate=planned_gate,
        quick_gate=quick_gate,
        judge=judge_forecast,
        total=_total(parts),
        limit_hours=task.limits.hours,
        assumed=(*assumptions(prepared, applying), *_of_rows(prepared)),
        ignored=tuple(of_reason(key).text for key in ignored_keys(task)),
        missing=tuple(missing(task, applying, gated=planned_gate is not None, run=run, ray=ray)),
    )


def _rung(prepared: PreparedTask, name: str, progress: Progress) -> DryRunRung:
    rung, task = find_rung(name), prepared.task
    skip = rung.skip_reason(task, prepared.split.train)
    if skip is not None:
        return DryRunRung(name=name, applies=False, skipped_because=of_skip(skip))
    progress.stage(f"forecast of {name}")
    work = workload(prepared, name, progress)
    return DryRunRung(name=name, applies=True, forecast=rung.forecast(task, work), memory=rung_memory(task, name, work))


def power_needed(prepared: PreparedTask, rungs: Sequence[str]) -> DryRunTest | None:
    """Whether the tests of these rungs can tell a score MARGIN off the bar from it; None for graded scores and groups."""
    # What its items leave unused of a share depends on how many there are; what is needed must not.
    task, shares = prepared.task, shares_of(prepared.task, prepared.split.train, None)
    tested = [rung for rung in rungs if rung in shares]
    if not prepared.counts_right or not tested:
        return None
    above, below = min(1.0, task.bar + MARGIN), max(0.0, task.bar - MARGIN)
    strictest = min(reversed(tested), key=shares.__getitem__)

    def n_items(rate: float, rung: str) -> int:
        errors = errors_of_items(task, shares[rung], FALSE_NOT_MET)
        return items_against_bar(rate, bar=task.bar, alpha=errors.alpha, beta=errors.beta)

    first_errors = errors_of_items(task, shares[tested[0]], FALSE_NOT_MET)
    return DryRunTest(
        bar=task.bar,
        least=smallest_deciding_test(task.bar, first_errors.alpha),
        above=above,
        first=tested[0],
        first_share=shares[tested[0]],
        to_meet=n_items(above, tested[0]),
        strictest=strictest,
        strictest_share=shares[strictest],
        to_meet_strictest=n_items(above, strictest),
        below=below,
        to_miss=n_items(below, tested[0]),
        labels=labels_correct(task),
    )


@dataclass(frozen=True, slots=True)
class FewItems:
    """n: test items that there are. enough: how many tell scores near the bar from it, with power 0.8."""

    n: int
    enough: int


def few_items(prepared: PreparedTask, rungs: Sequence[str]) -> FewItems | None:
    """None where the test items of these rungs are enough, or where no number of them is known to be."""
    test, n = power_needed(prepared, rungs), prepared.n_units
    return None if test is None or n >= test.enough else FewItems(n, test.enough)


def _total(parts: Iterable[Forecast | None]) -> Forecast:
    return sum((part for part in parts if part is not None), start=Forecast(0, 0, 0, 0.0, 0.0))


def _gate(prepared: PreparedTask, mode: Literal["quick", "full"], progress: Progress) -> DryRunGate:
    """What the first gate would take, by suite; the rungs hold what the test sets take."""
    suites = gate_forecast(prepared, quick=mode == "quick", alpha=CLIMB_ALPHA, progress=progress)
    return DryRunGate(mode=mode, suites=suites, forecast=_total(suite.forecast for suite in suites))
