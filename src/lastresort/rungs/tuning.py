"""A training run of a rung up to a step, with its curve and facts in the record, and tuned systems on dev.

What is finished is read from the record; what was interrupted resumes from its checkpoint. If memory is short, the plan asks for
smaller passes, and a run that ran out of memory gets smaller ones when the climb is resumed; neither changes more than the rounding
of a result. How training rows are rendered is recorded once, so that whatever is measured, gated or served can be compared with it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lastresort.errors import CandidateError, DataError
from lastresort.evals.evidence.selection import PREDICTED, choose, mildest, selection_bias_corrected
from lastresort.evals.measure import failures, mean_score
from lastresort.records.decision_parts import WeighedCheckpoint, Weighing
from lastresort.records.events.training import (
    CandidateTrained,
    CheckpointsWeighed,
    DistanceMeasured,
    PassLowered,
    RenderingFixed,
    TrainingFacts,
    TrainingReached,
)
from lastresort.records.measurement import DevScore
from lastresort.records.record import ItemScore, Record
from lastresort.records.rungs import NotTried, SearchFinding
from lastresort.records.training import RecordedSettings, TrainedSteps
from lastresort.rungs.divided import divided_plan, division_of, train_together
from lastresort.rungs.notes import MayNotFit, PlainPathTaken, SmallerPasses
from lastresort.rungs.prompting.prompts import grammar_of
from lastresort.rungs.rung import Search, Workbench, candidate_of
from lastresort.systems.compose import compose
from lastresort.systems.system import PromptDesign, System
from lastresort.train.watch.kept import EarlyWarnings, GeneralDistance
from lastresort.types import Grammar, LabelledProgress, Selection

if TYPE_CHECKING:
    from lastresort.hardware.plan.fit import PlannedTraining
    from lastresort.models.loading import Loaded
    from lastresort.train.files.memory import MemoryAdvice
    from lastresort.train.loop.loop import StepSeen
    from lastresort.train.settings import TrainSettings


def settings_that_fit(
    bench: Workbench,
    rung: str,
    name: str,
    settings: TrainSettings,
    planned: PlannedTraining | None,
    free_bytes: int | None,
) -> TrainSettings:
    """The settings with the limits recorded for the run `name`, else with the largest pass that fits; unchanged, with a message, if
    none fits. free_bytes: next to the model, which is in memory.
    """
    recorded = bench.record.last(PassLowered, name)
    if recorded is not None:
        return lowered_settings(settings, recorded.keys)
    if planned is None or free_bytes is None:
        return settings
    from lastresort.hardware.plan.fit import lowered

    room = free_bytes + planned.loaded_bytes
    if planned.needed_bytes <= room:
        return settings
    lowered_plan = lowered(planned, room)
    if lowered_plan is None or not lowered_plan.same_run:
        if not bench.record.curve(name):  # said when it began
            bench.say(rung, MayNotFit(name, planned.needed_bytes, room, _elsewhere(lowered_plan is not None)))
        return settings
    bench.say(rung, SmallerPasses(name, planned.needed_bytes, room, lowered_plan))
    bench.record.append(PassLowered(rung=rung, candidate=name, keys=dict(lowered_plan.keys)))
    return lowered_settings(settings, lowered_plan.keys)


def memory_advice(
    bench: Workbench, rung: str, name: str, planned: PlannedTraining | None
) -> Callable[[], MemoryAdvice]:
    """What to tell a run that ran out of memory. Its new limits are recorded for a resumed climb."""

    def advise() -> MemoryAdvice:
        from lastresort.hardware.plan.fit import lowered
        from lastresort.train.files.memory import MemoryAdvice, Room

        if planned is None:
            return MemoryAdvice("", _elsewhere(True))
        room = Room(planned, None).forecast()
        lowered_plan = lowered(planned, planned.room_below(None))
        if lowered_plan is None or not lowered_plan.same_run:
            return MemoryAdvice(room, _elsewhere(lowered_plan is not None))
        keys = {**_lowered_before(bench.record, name), **lowered_plan.keys}
        bench.record.append(PassLowered(rung=rung, candidate=name, keys=keys))
        return MemoryAdvice(room, f"{bench.to_resume}: it then trains with {lowered_plan.written()}.")

    return advise


def lowered_settings(settings: TrainSettings, keys: Mapping[str, Any]) -> TrainSettings:
    limits = {key: keys[key] for key in ("max_pass_tokens", "checkpointing") if key in keys}
    return replace(settings, **limits)


def _lowered_before(record: Record, name: str) -> Mapping[str, Any]:
    event = record.last(PassLowered, name)
    return {} if event is None else event.keys


def _elsewhere(in_4_bits: bool) -> str:
    advice = "Begin a new run with tune.method: qlora, or with" if in_4_bits else "Take"
    return f"{advice} a smaller model, or a machine with more memory."


def record_rendering(
    record: Record, rung: str, loaded: Loaded, template_kwargs: Mapping[str, Any], *, before: str = ""
) -> None:
    """Record how rows are rendered before anything is trained. before: of the system that training starts from, "" if it was not
    trained. Raises DataError if an earlier session or that system rendered differently: the rows would teach two formats at once.
    """
    from lastresort.models.tokenizer import rendering_fingerprint

    rendering = rendering_fingerprint(loaded.tokenizer, template_kwargs)
    recorded = recorded_rendering(record, rung)
    for earlier, what in (
        (recorded, "of the rows that this run began to train on"),
        (before, "that its start was trained on"),
    ):
        if earlier and earlier != rendering:
            raise DataError(
                f"the chat template or the special tokens of {loaded.folder} differ from those {what}",
                where=f"rung {rung}",
                expected=f"the rendering {earlier[:16]}, not {rendering[:16]}",
                remedy="Put back the template and chat_template_kwargs that the run began with, or start a new run.",
            )
    if not recorded:
        record.append(RenderingFixed(rung=rung, rendering=rendering))


def recorded_rendering(record: Record, rung: str) -> str:
    """The rendering that this rung trained with, "" if it trained nothing."""
    event = record.last(RenderingFixed, rung)
    return "" if event is None else event.rendering


def record_candidate(record: Record, training: CandidateTrained) -> None:
    """Record a trained candidate, once per run."""
    if record.last(CandidateTrained, training.candidate) is None:
        record.append(training)


def constrain(record: Record, system: System, grammar: Grammar) -> System:
    """The system with constrained decoding, as a candidate of its own from the same training."""
    constrained = replace(system, name=f"{system.name}+constrained", decoding=replace(system.decoding, grammar=grammar))
    if (training := record.last(CandidateTrained, system.name)) is not None:
        record_candidate(record, training.model_copy(update={"candidate": constrained.name, "constrained": True}))
    return constrained


def earlier_checkpoints(record: Record, training: CandidateTrained) -> tuple[tuple[int, str], ...]:
    """Stop and candidate of the earlier checkpoints of the same training, the latest first."""
    return tuple(
        sorted(
            (
                (checkpoint.stop, checkpoint.candidate)
                for checkpoint in record.all(CandidateTrained)
                if _is_before(checkpoint, training)
            ),
            reverse=True,
        ),
    )


def _is_before(checkpoint: CandidateTrained, training: CandidateTrained) -> bool:
    same_training = (checkpoint.rung, checkpoint.run, checkpoint.scale) == (training.rung, training.run, 1.0)
    return same_training and not checkpoint.constrained and checkpoint.stop < training.stop


def scaled_name(candidate: str, scale: float) -> str:
    return f"{candidate}-scale{scale:g}"


def general_distance(bench: Workbench, rung: str) -> GeneralDistance:
    """The distances of a rung's checkpoints from the base."""
    seed, kwargs = bench.task.split.seed, bench.task.chat_template_kwargs
    return GeneralDistance(bench.record, bench.progress, rung, seed=seed, template_kwargs=kwargs)


