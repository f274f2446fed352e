"""One run of a training file, from the data to the adapter with its record. An interrupted run resumes."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass, replace
from importlib.metadata import version
from pathlib import Path
from typing import Literal

from lastresort.errors import InputError, LastresortError, PrerequisiteError
from lastresort.libraries import quiet_transformers
from lastresort.records.atomic import write_atomically
from lastresort.records.training import TrainedSteps
from lastresort.stop import NEVER, FirstOf, Stop, stop_file
from lastresort.train.adapters.adapters import is_adapter, save_trained
from lastresort.train.files.items import TrainingItems, prepare_items
from lastresort.train.files.memory import memory_errors
from lastresort.train.files.model import (
    NamedModel,
    OpenedModel,
    memory_advice,
    name_model,
    open_for_training,
    room_of,
    trained_model,
)
from lastresort.train.files.run_folder import (
    CHECKPOINT,
    LOG,
    RECORD,
    RunIdentity,
    RunState,
    SavedWeights,
    StepLog,
    Trackers,
    TrainingData,
    TrainingRecord,
    begin,
    changed_code,
    check_same,
    finished_record,
    held,
    identity,
    require_trackers,
    run_state,
    withdraw,
)
from lastresort.train.loop.batches import Batches, TrainingItem, steps_per_epoch
from lastresort.train.loop.checkpoints import STATE, whole_weights
from lastresort.train.loop.launch import unused_settings
from lastresort.train.loop.loop import StepSeen, total_steps, train
from lastresort.train.loop.optimizers import require_optimizer
from lastresort.train.loop.processes import Processes, check_shardable, into_shards, join
from lastresort.train.settings import TrainingFile
from lastresort.train.watch.early_warnings import own_tokens, watch_size
from lastresort.train.watch.kept import ANSWERS, baseline_in, look_every, measured, task_prompts, warning
from lastresort.train.watch.kept import summary as early_told
from lastresort.types import Progress
from lastresort.version import __version__

PACKAGES = ("torch", "transformers", "peft", "accelerate")


def run_training(file: TrainingFile, *, resume: bool, progress: Progress, stop: Stop = NEVER) -> TrainingRecord:
    """Train what the file says and return the record, as OUTPUT/training.json holds it. A finished run is read back.

    Launched as one of several processes, this is called by all of them. The main one alone writes and reports, so pass the others a
    silent progress; they end by SystemExit on an error that the main one reports. stop: checked before each step, that of every
    process, as is a file named stop in the output folder.
    Raises InputError, DataError or TaskError for what cannot be trained and PrerequisiteError for what is not installed, before
    anything is written, and StoppedError after a checkpoint where it was asked to stop.
    """
    processes = join()
    for setting in unused_settings(os.environ):
        progress.say(setting)
    try:
        with closing(processes), processes.together():
            return _run(file, resume, progress, processes, stop)
    except LastresortError as error:
        if processes.reported_by_main(error):
            raise SystemExit(error.exit_code) from error
        raise


def _run(file: TrainingFile, resume: bool, progress: Progress, processes: Processes, stop: Stop) -> TrainingRecord:
    folder, mark = file.output, processes.from_main(lambda: identity(file))
    state = processes.from_main(lambda: _standing(folder, mark, resume))
    if state == "finished":
        progress.say(f"{folder} is finished: nothing is left to do")
        return processes.from_main(lambda: finished_record(folder))
    for name in processes.from_main(lambda: changed_code(folder, mark) if state == "begun" else []):
        progress.say(f"{name} has changed since this run began; the remaining steps use the new version")
    processes.from_main(lambda: require_trackers(file.track))
    processes.each(lambda: require_optimizer(file.settings.optimizer))
    check_shardable(file, processes)
    named_model = processes.main_first(lambda: name_model(file))
    if named_model.note:
        progress.say(named_model.note)
    with _source(file, named_model, progress) as (source, data):
        for finding in data.findings:
            progress.say(finding.sentence())
        room = room_of(file, named_model, source) if processes.count == 1 else None
        if room is not None:
            room.refuse_the_impossible()
            if (warned := room.warning()) is not None:
                progress.say(warned)
        progress.stage("loading the model", None)
        with memory_errors(lambda: memory_advice(file, room, begun=False)):
            sent = processes.sharded and file.trains_all and not processes.main
            opened = open_for_training(file, named_model, keep_on_cpu=processes.sharded, without_weights=sent)
        for line in opened.reach(file):
            progress.say(line)
        processes.each(lambda: None)  # all are ready, before anything is written
        mark = replace(mark, base=opened.loaded.fingerprint)
        with ExitStack() as stack:
            processes.from_main(lambda: _begin(stack, folder, mark, state))
            stops = FirstOf((stop, stack.enter_context(stop_file(folder)))) if processes.main else stop
            with memory_errors(lambda: memory_advice(file, room, begun=True)):
                return _train(_ReadyRun(file, named_model, opened, source, data), progress, processes, stops)


def _standing(folder: Path, mark: RunIdentity, resume: bool) -> RunState:
    state = run_state(folder, resume=resume)
    if state != "new":
        check_same(folder, mark)
    return state


def _begin(stack: ExitStack, folder: Path, mark: RunIdentity, found: RunState) -> None:
    """Hold the folder until the stack ends, and write down what the run in it is."""
    stack.enter_context(held(folder))
    stack.enter_context(_withdrawn_if_refused(folder, made_here=found == "new"))
    if found == "begun":
        check_same(folder, mark)
    begin(folder, mark)


@contextmanager
def _source(
    file: TrainingFile, named: NamedModel, progress: Progress
) -> Iterator[tuple[Sequence[TrainingItem] | Batches, TrainingItems]]:
    """What the loop trains on, and what the record says of it."""
    progress.stage("reading the data", None)
    if file.need == "groups":
        from lastresort.train.files.groups import prepare_groups

        with prepare_groups(file, named.tokenizer, named.context_tokens) as (batches, data):
            yield batches, data
        return
    data = prepare_items(file, named.tokenizer, named.context_tokens)
    yield data.items, data


@dataclass(frozen=True, slots=True)
class _ReadyRun:
    """source: what the loop trains on. data: what the record says of it."""

    file: TrainingFile
    named: NamedModel
    opened: OpenedModel
    source: Sequence[TrainingItem] | Batches
    data: TrainingItems


def _train(run: _ReadyRun, progress: Progress, processes: Processes, stop: Stop) -> TrainingRecord:
    file, folder, settings = run.file, run.file.output, run.file.settings
    size = len(run.source) if isinstance(run.source, Sequence) else run.source.size
    log = StepLog(folder / LOG)
    trackers = Trackers(file.track if processes.main else (), folder, file.resolved)
    watch = _Watch(log, trackers, progress, steps_per_epoch(size, settings.batch_size), total_steps(size, settings))
    with closing(trackers), processes.connected():
        if not processes.sharded:  # a sharded base answers only where all processes ask it alike
            processes.from_main(lambda: watch.follow(_figures_of(run, progress)))
            watch.look_every = look_every(settings.epochs)
        trained = train(
            into_shards(run.opened.model, processes),
            run.source,
            settings,
            folder=folder / CHECKPOINT,
            base=run.opened.loaded.fingerprint,
            held_out=run.data.held_out,
            max_new_tokens=file.groups.sampling.max_new_tokens if file.groups is not None else None,
            on_step=watch.see if processes.main else None,
            stop=stop,
            checkpoint_every_s=file.checkpoint_every_s,
            progress=progress,
            processes=processes,
        )
    return processes.from_main(lambda: _finish(run, trained, watch, in_shards=processes.trains_shards))


def _figures_of(run: _ReadyRun, progress: Progress) -> Callable[[], dict[str, float]] | None:
    """Measures how far the model is from its base; None if all weights were trained before that, so that the base is gone."""
    file, model = run.file, run.opened.model
    begun = (file.output / CHECKPOINT / STATE).is_file()
    if begun and not (file.output / ANSWERS).is_file() and not is_adapter(model):
        return None
    items, epochs = run.source if isinstance(run.source, Sequence) else (), file.settings.epochs
    trained_tokens = own_tokens([item.rows[0].ids for item in items]) * epochs
    base = baseline_in(
        file.output,
        model,
        run.named.tokenizer,
        task_prompts(run.data.held_out or items),
        size=watch_size(trained_tokens, -(-epochs // look_every(epochs))),
        context_tokens=run.named.context_tokens,
        seed=file.settings.seed,
        template_kwargs=file.chat_template_kwargs,
        progress=progress,
    )
    return lambda: base.figures(model)


def _finish(run: _ReadyRun, trained: TrainedSteps, watch: _Watch, *, in_shards: bool) -> TrainingRecord:
    """Save what was trained, then the record, by which a finished run is known. in_shards: no process has all of the weights, but
    the last checkpoint.
    """
    file, model = run.file, run.opened.model
    place: Literal["model", "adapter"] = "model" if file.trains_all else "adapter"
    watch.progress.stage(f"saving the {place}", None)
    with quiet_transformers():
        weights = whole_weights(file.output / CHECKPOINT, model) if in_shards else None
        save_trained(model, run.named.tokenizer, file.output / place, weights)
    lines = watch.log.lines()
    record = TrainingRecord(
        file=dict(file.resolved),
        data=_of_rows(run.data),
        trained=trained,
        epochs=_epochs(lines, watch.steps_per_epoch),
        steps=tuple(lines),
        early_warning=warning(lines),
        versions={"lastresort": __version__, **{package: version(package) for package in PACKAGES}},
        model=trained_model(run.opened, run.named, file.chat_template_kwargs),
        saved=SavedWeights(kind=place, folder=place),
    )
    write_atomically(file.output / RECORD, json.dumps(record.as_json(), ensure_ascii=False, indent=1) + "\n")
    return record


@contextmanager
def _withdrawn_if_refused(folder: Path, *, made_here: bool) -> Iterator[None]:
    """Where a run that began here is refused, or lacks something, before its first step, nothing of it is left to resume."""
    try:
        yield
    except (InputError, PrerequisiteError):
        if made_here:
            withdraw(folder)
        raise


@dataclass(slots=True)
class _Watch:
    """What follows each step: the log, the trackers, the progress. seconds, tokens: of the steps of this process. figures: how far
    the model is from its base, asked at the end of every so many epochs.
    """

    log: StepLog
    trackers: Trackers
    progress: Progress
    steps_per_epoch: int
    steps: int
    seconds: float = 0.0
    tokens: int = 0
    figures: Callable[[], dict[str, float]] | None = None
    look_every: int = 1

    def follow(self, figures: Callable[[], dict[str, float]] | None) -> None:
        """Called in the main process only, since it holds the model."""
        self.figures = figures

    def see(self, seen: StepSeen) -> None:
        if self.seconds == 0.0 and self.tokens == 0:
            self.log.go_on_at(seen.step)
        self.seconds += seen.seconds
        self.tokens += seen.nominal_tokens
        values = {"loss": seen.loss, "grad_norm": seen.grad_norm, "learning_rate": seen.learning_rate, **seen.figures}
        tokens = {"computed_tokens": seen.computed_tokens, "nominal_tokens": seen.nominal_tokens}
        line = {"step": seen.step, **values, **tokens, "seconds": round(seen.seconds, 4)}
        if seen.evaluated is not None:
            held_out = {"eval_loss": seen.evaluated.loss, **{f"eval_{k}": v for k, v in seen.evaluated.figures.items()}}
            line |= held_out
            values |= held_out
        if self.figures is not None and (
            seen.step % (self.look_every * self.steps_per_epoch) == 0 or seen.step == self.steps
        ):
            looked = self.figures()
            line |= looked
            values |= looked
        self.log.add(line)
        self.trackers.log(values, seen.step)
        self.progress.advance(1, note=self._note(seen))
        if seen.step % self.steps_per_epoch == 0 or seen.step == self.steps:
            self._say_epoch(seen)

    def _note(self, seen: StepSeen) -> str:
        figures = [f"loss {seen.loss:.3f}", *_figures(seen.figures)]
        return ", ".join([*figures[:4], f"{self.tokens / max(self.seconds, 1e-9):,.0f} tokens/s"])

    def _say_epoch(self, seen: StepSeen) -> None:
        number = -(-seen.step // self.steps_per_epoch)
        lines = self.log.lines()
        losses = [line["loss"] for line in lines if -(-line["step"] // self.steps_per_epoch) == number]
        text = f"epoch {number}: loss {sum(losses) / len(losses):.4f}"
        if seen.evaluated is not None:
            text += ", ".join([f"; held out: loss {seen.evaluated.loss:.4f}", *_figures(seen.evaluated.figures)])
        self.progress.say(text)
        if measured(lines[-1:]):
            self.progress.say(early_told(lines))
            if (alarmed := warning(lines)) is not None:
                self.progress.say(alarmed)


def _figures(shown: Mapping[str, float]) -> list[str]:
    """An objective's figures as a reader says them; what counts how many is a share."""
    return [
        f"{name.replace('_', ' ')}: {value:.0%}"
        if name.endswith("above_0")
        else f"{name.replace('_', ' ')} {value:.3g}"
        for name, value in shown.items()
    ]


def _of_rows(data: TrainingItems) -> TrainingData:
    return TrainingData(
        items=len(data.items) or data.read,
        what=data.noun,
        eval_items=len(data.held_out),
        rows_read=data.read,
        row_limit_tokens=data.row_tokens,
        findings=data.findings,
    )


def _epochs(lines: Sequence[Mapping[str, float]], per_epoch: int) -> tuple[dict[str, float], ...]:
    """Mean loss of each epoch, and what was found on the items held out at its end."""
    by_epoch: dict[int, list[Mapping[str, float]]] = {}
    for line in lines:
        by_epoch.setdefault(-(-int(line["step"]) // per_epoch), []).append(line)
    return tuple(
        {"epoch": number, "loss": sum(line["loss"] for line in epoch_lines) / len(epoch_lines)}
        | {key: value for key, value in epoch_lines[-1].items() if key.startswith("eval_")}
        for number, epoch_lines in by_epoch.items()
    )
