"""The two ways of a comparison: SFT and then DPO, and ORPO, from the same base on the same pairs, at equal compute.

Both train in the loop of a climb, with the adapter of `sft`. Neither replays general rows. What is finished of a cell that was cut
is in its checkpoints.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from statistics import fmean
from typing import TYPE_CHECKING, Any, Literal

from lastresort.climb.prepare import PreparedTask
from lastresort.errors import DataError, InputError
from lastresort.models.protocol import estimated_tokens
from lastresort.records.events.training import TrainingFacts, TrainingReached
from lastresort.report.words import study as words
from lastresort.report.words.wording import counted
from lastresort.rungs.forecast import Forecast, Workload, answering, training
from lastresort.rungs.preference.items import (
    HELD_SHARE,
    LEAST_HELD_PROMPTS,
    course_of,
    render_preferences,
    split_held_out,
)
from lastresort.rungs.preference.rung import LEAST_PREFERENCES, forecast_of_given
from lastresort.rungs.rung import Workbench
from lastresort.rungs.supervised.methods import begin, method_of
from lastresort.rungs.supervised.sft import tuned_system
from lastresort.rungs.tuning import TuningRun, early_warnings, record_rendering, record_training, train_to
from lastresort.spec.task import Task
from lastresort.study.cells import Subsets
from lastresort.study.compute import (
    TrainingCompute,
    found_plain,
    planned_compute,
    reference_compute,
    steps_within,
)
from lastresort.study.grid import Cell, Grid, middle_of
from lastresort.study.rows import ArmTraining
from lastresort.systems.system import PromptDesign, System
from lastresort.train.watch.kept import measured as looked_at
from lastresort.train.watch.kept import ratio
from lastresort.types import Example, JsonObject

if TYPE_CHECKING:
    from lastresort.data.preferences import PreferenceRow
    from lastresort.models.loading import Loaded
    from lastresort.train.loop.batches import TrainingItem
    from lastresort.train.settings import TrainSettings

RUNG = "preference"
Part = Literal["sft", "dpo", "orpo"]  # a training, by its objective


@dataclass(frozen=True, slots=True)
class ArmLearner:
    """Each way on all pairs of the task. sft, dpo, orpo: the learning rate of each training."""

    sft: float
    dpo: float
    orpo: float

    rung = RUNG

    @property
    def rate(self) -> float:
        return self.sft

    @property
    def facts(self) -> JsonObject:
        return {"rate": self.sft, "rates": asdict(self)}

    def subsets(self, grid: Grid, train: Sequence[Example], *, named: bool) -> tuple[Grid, Subsets]:
        return grid, {}

    def forecast(self, prepared: PreparedTask, work: Workload, cell: Cell) -> Forecast:
        return forecast_of_arm(prepared.task, work, prepared.preferences or ())

    def train(self, bench: Workbench, cell: Cell) -> tuple[System, ArmTraining]:
        return train_arm(bench, cell, self)


def rates_of(task: Task, dpo: float | None = None, orpo: float | None = None) -> ArmLearner:
    """dpo, orpo: None for the middle of `preference.learning_rates`, which are what is usual for the objective where they are auto.
    SFT takes the middle of its own. Raises InputError for a rate that is not above 0, or above 1.
    """
    for name, rate in (("dpo", dpo), ("orpo", orpo)):
        if rate is not None and not 0 < rate <= 1:
            raise InputError(f"found {rate:g}", where=f"--{name}-rate", expected="a number above 0 and at most 1")
    usual = [middle_of(course_of(task.preference, name).learning_rates) for name in ("dpo", "orpo")]
    return ArmLearner(middle_of(task.sft.learning_rates), dpo or usual[0], orpo or usual[1])


@dataclass(frozen=True, slots=True)
class ArmPairs:
    """Pairs as items. train: learned from, chosen: their better answers alone. held: kept out, the same with every seed.
    held_prompts: the number of each one's prompt; () where each has its own.
    """

    train: tuple[TrainingItem, ...]
    chosen: tuple[TrainingItem, ...]
    held: tuple[TrainingItem, ...]
    held_prompts: tuple[int, ...]

    @property
    def chosen_tokens(self) -> float:
        return fmean(sum(item.rows[0].targets) for item in self.train)


def train_arm(bench: Workbench, cell: Cell, rates: ArmLearner) -> tuple[System, ArmTraining]:
    """Train the way of the cell with its seed, or go on where it was cut. bench: with a record of the cell's own.

    Raises DataError where the training diverged, StoppedError where it stopped.
    """
    from lastresort.train.adapters.adapters import save_adapter
    from lastresort.train.loop.optimizers import StartWeights

    task, method = bench.task, method_of(bench.task)
    bench.progress.stage(f"{cell.label}: loading the model", None)
    loaded = method.load(bench)
    record_rendering(bench.record, RUNG, loaded, task.chat_template_kwargs)
    design = PromptDesign(task.about.strip())
    pairs, settings = _pairs(bench, design, loaded), _Settings(task, rates, cell.seed)
    model = begin(method, loaded, bench.models.tuned_name, cell.seed)
    base = StartWeights(model)
    early = early_warnings(bench, RUNG, design)
    ids = [row.ids for item in pairs.train for row in item.rows]
    early.open(loaded, model, ids, epochs=settings.of("dpo").epochs, looks=1)
    trained = (_sft_and_dpo if cell.way == "dpo" else _orpo)(bench, cell, loaded, model, settings, pairs)
    last = trained.last
    early.add(last.candidate, last.step, model)
    plain = last.path == "plain"
    margins = _margins(bench, model, pairs, last.settings.max_pass_tokens, plain=plain)
    with base.inside():
        of_base = _margins(bench, model, pairs, last.settings.max_pass_tokens, plain=plain)
    folder = bench.folder / "adapters" / f"{cell.way}-end"
    save_adapter(model, folder)
    method.end(loaded, model)
    looks = looked_at(bench.record.curve(last.candidate))
    facts = ArmTraining(
        pairs=len(pairs.train),
        sft_rate=None if trained.sft is None else rates.sft,
        sft_steps=0 if trained.sft is None else trained.sft.step,
        learning_rate=last.settings.learning_rate,
        steps=last.step,
        trained_tokens=trained.computed.trained_tokens,
        reference_tokens=trained.computed.reference_tokens,
        chosen_tokens=pairs.chosen_tokens,
        margins=margins,
        base_margins=of_base,
        held_prompts=pairs.held_prompts,
        kl=looks[-1].get("kl_general") if looks else None,
        prose=ratio(looks[-1]) if looks else None,
    )
    return tuned_system(bench, RUNG, folder), facts


@dataclass(frozen=True, slots=True)
class _Trained:
    """sft: None of ORPO. computed: of the reference by the path and the passes that its training took."""

    sft: TrainingReached | None
    last: TrainingReached
    computed: TrainingCompute


def _sft_and_dpo(
    bench: Workbench, cell: Cell, loaded: Loaded, model: Any, settings: _Settings, pairs: ArmPairs
) -> _Trained:
    sft = _to_end(bench, cell, loaded, model, settings.of("sft"), pairs.chosen)
    last = _to_end(bench, cell, loaded, model, settings.of("dpo"), pairs.train)
    lowered = replace(settings.of("dpo"), max_pass_tokens=last.settings.max_pass_tokens)
    plain = last.check is not None and not last.check.ok and last.check.gradient_difference is not None
    reference = reference_compute(model, pairs.train, lowered, plain=plain)
    return _Trained(sft, last, TrainingCompute(sft.computed_tokens + last.computed_tokens, reference))


def _orpo(bench: Workbench, cell: Cell, loaded: Loaded, model: Any, settings: _Settings, pairs: ArmPairs) -> _Trained:
    """For as many steps as compute what SFT then DPO does with the same seed."""
    sft, dpo = (
        planned_compute(model, items, own, plain=found_plain(model, items, own))
        for items, own in ((pairs.chosen, settings.of("sft")), (pairs.train, settings.of("dpo")))
    )
    own = settings.of("orpo")
    plain = found_plain(model, pairs.train, own)
    steps = steps_within(model, pairs.train, own, sft.tokens + dpo.tokens, plain=plain)
    last = _to_end(bench, cell, loaded, model, settings.of("orpo", steps, len(pairs.train)), pairs.train)
    return _Trained(None, last, TrainingCompute(last.computed_tokens))


def _margins(bench: Workbench, model: Any, pairs: ArmPairs, max_pass_tokens: int, *, plain: bool) -> tuple[float, ...]:
    """Of the pairs held out, under the model as it is now."""
    from lastresort.train.watch.divergence import odds_of_pairs

    if not pairs.held:
        return ()

    def shown(_: int) -> None:
        bench.progress.advance(0)  # a worker shows that it does not hang

    return tuple(odds_of_pairs(model, pairs.held, max_pass_tokens, plain=plain, on_units=shown))


def _pairs(bench: Workbench, design: PromptDesign, loaded: Loaded) -> ArmPairs:
    """As the rung preference renders and divides them."""
    from lastresort.train.loop.batches import completions
    from lastresort.train.loop.batches import pairs as paired

    rendered = render_preferences(
        bench.preferences or (),
        design,
        loaded.tokenizer,
        context_tokens=loaded.context_tokens,
        template_kwargs=bench.task.chat_template_kwargs,
    )
    train, held = split_held_out(list(rendered.rows), bench.task.split.seed)
    bench.progress.say(words.of_pairs(len(train), len(held), rendered.summary()))
    if len(rendered.rows) < LEAST_PREFERENCES:
        raise DataError(
            f"found {counted(len(rendered.rows), 'pair')} to train on{rendered.summary()}",
            where=str(bench.task.preferences),
            expected=f"at least {LEAST_PREFERENCES} that fit the model and whose answers differ",
            remedy="Run `lastresort data check`.",
        )
    items, kept_out = (tuple(paired([r[0] for _, r in part], [r[1] for _, r in part])) for part in (train, held))
    chosen = tuple(completions([item.rows[0] for item in items]))
    return ArmPairs(items, chosen, kept_out, _numbers([one.prompt_text for one, _ in held]))


def _numbers(prompts: Sequence[str]) -> tuple[int, ...]:
    """The place of each prompt among those that differ; () where all do."""
    places = {prompt: place for place, prompt in enumerate(dict.fromkeys(prompts))}
    return tuple(places[prompt] for prompt in prompts) if len(places) < len(prompts) else ()


@dataclass(frozen=True, slots=True)
class _Settings:
    task: Task
    rates: ArmLearner
    seed: int

    def of(self, part: Part, steps: int | None = None, items: int = 1) -> TrainSettings:
        """steps: None for all epochs that the task says; else over as many epochs of so many items as that takes."""
        from lastresort.train.loop.batches import steps_per_epoch
        from lastresort.train.settings import Objective, TrainSettings

        sft, adapter = self.task.sft, method_of(self.task).settings()
        if part == "sft":
            return TrainSettings(
                learning_rate=self.rates.sft,
                epochs=sft.epochs,
                batch_size=sft.batch_size,
                adapter=adapter,
                seed=self.seed,
                loraplus_lr_ratio=sft.loraplus_lr_ratio,
            )
        course = course_of(self.task.preference, part)
        epochs = course.epochs if steps is None else math.ceil(steps / steps_per_epoch(items, course.batch_size))
        return TrainSettings(
            learning_rate=self.rates.dpo if part == "dpo" else self.rates.orpo,
            epochs=epochs,
            batch_size=course.batch_size,
            adapter=adapter,
            objective=Objective(part, () if course.option is None else (course.option,)),
            max_steps=steps,
            seed=self.seed,
            loraplus_lr_ratio=sft.loraplus_lr_ratio,
        )


def _to_end(
    bench: Workbench, cell: Cell, loaded: Loaded, model: Any, settings: TrainSettings, items: Sequence[TrainingItem]
) -> TrainingReached:
    """One training of the model as it is now; what it computed is recorded."""
    from lastresort.train.adapters.adapters import adapted
    from lastresort.train.loop.loop import Diverged, total_steps

    name = settings.objective.name
    facts = TrainingFacts(rows=len(items), learns_from="pairs", adapted=adapted(model))
    run = TuningRun(RUNG, name, f"{cell.label}, {name}", loaded, settings, facts)
    try:
        trained = train_to(bench, run, model, items, total_steps(len(items), settings))
    except Diverged as error:
        key = "sft.learning_rates=[RATE] with --set" if name == "sft" else f"--{name}-rate"
        raise DataError(
            f"training diverged at learning rate {settings.learning_rate:g}",
            where=cell.label,
            expected="a finite loss; the cells after this one were not done",
            remedy=f"Name a lower one: {key}. All cells are then done again.",
        ) from error
    record_training(bench, run, trained)
    reached = bench.record.last(TrainingReached, name)
    assert reached is not None, "a finished training is recorded"
    return reached


def forecast_of_arm(task: Task, work: Workload, preferences: Sequence[PreferenceRow]) -> Forecast:
    """Of either way, as they compute alike: SFT on the chosen answers and DPO with its reference, answers on dev, and the pairs
    held out under the trained model and its base.
    """

    def tokens(texts: Sequence[str]) -> float:
        return work.per_estimate * fmean(map(estimated_tokens, texts))

    about, course = work.about_tokens, course_of(task.preference, "dpo")
    prompt = about + tokens([one.prompt_text for one in preferences])
    chosen, rejected = (
        tokens(["\n".join(turn.content for turn in one.answers[place]) for one in preferences]) for place in (0, 1)
    )
    enough = len({one.prompt_text for one in preferences}) >= LEAST_HELD_PROMPTS
    held = round(HELD_SHARE * len(preferences)) if enough else 0
    n, pair, machine = len(preferences) - held, prompt + chosen + rejected, work.machine
    return (
        training("SFT", machine, n, task.sft.epochs, prompt + chosen, about, task.sft.batch_size)
        + forecast_of_given("DPO", work, preferences[:n], course.epochs, course.batch_size)
        + answering("pairs held out", machine, 2 * held, pair, about, 0)
        + answering("dev", machine, work.n_dev, about + work.input_tokens, about, work.max_new_tokens)
    )