def early_warnings(bench: Workbench, rung: str, design: PromptDesign) -> EarlyWarnings:
    """The early warnings of a rung's trainings. design: the prompt of the trained model for inputs of dev."""
    prompts = [compose(design, example.input, ()) for example in bench.dev]
    seed, kwargs = bench.task.split.seed, bench.task.chat_template_kwargs
    return EarlyWarnings(
        bench.record, bench.progress, rung, prompts, seed=seed, template_kwargs=kwargs, clock=bench.clock
    )


@dataclass(frozen=True, slots=True)
class TuningRun:
    """name: of its curve, its events and its checkpoint. label: for progress. loaded: the model that it starts from. facts: for the
    record, besides the settings. start: the adapter that is trained further, None for a fresh one or all weights.
    """

    rung: str
    name: str
    label: str
    loaded: Loaded
    settings: TrainSettings
    facts: TrainingFacts
    start: Path | None = None


def train_to(
    bench: Workbench, run: TuningRun, model: Any, source: Any, until: int, *, max_new_tokens: int | None = None
) -> TrainedSteps:
    """Train `model`, which is as at the start of the run, up to a step. source: items or batches, as `train` takes them.

    In as many processes as the task says. Raises BudgetError at the time limit, Diverged if the loss is not finite,
    InfrastructureError if memory runs out or a process ends, PrerequisiteError for more processes than cards.
    """
    from lastresort.train.files.memory import free_now, memory_errors, plan_of_loaded
    from lastresort.train.loop.loop import CHECKPOINT_EVERY_S, train

    report_reach(bench, run, model)
    planned = plan_of_loaded(model, run.settings, source)
    division, free_bytes = division_of(bench, run, source, planned), free_now()
    if planned is not None:
        planned, free_bytes = divided_plan(planned, division, free_bytes)
    settings = settings_that_fit(bench, run.rung, run.name, run.settings, planned, free_bytes)
    if planned is not None:
        planned = planned.lowered_to(settings.max_pass_tokens, checkpointing=settings.checkpointing)

    def on_step(seen: StepSeen) -> None:
        values = {"loss": seen.loss, "grad_norm": seen.grad_norm, "learning_rate": seen.learning_rate, **seen.figures}
        bench.record.add_curve_point(run.name, seen.step, values)
        bench.at(run.rung, run.name, "train", seen.loss)
        bench.progress.advance(1, note=f"loss {seen.loss:.3f}")

    progress = LabelledProgress(bench.progress, f"{run.rung}, {run.label}")
    with memory_errors(memory_advice(bench, run.rung, run.name, planned)):
        if division.count > 1:
            trained_steps = train_together(
                bench, replace(run, settings=settings), model, source, until, division, on_step=on_step, shown=progress
            )
        else:
            trained_steps = train(
                model,
                source,
                settings,
                folder=bench.folder / "checkpoints" / run.name,
                base=run.loaded.fingerprint,
                until=until,
                max_new_tokens=max_new_tokens,
                on_step=on_step,
                stop=bench.stop,
                progress=progress,
                checkpoint_every_s=CHECKPOINT_EVERY_S * bench.share,
                clock=bench.clock,
                keeps_threads=not bench.at_worker,
            )
    reason = trained_steps.reason if trained_steps.path == "plain" else None
    if trained_steps.check is not None and not trained_steps.check.ok:
        reason = trained_steps.check.reason
    if reason is not None and bench.record.last(TrainingReached, run.name) is None:
        bench.say(run.rung, PlainPathTaken(reason))
    return trained_steps


