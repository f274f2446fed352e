"""The training loop: batch -> forests -> log-probabilities -> objective -> step. One loop for every objective.

The loss is the objective's over the whole optimizer batch, whatever number of passes and processes the batch is cut into,
so that accumulating gradients changes nothing.
"""

from __future__ import annotations

import hashlib
import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch

from lastresort.errors import DataError
from lastresort.hardware.threads import MOST_ROWS, allowed, pinned, quickest
from lastresort.records.training import TrainedSteps
from lastresort.stop import Stop, StopRequest
from lastresort.train.adapters.adapters import inputs_in_base_precision, trainable
from lastresort.train.loop.batches import Batches, DataSet, TrainingItem, steps_per_epoch
from lastresort.train.loop.checkpoints import Checkpoints, CheckpointState
from lastresort.train.loop.gradients import BatchPass, Evaluated, HeldOut, batch_gradients, hold_out
from lastresort.train.loop.optimizers import build_optimizer, learning_rate_at, take_step
from lastresort.train.loop.policy import Policy
from lastresort.train.loop.processes import Processes, join
from lastresort.train.loop.reference import Base, Reference, ReferenceStore, reference_of_run
from lastresort.train.settings import TrainSettings
from lastresort.types import SILENT, CountsSteps, Progress


@dataclass(frozen=True, slots=True)
class Steps:
    """count: of the whole run. max_new_tokens: for dr_grpo. Steps are numbered from 0."""

    policy: Policy
    batches: Batches
    reference: Reference
    base: Base | None
    held_out: HeldOut
    optimizer: Any
    settings: TrainSettings
    count: int
    max_new_tokens: int | None

    def gradients(self, step: int) -> BatchPass:
        """Of the step's batch, in the parameters, the same in every process."""
        policy, objective = self.policy, self.settings.objective
        with _draws_of(step, self.settings.seed, policy):
            batch = self.batches.at(step, policy.model, self.reference.of_answers, plain=policy.plain)
            return batch_gradients(
                policy, batch, objective, self.reference, base=self.base, max_new_tokens=self.max_new_tokens
            )

    def rate(self, step: int) -> float:
        return learning_rate_at(step, self.count, self.settings)

    def update(self, step: int, passed: BatchPass) -> float:
        """Change the weights, as `take_step` does; returns the norm of the gradients, 0 where the batch taught nothing."""
        return 0.0 if passed.skipped else take_step(self.optimizer, self.rate(step), self.settings.max_grad_norm)

    def evaluate(self, step: int, progress: Progress) -> Evaluated | None:
        """The items held out, where the step is the last of an epoch or of the run."""
        per_epoch = steps_per_epoch(self.batches.size, self.settings.batch_size)
        ends = step + 1 == self.count or (step + 1) % per_epoch == 0
        return self.held_out.evaluate(progress) if ends else None


@contextmanager
def _draws_of(step: int, seed: int, policy: Policy) -> Iterator[None]:
    """A base with dropout draws from (seed, step, process), so that a resumed run draws the same."""
    device, place = policy.model.device, policy.processes.place
    # The other cards of the machine belong to other processes.
    with torch.random.fork_rng([device] if device.type == "cuda" else []):
        torch.manual_seed(seed * 1_000_003 + step + place * 1_000_000_007)
        yield


CHECKPOINT_EVERY_S = 30.0


@dataclass(frozen=True, slots=True)
class StepSeen:
    """What one optimizer step showed. loss: of the objective. grad_norm: before clipping. figures: the objective's own figures
    (margins, gains, rewards), means over the batch. skipped: nothing to learn from, no step was taken. evaluated: the items
    held out, at the end of an epoch."""

    step: int
    loss: float
    grad_norm: float
    learning_rate: float
    computed_tokens: int
    nominal_tokens: int
    seconds: float
    figures: Mapping[str, float] = field(default_factory=dict)
    skipped: bool = False
    evaluated: Evaluated | None = None


class Diverged(DataError):
    """The loss of a run, or the norm of its gradients, is no longer a finite number."""


def total_steps(n_items: int, settings: TrainSettings) -> int:
    steps = steps_per_epoch(n_items, settings.batch_size) * settings.epochs
    return steps if settings.max_steps is None else min(steps, settings.max_steps)


