"""Supervised training of a rung: replay, a race of learning rates, then checkpoints of the best one.

In the race all learning rates are trained a little, the better half further, one to the end.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from lastresort.errors import DataError
from lastresort.records.events.run import RowsTooLong
from lastresort.records.events.training import CandidateTrained, LapTrained, TrainingFacts, TrainingReached
from lastresort.records.rungs import Pretraining, RateLap, TrainedOnRows
from lastresort.rungs.notes import RateDroppedOut
from lastresort.rungs.rung import Workbench
from lastresort.rungs.supervised.curve import THIRD
from lastresort.rungs.supervised.methods import Method, begin
from lastresort.rungs.supervised.rates import RACE_ENDS, Lap, race
from lastresort.rungs.supervised.replay_rows import rendered_replay, replay_items, replay_of, replay_size
from lastresort.rungs.tuning import (
    TuningRun,
    early_warnings,
    general_distance,
    record_candidate,
    record_rendering,
    record_training,
    scaled_name,
    train_to,
)
from lastresort.spec.sections import FullSettings, SftSettings
from lastresort.synthesis.replay import Replay
from lastresort.systems.compose import compose
from lastresort.systems.system import PromptDesign
from lastresort.types import Example

if TYPE_CHECKING:
    from lastresort.models.loading import Loaded
    from lastresort.train.settings import TrainSettings


MOST_PASS_TOKENS = 4096


KEPT_SHARES = (0.4, 0.6, 0.8, 1.0)  # of a training whose checkpoints are weighed; a race has passed the third of it
FALLING = 0.03  # of the loss on dev, from a checkpoint to the last
KEPT_SCALES = (0.75, 0.5)  # of its last checkpoint


@dataclass(frozen=True, slots=True)
class KeptStop:
    """A step after which a candidate is kept. number: the epoch, or the step, that it is called after."""

    unit: Literal["epoch", "step"]
    number: int
    step: int


@dataclass(frozen=True, slots=True)
class ThirdOfTraining:
    """The model after `step` of the steps of a training, in a folder that is called after the candidate."""

    folder: Path
    step: int
    steps: int


def run_name(method: Method, rate: float) -> str:
    return f"{method.prefix}lr{rate:g}"


def kept_epochs(epochs: int) -> range:
    """The epochs after which a candidate is kept and measured: the second half of training."""
    return range(math.ceil(epochs / 2), epochs + 1)


class SupervisedTraining:
    """The training part of a rung: every learning rate from the same start, resumable at every point.

    What is finished is read from the record; what was interrupted resumes from its checkpoint. section: `sft` or `full` of the
    task. seed: for the order of rows and for fresh adapters, None for that of the task. watched: whether to measure how far the
    model moves from the base. weighed: whether checkpoints are kept more often, each with its exact distance from the base, which
    takes an adapter. look_early: whether the model is kept after a third of the training, too. steps: of the whole training, None
    for the epochs of the section.
    """

    def __init__(
        self,
        bench: Workbench,
        rung: str,
        section: SftSettings | FullSettings,
        method: Method,
        *,
        seed: int | None = None,
        watched: bool = True,
        weighed: bool = False,
        look_early: bool = False,
        steps: int | None = None,
    ) -> None:
        self._bench, self._rung, self._section, self._method = bench, rung, section, method
        self._watched, self._look_early = watched, look_early
        self._given_steps = steps
        self._seed = bench.task.split.seed if seed is None else seed
        rows = bench.record.last(RowsTooLong)
        too_long = frozenset(() if rows is None else rows.train)
        self._train_rows = tuple(example for example in bench.train if example.id not in too_long)
        self._loaded: Loaded | None = None
        self._rows: list[Any] | None = None
        self._dev_rows: list[Any] = []
        self._replay_rows = 0
        self._design = PromptDesign(bench.task.about.strip())
        self._early = early_warnings(bench, rung, self._design)
        self._distance = general_distance(bench, rung) if weighed else None

    def race(self) -> float:
        """The learning rate that is trained to the end."""
        return race(self._section.learning_rates, self._steps(), self._laps, where=f"{self._rung}.learning_rates")

    def third(self, rate: float) -> ThirdOfTraining | None:
        """Train the first third and keep the model; None where it diverged."""
        steps, folder = self._steps(), self._folder_of_third(rate)
        step = max(1, round(THIRD * steps))
        lap = self._lap(rate, step, folder, watched=False)
        return ThirdOfTraining(folder, step, steps) if math.isfinite(lap.dev_loss) else None

    def _laps(self, rates: Sequence[float], until: int) -> list[Lap]:
        """A round of the race: those that lack it train at workers, where there are any, and else here."""
        missing = [rate for rate in rates if self._recorded_lap(rate, until, self._raced_folder(rate, until)) is None]
        if len(missing) > 1 and self._bench.train_laps is not None:
            self.close()  # the workers need its room
            method = self._method.resolved()
            lap_fields = self._rung, self._section, method, self._seed, self._look_early, self._given_steps
            self._bench.train_ahead([SupervisedLap(*lap_fields, rate, until) for rate in missing])
        return [self._lap(rate, until, self._raced_folder(rate, until), watched=False) for rate in rates]

    def train_lap(self, rate: float, until: int) -> Path | None:
        """Of a race, up to this step. Returns the folder of the model, where it is kept there."""
        folder = self._raced_folder(rate, until)
        lap = self._lap(rate, until, folder, watched=False)
        return folder if math.isfinite(lap.dev_loss) else None

    def _raced_folder(self, rate: float, until: int) -> Path | None:
        at_third = self._look_early and until == max(1, round(THIRD * self._steps()))
        return self._folder_of_third(rate) if at_third else None

    def _folder_of_third(self, rate: float) -> Path:
        return self._bench.folder / self._method.folder / f"{self._method.name}-lr{rate:g}-third"

    def finish(self, rate: float) -> list[Path]:
        """Train to the end. Returns the folders of the candidates kept, each named after its candidate: those after each epoch of
        the second half, or after shares of the training where they are weighed.
        """
        folders = []
        for stop in self._kept_stops():
            name = f"{self._method.name}-lr{rate:g}-{stop.unit}{stop.number}"
            folder = self._bench.folder / self._method.folder / name
            if math.isfinite(self.to_stop(rate, stop, folder)):
                folders.append(folder)
        self._early.report()
        if not folders:
            raise DataError(
                f"training diverged at learning rate {rate:g} after the race",
                where=f"{self._rung}.learning_rates",
                remedy="Leave it out and start a new run.",
            )
        return folders

    def _kept_stops(self) -> list[KeptStop]:
        if self._distance is None:
            return [self.stop_at("epoch", epoch) for epoch in kept_epochs(self._section.epochs)]
        steps = self._steps()
        return [self.stop_at("step", step) for step in sorted({max(1, round(share * steps)) for share in KEPT_SHARES})]

    def stop_at(self, unit: Literal["epoch", "step"], number: int, *, of_steps: int | None = None) -> KeptStop:
        """of_steps: how many steps the training has in which this step was counted; here it is the same share of the training."""
        if unit == "epoch":
            return KeptStop(unit, number, number * self._steps_per_epoch())
        step = number if of_steps is None else max(1, round(number / of_steps * self._steps()))
        return KeptStop(unit, step, step)

    def to_stop(self, rate: float, stop: KeptStop, folder: Path) -> float:
        """Train to a stop and keep the model in the folder, which is called after the candidate. Returns its loss on dev, infinite
        where it diverged.
        """
        loss = self._lap(rate, stop.step, folder).dev_loss
        if math.isfinite(loss):
            candidate = CandidateTrained(
                rung=self._rung,
                candidate=folder.name,
                run=self.run_name(rate),
                learning_rate=rate,
                stop=stop.number,
                unit=stop.unit,
                replay=self._section.replay,
            )
            record_candidate(self._bench.record, candidate)
        return loss

    def run_name(self, rate: float) -> str:
        """The name of a learning rate's curve, events and checkpoint."""
        return run_name(self._method, rate)

    def findings(self, rate: float, pretrained: Pretraining | None = None) -> TrainedOnRows:
        """Of the race that this rate won. pretrained: what was learned before."""
        section = self._section
        ends = (
            {max(1, round(share * self._steps())) for share in RACE_ENDS} if len(section.learning_rates) > 1 else set()
        )
        rates = list(section.learning_rates)
        laps = [lap for lap in self._bench.record.all(LapTrained) if lap.rung == self._rung and lap.step in ends]
        laps = [lap for lap in laps if lap.rate in rates]
        laps.sort(key=lambda lap: (lap.step, rates.index(lap.rate)))  # in whatever order they ended
        reached = self._bench.record.last(TrainingReached, self.run_name(rate))
        return TrainedOnRows(
            self._method.description(),
            len(self._train_rows),
            self._replay_size(),
            section.epochs,
            section.batch_size,
            rate,
            tuple(section.learning_rates),
            tuple(RateLap(lap.rate, lap.step, lap.dev_loss) for lap in laps),
            pretrained,
            reached is not None and reached.held,
            self._still_falling(rate),
        )

    def _still_falling(self, rate: float) -> tuple[float, float] | None:
        """The loss on dev at the last two checkpoints, where it fell by a part that is worth naming."""
        stops = [stop.step for stop in self._kept_stops()][-2:]
        laps = [self._bench.record.last(LapTrained, self._key(rate, stop)) for stop in stops]
        losses = [lap.dev_loss for lap in laps if lap is not None and lap.dev_loss is not None]
        if len(losses) < 2 or losses[1] > (1 - FALLING) * losses[0]:
            return None
        return losses[0], losses[1]

    def close(self) -> None:
        self._loaded = self._rows = None

    def _lap(self, rate: float, until: int, folder: Path | None = None, *, watched: bool | None = None) -> Lap:
        """Train one learning rate up to a step, and keep the model if a folder is given. watched: None as the whole training is."""
        from lastresort.train.loop.loop import Diverged

        if (lap := self._recorded_lap(rate, until, folder)) is not None:
            return lap
        try:
            lap = Lap(rate, until, self._train(rate, until, folder, self._watched if watched is None else watched))
        except Diverged as error:
            self._bench.say(self._rung, RateDroppedOut(rate, str(error)))
            lap = Lap(rate, until, math.inf)
        record, key = self._bench.record, self._key(rate, until)
        if record.last(LapTrained, key) is None:
            loss = lap.dev_loss if math.isfinite(lap.dev_loss) else None
            record.append(LapTrained(rung=self._rung, name=key, rate=lap.rate, step=lap.step, dev_loss=loss))
        return lap

    def _recorded_lap(self, rate: float, until: int, folder: Path | None) -> Lap | None:
        """A lap that is in the record, with its model where one is kept."""
        lap_trained = self._bench.record.last(LapTrained, self._key(rate, until))
        if lap_trained is None or (
            folder is not None and lap_trained.dev_loss is not None and not self._method.saved(folder)
        ):
            return None
        return Lap(rate, until, math.inf if lap_trained.dev_loss is None else lap_trained.dev_loss)

    def _key(self, rate: float, until: int) -> str:
        return f"{self._method.prefix}{rate:g}@{until}"

    def _train(self, rate: float, until: int, folder: Path | None, watched: bool) -> float:
        """Train one learning rate up to a step; keep the model where asked; return the loss on dev."""
        from lastresort.hardware.threads import pinned
        from lastresort.train.adapters.adapters import adapted

        loaded, rows = self._prepare()
        bench, settings = self._bench, self._settings(rate)
        name = self.run_name(rate)
        model = begin(self._method, loaded, bench.models.tuned_name, settings.seed)
        items = self._items(model, rows)
        facts = TrainingFacts(
            rows=len(rows),
            replay_rows=self._replay_rows,
            held=any(item.held for item in items),
            adapted=adapted(model),
        )
        run = TuningRun(self._rung, name, f"learning rate {rate:g}", loaded, settings, facts)
        try:
            if folder is not None and watched:
                self._watch(loaded, model, name)
            trained_steps = train_to(bench, run, model, items, until)
            with pinned(trained_steps.threads):
                loss = self._dev_loss(model, plain=trained_steps.path == "plain")
                if folder is not None and watched:
                    self._early.add(name, trained_steps.step, model)
                if folder is not None and watched and self._distance is not None:
                    self._measure_distance(folder.name, loaded, model, last=until == self._steps())
            if folder is not None:
                self._method.save(loaded, model, folder)
        finally:
            self._loaded = self._method.end(loaded, model)
        bench.record.add_curve_point(name, trained_steps.step, {"dev_loss": loss})
        record_training(bench, run, trained_steps)
        return loss

    def _measure_distance(self, candidate: str, loaded: Loaded, model: Any, *, last: bool) -> None:
        assert self._distance is not None
        self._distance.measure(candidate, loaded, model)
        for scale in KEPT_SCALES if last else ():
            self._distance.measure(scaled_name(candidate, scale), loaded, model, scale=scale)

    def _items(self, model: Any, rows: Sequence[Any]) -> list[Any]:
        """The task's rows, and those of replay with the loss that the task chose for them."""
        from lastresort.train.loop.batches import completions

        task_rows, general = rows[: len(rows) - self._replay_rows], rows[len(rows) - self._replay_rows :]
        return [*completions(task_rows), *replay_items(self._bench, self._rung, model, general, self._section)]

    def _watch(self, loaded: Loaded, model: Any, name: str) -> None:
        """Prepare to measure how far the model moves from its base."""
        rows, epochs, holds_base = [row.ids for row in self._rows or ()], self._epochs(), self._method.holds_base
        looks = len(self._kept_stops())
        self._early.open(loaded, model, rows, epochs=epochs, looks=looks, holds_base=holds_base)
        self._early.start(name, model, is_base=holds_base)

    def _settings(self, rate: float) -> TrainSettings:
        from lastresort.train.settings import TrainSettings

        return TrainSettings(
            learning_rate=rate,
            epochs=self._epochs(),
            batch_size=self._section.batch_size,
            adapter=self._method.settings(),
            max_steps=self._given_steps,
            seed=self._seed,
            loraplus_lr_ratio=self._method.loraplus_lr_ratio,
        )

    def _prepare(self) -> tuple[Loaded, list[Any]]:
        """The base in memory and the rows rendered, once."""
        replay = self._replay()
        if self._loaded is None:
            self._bench.progress.stage(f"{self._rung}: loading the model", None)
            self._loaded = self._method.load(self._bench)
            kwargs = self._bench.task.chat_template_kwargs
            record_rendering(self._bench.record, self._rung, self._loaded, kwargs)
        if self._rows is None:
            general = rendered_replay(self._loaded, replay, self._bench.task.chat_template_kwargs)
            self._replay_rows = len(general)
            self._rows = self._render(self._train_rows) + general
            self._dev_rows = self._render(self._bench.dev)
        return self._loaded, self._rows

    def _render(self, examples: Sequence[Example]) -> list[Any]:
        from lastresort.train.loop.batches import training_rows

        assert self._loaded is not None
        return training_rows(
            self._loaded.tokenizer,
            examples,
            lambda turns: compose(self._design, turns, ()),
            context_tokens=self._loaded.context_tokens,
            template_kwargs=self._bench.task.chat_template_kwargs,
        )

    def _replay(self) -> Replay:
        return replay_of(self._bench, self._rung, self._replay_size(), self._section.replay_prompts)

    def _replay_size(self) -> int:
        return replay_size(len(self._train_rows), self._section.replay, self._section.replay_prompts)

    def _steps(self) -> int:
        return self._given_steps or self._steps_per_epoch() * self._section.epochs

    def _epochs(self) -> int:
        """Begun passes over the rows."""
        return math.ceil(self._steps() / self._steps_per_epoch())

    def _steps_per_epoch(self) -> int:
        from lastresort.train.loop.batches import steps_per_epoch

        return steps_per_epoch(len(self._train_rows) + len(self._replay().examples), self._section.batch_size)

    def _dev_loss(self, model: Any, *, plain: bool) -> float:
        """Mean loss of the right answers on dev, in nats per target token."""
        import torch

        from lastresort.engine.forest import split_passes
        from lastresort.engine.logp import target_logps

        total, count = 0.0, 0
        with torch.no_grad():
            for rows in split_passes(self._dev_rows, MOST_PASS_TOKENS):
                logps = target_logps(model, rows, plain=plain).per_token
                total -= float(logps.sum())
                count += len(logps)
                self._bench.progress.advance(0)  # a worker shows that it does not hang
        return total / count


@dataclass(frozen=True, slots=True)
class SupervisedLap:
    """A lap of a race, as a worker trains it. Everything else: as of `SupervisedTraining`."""

    rung: str
    section: SftSettings | FullSettings
    method: Method
    seed: int
    look_early: bool
    steps: int | None
    rate: float
    until: int

    @property
    def run(self) -> str:
        return run_name(self.method, self.rate)

    def train(self, bench: Workbench) -> Path | None:
        training = SupervisedTraining(
            bench,
            self.rung,
            self.section,
            self.method,
            seed=self.seed,
            look_early=self.look_early,
            steps=self.steps,
        )
        try:
            return training.train_lap(self.rate, self.until)
        finally:
            training.close()