def report_reach(bench: Workbench, run: TuningRun, model: Any) -> None:
    """How far the adapters reach, before the first training of a rung."""
    from lastresort.train.adapters.adapters import adapted, coverage, coverage_warning

    reach = adapted(model)
    if reach is None or any(one.rung == run.rung for one in bench.record.all(TrainingReached)):
        return
    warning = coverage_warning(reach, "sft.target", run.settings.adapter.target)
    for line in (coverage(reach), warning):
        if line is not None:
            bench.progress.say(f"{run.rung}: {line}")


def record_training(bench: Workbench, run: TuningRun, trained_steps: TrainedSteps) -> None:
    """Note how far the run is, what it computed and by which settings."""
    settings = lowered_settings(run.settings, _lowered_before(bench.record, run.name))
    bench.record.append(
        TrainingReached(
            rung=run.rung,
            candidate=run.name,
            settings=RecordedSettings.model_validate(asdict(settings)),
            **dict(run.facts),
            **dict(trained_steps),
        )
    )


def on_dev(bench: Workbench, rung: str, system: System) -> list[ItemScore]:
    """Save the system and measure it on the whole dev set, once per run."""
    bench.keep(rung, system)
    bench.progress.stage(f"{rung}: {system.name} on dev", len(bench.dev))
    return bench.dev_scores(rung, system)


