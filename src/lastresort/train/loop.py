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
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from lastresort.engine.support import FirstBatchCheck
from lastresort.errors import BudgetError, DataError
from lastresort.train.adapters import trainable
from lastresort.train.batches import Batches, DataSet
from lastresort.train.checkpoints import Checkpoints
from lastresort.train.evaluation import Evaluated, hold_out
from lastresort.train.gradients import batch_gradients
from lastresort.train.items import Item
from lastresort.train.optimizers import build_optimizer, learning_rate_at, take_step
from lastresort.train.order import steps_per_epoch
from lastresort.train.policy import Policy
from lastresort.train.reference import reference_of_run
from lastresort.train.settings import TrainSettings

CHECKPOINT_EVERY_S = 30.0


@dataclass(frozen=True, slots=True)
class StepSeen:
    """What one optimizer step showed. loss: of the objective. grad_norm: before clipping. shown: the objective's own figures
    (margins, gains, rewards), means over the batch. skipped: nothing to learn from, no step was taken. evaluated: the items
    held out, at the end of an epoch."""

    step: int
    loss: float
    grad_norm: float
    learning_rate: float
    computed_tokens: int
    nominal_tokens: int
    seconds: float
    shown: Mapping[str, float] = field(default_factory=dict)
    skipped: bool = False
    evaluated: Evaluated | None = None


@dataclass(frozen=True, slots=True)
class Trained:
    """How far a call of `train` got. seconds: of training over all calls. path: "packed" or "plain", with its reason.
    check: packed against plain on the first batch of the run."""

    step: int
    steps: int
    computed_tokens: int
    nominal_tokens: int
    seconds: float
    path: str
    reason: str | None
    check: FirstBatchCheck | None


class Diverged(DataError):
    """The loss of a run is no longer a finite number."""


def total_steps(n_items: int, settings: TrainSettings) -> int:
    steps = steps_per_epoch(n_items, settings.batch_size) * settings.epochs
    return steps if settings.max_steps is None else min(steps, settings.max_steps)


def train(
    model: Any,
    items: Sequence[Item] | Batches,
    settings: TrainSettings,
    *,
    folder: Path,
    base: str = "",
    held_out: Sequence[Item] = (),
    until: int | None = None,
    plain: bool = False,
    max_new_tokens: int | None = None,
    on_step: Callable[[StepSeen], None] | None = None,
    out_of_time: Callable[[], bool] | None = None,
    checkpoint_every_s: float = CHECKPOINT_EVERY_S,
    clock: Callable[[], float] = time.monotonic,
) -> Trained:
    """Train the trainable parameters of `model` on `items`, from the checkpoint in `folder` if there is one of this run.

    base: fingerprint of the base model, part of what a checkpoint belongs to. held_out: evaluated after each epoch. until:
    stop after this many optimizer steps and leave a checkpoint, so that a later call goes on (races). plain: use the plain
    path. max_new_tokens: for dr_grpo. out_of_time: asked before each step; True stops with BudgetError after a checkpoint.
    Raises Diverged if a loss is not finite, DataError for a checkpoint that is cut short.
    """
    from accelerate import Accelerator

    accelerator = Accelerator(cpu=not torch.cuda.is_available())
    batches: Batches = DataSet(items, settings.batch_size, settings.seed) if isinstance(items, Sequence) else items
    steps, objective = total_steps(batches.size, settings), settings.objective
    run = hashlib.sha256(f"{settings.fingerprint()} {base} {batches.fingerprint()}".encode()).hexdigest()[:16]
    if settings.checkpointing:
        model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
    optimizer = build_optimizer([parameter for _, parameter in trainable(model)], settings)
    checkpoints = Checkpoints(folder, model, optimizer, run, checkpoint_every_s, clock)
    state = checkpoints.load()
    policy = Policy(model, settings.max_pass_tokens, plain=plain, check=state.check)
    if objective.need != "groups":
        policy.check_first(batches.at(0, model, None).items)
    reference = reference_of_run(policy, batches, objective, _beside(folder, "reference"), run, begun=state.step > 0)
    held = hold_out(policy, held_out, objective, _beside(folder, "evaluation"), run, begun=state.step > 0)
    began, last = clock() - state.seconds, steps if until is None else min(until, steps)
    model.train()
    for step in range(state.step, last):
        if out_of_time is not None and out_of_time():
            checkpoints.save(state)
            raise _out_of_time(step, steps)
        started, rate = clock(), learning_rate_at(step, steps, settings)
        with _draws_of(step, settings.seed):
            batch = batches.at(step, model, reference.of_answers)
            passed = batch_gradients(policy, batch, objective, reference, accelerator, max_new_tokens=max_new_tokens)
        _check_finite(passed.loss, step, steps, settings.learning_rate)
        norm = 0.0 if passed.skipped else take_step(optimizer, rate, settings.max_grad_norm)
        state = state.after(passed.computed_tokens, passed.nominal_tokens, clock() - began, policy.check)
        if on_step is not None:
            ends_epoch = step + 1 == steps or (step + 1) % steps_per_epoch(batches.size, settings.batch_size) == 0
            on_step(
                StepSeen(
                    step + 1,
                    passed.loss,
                    norm,
                    rate,
                    passed.computed_tokens,
                    passed.nominal_tokens,
                    clock() - started,
                    passed.shown,
                    passed.skipped,
                    held.evaluated() if ends_epoch else None,
                )
            )
        if checkpoints.due or step + 1 == last:
            checkpoints.save(state)
    model.eval()
    return Trained(
        state.step,
        steps,
        state.computed_tokens,
        state.nominal_tokens,
        state.seconds,
        policy.path,
        policy.reason,
        policy.check,
    )


def _beside(folder: Path, what: str) -> Path:
    return folder.with_name(f"{folder.name}.{what}")


@contextmanager
def _draws_of(step: int, seed: int) -> Iterator[None]:
    """A base with dropout draws from (seed, step), so that a resumed run draws the same."""
    with torch.random.fork_rng():
        torch.manual_seed(seed * 1_000_003 + step)
        yield


def _out_of_time(step: int, steps: int) -> BudgetError:
    return BudgetError(
        f"the time limit was reached in step {step + 1} of {steps}",
        where="training",
        remedy="Raise limits.hours and go on with --resume.",
    )


def _check_finite(loss: float, step: int, steps: int, learning_rate: float) -> None:
    if not math.isfinite(loss):
        raise Diverged(
            f"the loss became {loss} in step {step + 1} of {steps}",
            where=f"training with learning rate {learning_rate:g}",
            expected="a finite number",
            remedy="Lower the learning rate, or look at the rows with `lastresort data check`.",
        )
