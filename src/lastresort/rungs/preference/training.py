"""Preference training: every learning rate to the first stop, the best on dev to the end, a candidate at each stop."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lastresort.data.preferences import PreferenceRow
from lastresort.errors import DataError
from lastresort.records.events.training import CandidateMoved, CandidateTrained, StopsPlanned, TrainingFacts
from lastresort.records.rungs import PreferencePlan
from lastresort.rungs.notes import NothingReplayed, RateDroppedOut
from lastresort.rungs.preference.drift import measure_movement
from lastresort.rungs.preference.items import (
    PreferenceCourse,
    PreferenceItems,
    given_items,
    reward_groups,
)
from lastresort.rungs.rung import Workbench
from lastresort.rungs.supervised.methods import adapter_settings, in_4_bits, load_to_train
from lastresort.rungs.supervised.replay_rows import rendered_replay, replay_items, replay_of, replay_size
from lastresort.rungs.tuning import (
    TuningRun,
    early_warnings,
    record_candidate,
    record_rendering,
    record_training,
    train_to,
)
from lastresort.synthesis.replay import Replay
from lastresort.systems.system import System

if TYPE_CHECKING:
    from lastresort.models.loading import Loaded
    from lastresort.train.loop.batches import TrainingItem
    from lastresort.train.loop.optimizers import StartWeights
    from lastresort.train.settings import TrainSettings


@dataclass(frozen=True, slots=True)
class KeptAdapter:
    """A candidate: its adapter after some steps at a learning rate."""

    name: str
    adapter: Path


@dataclass(frozen=True, slots=True)
class _Trainee:
    """The model in memory. given: the items that it learns from, None if groups are sampled. replay: items of replay among them."""

    model: Any
    start: StartWeights
    loaded: Loaded
    given: PreferenceItems | None
    replay: Sequence[TrainingItem] = ()


def run_name(plan: PreferencePlan, rate: float) -> str:
    return f"{plan.objective}-lr{rate:g}"


@dataclass(frozen=True, slots=True)
class PreferenceLap:
    """A learning rate up to its first stop, as a worker trains it. Everything else: as of `PreferenceTraining`."""

    rung: str
    start: System
    plan: PreferencePlan
    course: PreferenceCourse
    preferences: tuple[PreferenceRow, ...]
    rate: float

    @property
    def run(self) -> str:
        return run_name(self.plan, self.rate)

    def train(self, bench: Workbench) -> Path | None:
        training = PreferenceTraining(bench, self.rung, self.start, self.plan, self.course, self.preferences)
        adapter = training.to_first_stop(self.rate)
        return None if adapter is None else adapter.adapter


def start_elsewhere(start: System) -> System:
    """As a process that started in another folder can use it."""
    return start if start.adapter is None else replace(start, adapter=start.adapter.resolve())


class PreferenceTraining:
    """start: the system whose adapter, or base, is the start and the reference. preferences: () with a reward.

    What is finished is read from the record; what was interrupted resumes from its checkpoint.
    """

    def __init__(
        self,
        bench: Workbench,
        rung: str,
        start: System,
        plan: PreferencePlan,
        course: PreferenceCourse,
        preferences: Sequence[PreferenceRow],
    ) -> None:
        self._bench, self._rung, self._start, self._plan, self._course = bench, rung, start, plan, course
        self._preferences = preferences
        self._early = early_warnings(bench, rung, start.prompt)

    def race(self, score: Callable[[KeptAdapter], float]) -> tuple[float, list[KeptAdapter]]:
        """The learning rate to train to the end, by its score after the first stop and in a tie the first; and every candidate kept
        so far. Raises DataError if training diverges at every rate.
        """
        rates = self._course.learning_rates
        self._train_ahead(rates)
        first_laps = {
            rate: adapter
            for rate, adapter in zip(rates, self._laps([(rate, 0) for rate in rates]), strict=True)
            if adapter
        }
        if not first_laps:
            raise DataError(
                f"preference training diverged at every learning rate ({', '.join(f'{rate:g}' for rate in rates)})",
                where="preference.learning_rates",
                expected="a finite loss",
                remedy="Add a lower one and start a new run.",
            )
        best = (
            next(iter(first_laps))
            if len(first_laps) == 1
            else max(first_laps, key=lambda rate: score(first_laps[rate]))
        )
        return best, list(first_laps.values())

    def _train_ahead(self, rates: Sequence[float]) -> None:
        """Those that lack their first stop, at workers, where there are any. Groups are sampled and judged by this process."""
        missing = [rate for rate in rates if not self._is_recorded(rate, 0)]
        if self._plan.source == "reward" or not missing:
            return
        self._replay()  # the same rows for all of them
        lap_fields = self._rung, start_elsewhere(self._start), self._plan, self._course, tuple(self._preferences)
        self._bench.train_ahead([PreferenceLap(*lap_fields, rate) for rate in missing])

    def to_first_stop(self, rate: float) -> KeptAdapter | None:
        """Train one learning rate up to there; None if it diverged."""
        return self._laps([(rate, 0)])[0]

    def finish(self, rate: float) -> list[KeptAdapter]:
        """Train to the end. Returns what is kept after the first stop, without candidates that diverged."""
        laps = self._laps([(rate, number) for number in range(1, len(self._stops()))])
        self._early.report()
        return [adapter for adapter in laps if adapter]

    def to_step(self, rate: float, step: int) -> KeptAdapter | None:
        """Train one learning rate to the stop at this step; None if it diverged before."""
        numbers = range(self._stops().index(step) + 1)
        return self._laps([(rate, number) for number in numbers])[-1]

    def summary(self) -> str:
        """What it learned from, in words."""
        stops_planned = self._bench.record.last(StopsPlanned, self._rung)
        return stops_planned.learns_from if stops_planned is not None else ""

    def _laps(self, stops: Sequence[tuple[float, int]]) -> list[KeptAdapter | None]:
        """Each learning rate trained to the stop of this number; None if it diverged. Loads the model only if needed."""
        with ExitStack() as stack:
            trainee: _Trainee | None = None
            adapters = []
            for rate, number in stops:
                if not self._is_recorded(rate, number):
                    trainee = trainee or stack.enter_context(self._trainee())
                    self._lap(trainee, rate, number)
                adapters.append(self._kept_adapter(rate, number))
            return adapters

    def _stops(self) -> list[int]:
        stops_planned = self._bench.record.last(StopsPlanned, self._rung)
        assert stops_planned is not None, "the first laps plan the stops"
        return list(stops_planned.stops)

    def _is_recorded(self, rate: float, number: int) -> bool:
        if self._bench.record.last(StopsPlanned, self._rung) is None:
            return False
        movement = self._bench.record.last(CandidateMoved, self._name(rate, number))
        return movement is not None and (
            movement.moved is None or (self._folder(rate, number) / "adapter_config.json").is_file()
        )

    def _kept_adapter(self, rate: float, number: int) -> KeptAdapter | None:
        movement = self._bench.record.last(CandidateMoved, self._name(rate, number))
        assert movement is not None
        return None if movement.moved is None else KeptAdapter(self._name(rate, number), self._folder(rate, number))

    def _name(self, rate: float, number: int) -> str:
        return f"{run_name(self._plan, rate)}-step{self._stops()[number]}"

    def _folder(self, rate: float, number: int) -> Path:
        return self._bench.folder / "adapters" / self._name(rate, number)

    def _lap(self, trainee: _Trainee, rate: float, number: int) -> None:
        from lastresort.train.adapters.adapters import adapted, save_adapter
        from lastresort.train.loop.loop import Diverged

        bench, name, stop = self._bench, self._name(rate, number), self._stops()[number]
        run = TuningRun(
            self._rung,
            run_name(self._plan, rate),
            f"{self._plan.objective}, learning rate {rate:g}",
            trainee.loaded,
            self._settings(rate),
            TrainingFacts(
                rows=self._size(trainee),
                start=self._start.name,
                learns_from=self._plan.source,
                replay_rows=len(trainee.replay) or None,
                held=any(item.held for item in trainee.replay),
                adapted=adapted(trainee.model),
            ),
            self._start.adapter,
        )
        trainee.start.restore()
        self._watch(trainee, run.name)
        try:
            with self._source(trainee, run.name) as source:
                trained_steps = train_to(bench, run, trainee.model, source, stop, max_new_tokens=bench.max_new_tokens)
        except Diverged as error:
            bench.say(self._rung, RateDroppedOut(rate, str(error)))
            bench.record.append(CandidateMoved(rung=self._rung, candidate=name, moved=None))
            return
        self._early.add(run.name, trained_steps.step, trainee.model)
        bench.progress.stage(f"{self._rung}: how far {name} has moved", None)
        movement = measure_movement(
            bench,
            self._start,
            trainee.loaded,
            trainee.model,
            trainee.start,
            trainee.given,
            plain=trained_steps.path == "plain",
            odds=self._plan.objective == "orpo",
        )
        save_adapter(trainee.model, self._folder(rate, number))
        record_training(bench, run, trained_steps)
        candidate = CandidateTrained(
            rung=self._rung,
            candidate=name,
            run=run.name,
            learning_rate=rate,
            stop=stop,
            unit="step",
            replay=bench.task.preference.replay if trainee.replay else None,
        )
        record_candidate(bench.record, candidate)
        bench.record.append(CandidateMoved(rung=self._rung, candidate=name, moved=movement))

    def _watch(self, trainee: _Trainee, run: str) -> None:
        """Prepare to measure how far the model moves from its base."""
        looks = len(self._course.learning_rates) + len(self._stops()) - 1
        rows = [item.rows[0].ids for item in trainee.given.items] if trainee.given is not None else []
        self._early.open(trainee.loaded, trainee.model, rows, epochs=self._course.epochs, looks=looks)
        self._early.start(run, trainee.model, is_base=self._start.adapter is None)

    @contextmanager
    def _trainee(self) -> Iterator[_Trainee]:
        """The model at its start, with what it learns from; the stops are recorded."""
        from lastresort.train.adapters.adapters import attach_adapter, unfreeze_adapter
        from lastresort.train.loop.optimizers import StartWeights

        bench, start = self._bench, self._start
        replay = self._replay()
        bench.progress.stage(f"{self._rung}: loading the model", None)
        name, seed = bench.models.tuned_name, bench.task.split.seed
        if start.adapter is not None:
            loaded = load_to_train(bench, adapter=start.adapter)
            model = unfreeze_adapter(loaded.model, name)
        else:
            loaded = load_to_train(bench, quantize="nf4" if self._in_4_bits else "no")
            model = attach_adapter(loaded.model, self._adapter(), base_name=name, seed=seed)
        start_rendering = start.trained_rendering
        record_rendering(bench.record, self._rung, loaded, start.template_kwargs, before=start_rendering)
        preference_items = None
        if self._plan.source != "reward":
            preference_items = given_items(bench, start, loaded, self._preferences)
        rows = rendered_replay(loaded, replay, start.template_kwargs)
        weights = StartWeights(model)
        general = replay_items(bench, self._rung, model, rows, bench.task.preference)
        trainee = _Trainee(model, weights, loaded, preference_items, general)
        self._record_stops(trainee)
        yield trainee

    def _replay(self) -> Replay:
        """Rows of replay for the pairs or labelled answers, which the base answers before the model is loaded to train."""
        section, samples = self._bench.task.preference, self._plan.source == "reward"
        if samples or not section.replay:
            if section.replay:
                self._bench.say(self._rung, NothingReplayed())
            return Replay()
        size = replay_size(len(self._preferences), section.replay, section.replay_prompts)
        return replay_of(self._bench, self._rung, size, section.replay_prompts)

    def _record_stops(self, trainee: _Trainee) -> None:
        from lastresort.train.loop.loop import total_steps

        if self._bench.record.last(StopsPlanned, self._rung) is not None:
            return
        steps = total_steps(self._size(trainee), self._settings(1.0))
        learns_from = trainee.given.summary if trainee.given is not None else self._groups_summary(trainee)
        if trainee.replay:
            held_note = " held to the base" if trainee.replay[0].held else ""
            learns_from = f"{learns_from}; {len(trainee.replay)} rows of replay{held_note}"
        stops = tuple(self._course.stops(steps))
        self._bench.record.append(StopsPlanned(rung=self._rung, steps=steps, stops=stops, learns_from=learns_from))

    def _groups_summary(self, trainee: _Trainee) -> str:
        return f"{self._size(trainee)} prompts, {self._bench.task.preference.samples} answers to each"

    @contextmanager
    def _source(self, trainee: _Trainee, run: str) -> Iterator[Any]:
        if trainee.given is not None:
            yield (*trainee.given.items, *trainee.replay)
            return
        log = self._bench.folder / "checkpoints" / f"{run}.completions.jsonl"
        size = self._course.batch_size
        with reward_groups(self._bench, self._rung, self._start, trainee.loaded, size, log) as groups:
            yield groups

    def _size(self, trainee: _Trainee) -> int:
        from lastresort.rungs.preference.items import with_room

        if trainee.given is not None:
            return len(trainee.given.items) + len(trainee.replay)
        start, bench = self._start, self._bench
        tokenizer, limit = trainee.loaded.tokenizer, trainee.loaded.context_tokens
        return len(with_room(bench.train, start.prompt, tokenizer, limit, start.template_kwargs, bench.max_new_tokens))

    def _settings(self, rate: float) -> TrainSettings:
        from lastresort.train.settings import Objective, TrainSettings

        option = self._course.option
        return TrainSettings(
            learning_rate=rate,
            epochs=self._course.epochs,
            batch_size=self._course.batch_size,
            adapter=self._adapter(),
            objective=Objective(self._plan.objective, () if option is None else (option,)),
            seed=self._bench.task.split.seed,
        )

    def _adapter(self) -> Any:
        return adapter_settings(self._bench.task.sft, in_4_bits=self._in_4_bits)

    @property
    def _in_4_bits(self) -> bool:
        return in_4_bits(self._bench.task)