def choose_on_dev(
    bench: Workbench, rung: str, systems: Sequence[System], finding: SearchFinding, *, weighed: bool = False
) -> Search:
    """The one of these systems that goes to the test. finding: how they were trained. weighed: whether their distances from the
    base were measured, by which the mildest is taken of those that are likely to meet the bar.
    """
    findings = [finding]
    measured_systems = list(systems)
    items = {system.name: on_dev(bench, rung, system) for system in measured_systems}
    best = max(measured_systems, key=lambda system: mean_score(items[system.name]))
    constrained = _with_grammar(bench, best, items[best.name])
    if constrained is not None:
        try:
            bench.models.check(constrained)
            items[constrained.name] = on_dev(bench, rung, constrained)
            measured_systems.append(constrained)
        except CandidateError as error:
            findings.append(NotTried(constrained.name, str(error)))
    scores = {name: [item.score for item in dev_items] for name, dev_items in items.items()}
    cost = {system.name: float(system.decoding.grammar is not None) for system in measured_systems}
    choice = choose(scores, cost, groups=bench.dev_groups())
    if weighed:
        distances = {one.name: _distance(bench.record, one.name) for one in systems}
        if constrained is not None:
            distances[constrained.name] = distances[best.name]  # constrained decoding moves no weights
        weighing = weigh(bench, rung, items, distances, choice.name)
        choice = _mildest(weighing) if weighing.predicted else choice
    chosen = next(system for system in measured_systems if system.name == choice.name)
    candidates = tuple(candidate_of(system, items[system.name]) for system in measured_systems)
    bias_corrected = None
    if len(scores) > 1:
        bias_corrected = selection_bias_corrected(scores, bench.task.split.seed, groups=bench.dev_groups())
    return Search(candidates, chosen, choice, tuple(findings), bias_corrected)


def weigh(
    bench: Workbench, rung: str, items: Mapping[str, Sequence[ItemScore]], distances: Mapping[str, float], best: str
) -> Weighing:
    """Of the candidates whose test is likely to say MET the one that moved least, else `best`; recorded once. items: on dev."""
    recorded = bench.record.last(CheckpointsWeighed, rung)
    if recorded is not None:
        return recorded.weighing
    chances = {name: bench.chance_of_met(rung, dev_items) for name, dev_items in items.items()}
    mildest_name = mildest(chances, distances)
    weighing = Weighing(
        checkpoints=tuple(
            _weighed_checkpoint(bench.record, name, dev_items, distances[name], chances[name])
            for name, dev_items in items.items()
        ),
        least_chance=PREDICTED,
        chosen=best if mildest_name is None else mildest_name,
        predicted=mildest_name is not None,
    )
    bench.record.append(CheckpointsWeighed(rung=rung, weighing=weighing))
    return weighing


def _weighed_checkpoint(
    record: Record, candidate: str, items: Sequence[ItemScore], distance: float, met_chance: float
) -> WeighedCheckpoint:
    training = record.last(CandidateTrained, candidate)
    assert training is not None, f"{candidate} was trained in this run"
    return WeighedCheckpoint.from_fields_of(
        training,
        dev=DevScore(score=mean_score(items), n=len(items)),
        distance=distance,
        met_chance=met_chance,
    )


def _distance(record: Record, candidate: str) -> float:
    distance = record.last(DistanceMeasured, candidate)
    assert distance is not None, "every checkpoint is measured before it is saved"
    return max(0.0, distance.kl_per_token)


def _mildest(weighing: Weighing) -> Selection:
    likely = [one for one in weighing.checkpoints if one.met_chance >= weighing.least_chance]
    chosen = next(one for one in likely if one.candidate == weighing.chosen)
    return Selection(
        chosen.candidate, "MILDEST", chosen.dev.score, chosen.dev.n, distance=chosen.distance, likely=len(likely)
    )


def _with_grammar(bench: Workbench, system: System, items: Sequence[ItemScore]) -> System | None:
    """The system with constrained decoding, if some of its answers failed by form."""
    grammar = grammar_of(bench.task)
    if grammar is None or system.decoding.grammar is not None or not failures(items)["format"]:
        return None
    return constrain(bench.record, system, grammar)