def train(
    model: Any,
    items: Sequence[TrainingItem] | Batches,
    settings: TrainSettings,
    *,
    folder: Path,
    base: str = "",
    held_out: Sequence[TrainingItem] = (),
    until: int | None = None,
    plain: bool = False,
    max_new_tokens: int | None = None,
    on_step: Callable[[StepSeen], None] | None = None,
    stop: Stop | None = None,
    checkpoint_every_s: float = CHECKPOINT_EVERY_S,
    progress: Progress = SILENT,
    processes: Processes | None = None,
    clock: Callable[[], float] = time.monotonic,
    keeps_threads: bool = True,
) -> TrainedSteps:
    """Train the trainable parameters of `model` on `items`, from the checkpoint in `folder` if there is one of this run.

    base: fingerprint of the base model, part of what a checkpoint belongs to. held_out: evaluated after each epoch. until:
    stop after this many optimizer steps and leave a checkpoint, so that a later call goes on (races). plain: use the plain
    path. max_new_tokens: for dr_grpo. stop: checked before each step; a request in any process raises its error in all of them,
    after a checkpoint.
    progress: gets a stage for the reference, the training and each evaluation; the caller advances the training. processes:
    None for those that this one was launched with; all of them call this alike, and what fails in one is raised in all.
    keeps_threads: whether who goes on from a checkpoint of this call computes with as many threads.
    Raises Diverged if a loss or a gradient is not finite, before the weights are, DataError for a checkpoint that is cut short.
    """
    processes = processes or join()
    batches: Batches = DataSet(items, settings.batch_size, settings.seed) if isinstance(items, Sequence) else items
    with processes.together(), inputs_in_base_precision(model), pinned(None):
        run = _fingerprint(settings, base, batches, processes)
        if settings.checkpointing:
            _checkpoint_activations(model)
        optimizer = build_optimizer(trainable(model), settings)
        checkpoints = Checkpoints(folder, model, optimizer, run, processes, checkpoint_every_s, clock)
        loaded = checkpoints.load(progress)
        state = _with_threads(model, loaded, processes, progress)

        def save() -> None:
            checkpoints.save(state if keeps_threads else replace(state, threads=loaded.threads))

        began = clock() - state.seconds
        policy = Policy(model, settings.max_pass_tokens, processes, plain=plain, check=state.check)
        progress.stage("the first batch", None)
        policy.check_first(batches.first_items())
        store = ReferenceStore(folder, run, begun=state.step > 0)
        reference = reference_of_run(policy, batches, settings.objective, store, progress)
        held = hold_out(policy, held_out, settings.objective, store, progress)
        held_to = Base(policy, store) if any(item.held for item in batches.items) else None
        count = total_steps(batches.size, settings)
        steps = Steps(policy, batches, reference, held_to, held, optimizer, settings, count, max_new_tokens)
        last = count if until is None else min(until, count)
        _stage_training(progress, state.step, count)
        model.train()
        for step in range(state.step, last):
            if stop is not None and (request := _first_request(stop, processes)) is not None:
                with processes.together():  # a launcher ends all as soon as one of them ends
                    save()
                here = replace(request, found=f"{request.found}, in step {step + 1} of {count}")
                raise processes.known_to_all(here.error())
            started = clock()
            passed = steps.gradients(step)
            _check_finite("loss", passed.loss, step, count, settings.learning_rate)
            norm = steps.update(step, passed)
            _check_finite("norm of the gradients", norm, step, count, settings.learning_rate)
            step_s = clock() - started
            evaluated = steps.evaluate(step, progress)
            state = state.after(passed.computed_tokens, passed.nominal_tokens, clock() - began, policy.check)
            if on_step is not None:
                on_step(_seen(state.step, passed, norm, steps.rate(step), step_s, evaluated))
            if evaluated is not None and state.step < last:
                _stage_training(progress, state.step, count)
            if checkpoints.due or state.step == last:
                save()
    model.eval()
    return _trained(state, policy, count)


def _first_request(stop: Stop, processes: Processes) -> StopRequest | None:
    """Of any process, since a signal may reach only those of one machine. All hear it at the same step."""
    return next((request for request in processes.each(stop.requested) if request is not None), None)


def _with_threads(model: Any, state: CheckpointState, processes: Processes, progress: Progress) -> CheckpointState:
    """Compute with as many threads as the training began with, or, where it begins, with what is fastest.

    The user's own setting comes first. Several processes keep what they were launched with.
    """
    if model.device.type != "cpu" or processes.count > 1:
        return state
    if len(counts := allowed(model)) > 1:
        torch.set_num_threads(min(state.threads or quickest(model, MOST_ROWS) or counts[0], counts[0]))
    threads = torch.get_num_threads()
    if state.threads not in (None, threads):
        progress.say(
            f"Training began on {state.threads} threads and continues on {threads}, as many as this machine or OMP_NUM_THREADS "
            "allows. Its result can differ by rounding."
        )
    return replace(state, threads=threads)


def _checkpoint_activations(model: Any) -> None:
    """By the name that transformers has for it: later versions warn of the older one."""
    name = "activation" if hasattr(model, "activation_checkpointing_enable") else "gradient"
    enable = getattr(model, f"{name}_checkpointing_enable")
    enable(**{f"{name}_checkpointing_kwargs": {"use_reentrant": False}})


def _trained(state: CheckpointState, policy: Policy, steps: int) -> TrainedSteps:
    return TrainedSteps.from_fields_of(
        state,
        steps=steps,
        path=policy.path,
        reason=policy.reason,
        check=policy.check,
        processes=policy.processes.count,
        sharded=policy.processes.sharded,
    )


def _fingerprint(settings: TrainSettings, base: str, batches: Batches, processes: Processes) -> str:
    """What a checkpoint belongs to. Raises DataError where the processes do not train the same."""
    run = hashlib.sha256(f"{settings.fingerprint()} {base} {batches.fingerprint()}".encode()).hexdigest()[:16]
    if len(set(processes.each(lambda: run))) > 1:
        raise DataError(
            "the processes were given different models, settings or data",
            where="training",
            expected="the same files on every machine",
            remedy="Compare them, or put them on a disk that all machines share.",
        )
    return run


def _stage_training(progress: Progress, step: int, count: int) -> None:
    """The bar is that of the whole training, wherever this call begins and ends."""
    progress.stage(f"training continues from step {step + 1}" if step else "training", count, step)
    if isinstance(progress, CountsSteps):
        progress.count_steps()


def _seen(
    step: int, passed: BatchPass, norm: float, rate: float, seconds: float, evaluated: Evaluated | None
) -> StepSeen:
    return StepSeen(
        step,
        passed.loss,
        norm,
        rate,
        passed.computed_tokens,
        passed.nominal_tokens,
        seconds,
        passed.figures,
        passed.skipped,
        evaluated,
    )


def _check_finite(what: str, value: float, step: int, steps: int, learning_rate: float) -> None:
    if not math.isfinite(value):
        raise Diverged(
            f"the {what} became {value} in step {step + 1} of {steps}",
            where=f"training with learning rate {learning_rate:g}",
            expected="a finite number",
            remedy="Lower the learning rate, or look at the rows with `lastresort data check`.",
        )
