"""The training loop: batch -> forests -> log-probabilities -> objective -> step. One loop for every objective.

The loss is the objective's mean over the target tokens of the whole optimizer batch, whatever number of passes and
processes the batch is cut into, so that accumulating gradients changes nothing.
"""

from __future__ import annotations

import hashlib
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from lastresort.engine.forest import Row, split_passes
from lastresort.engine.logp import target_logps
from lastresort.errors import BudgetError, ContractError, DataError
from lastresort.hardware.memory import give_back_freed_memory
from lastresort.objectives.sft import sft
from lastresort.train.adapters import adapters_in_base_precision, trainable
from lastresort.train.checkpoints import CheckpointState, load_checkpoint, save_checkpoint
from lastresort.train.order import batch_of, steps_per_epoch
from lastresort.train.settings import TrainSettings, learning_rate_at

CHECKPOINT_EVERY_S = 30.0


@dataclass(frozen=True, slots=True)
class StepSeen:
    """What one optimizer step showed. loss: nats a target token. grad_norm: before clipping."""

    step: int
    loss: float
    grad_norm: float
    learning_rate: float
    computed_tokens: int
    nominal_tokens: int
    seconds: float


@dataclass(frozen=True, slots=True)
class Trained:
    """How far a call of `train` got. seconds: of training over all calls. path: "packed" or "plain", with its reason."""

    step: int
    steps: int
    computed_tokens: int
    nominal_tokens: int
    seconds: float
    path: str
    reason: str | None


class Diverged(DataError):
    """The loss of a run is no longer a finite number."""


def total_steps(n_rows: int, settings: TrainSettings) -> int:
    return steps_per_epoch(n_rows, settings.batch_size) * settings.epochs


def train(
    model: Any,
    rows: Sequence[Row],
    settings: TrainSettings,
    *,
    folder: Path,
    base: str = "",
    until: int | None = None,
    plain: bool = False,
    on_step: Callable[[StepSeen], None] | None = None,
    out_of_time: Callable[[], bool] | None = None,
    clock: Callable[[], float] = time.monotonic,
) -> Trained:
    """Train the trainable parameters of `model` on `rows`, from the checkpoint in `folder` if there is one of this run.

    base: fingerprint of the base model, part of what a checkpoint belongs to. until: stop after this many optimizer steps
    and leave a checkpoint, so that a later call goes on (races). plain: use the plain path. out_of_time: asked before
    each step; True stops with BudgetError after a checkpoint. Raises Diverged if a loss is not finite.
    """
    from accelerate import Accelerator

    if not rows:
        raise ContractError("no rows to train on", where="train")
    accelerator = Accelerator(cpu=not torch.cuda.is_available())
    if settings.checkpointing:
        model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
    parameters = [parameter for _, parameter in trainable(model)]
    optimizer = torch.optim.AdamW(parameters, lr=settings.learning_rate, weight_decay=settings.weight_decay, fused=True)
    optimizer = accelerator.prepare(optimizer)
    steps = total_steps(len(rows), settings)
    last = steps if until is None else min(until, steps)
    run = _run_fingerprint(rows, settings, base)
    state = load_checkpoint(folder, model, _bare(optimizer), run) or CheckpointState(0, run, 0, 0, 0.0)
    began = clock() - state.seconds
    saved_at, path, reason = clock(), "packed", None
    model.train()
    for step in range(state.step, last):
        if out_of_time is not None and out_of_time():
            save_checkpoint(folder, model, _bare(optimizer), state)
            raise BudgetError(
                f"the time limit was reached in step {step + 1} of {steps}",
                where="training",
                remedy="Raise limits.hours and go on with --resume.",
            )
        started = clock()
        batch = [rows[i] for i in batch_of(step, len(rows), settings.batch_size, settings.seed)]
        with (
            torch.random.fork_rng()
        ):  # a base with dropout draws from (seed, step), so that a resumed run draws the same
            torch.manual_seed(settings.seed * 1_000_003 + step)
            loss, computed, nominal, path, reason = _accumulate(accelerator, model, batch, settings, plain)
        rate, norm = _update(optimizer, parameters, loss, step, steps, settings)
        state = CheckpointState(
            step + 1, run, state.computed_tokens + computed, state.nominal_tokens + nominal, clock() - began
        )
        if on_step is not None:
            on_step(StepSeen(step + 1, loss, norm, rate, computed, nominal, clock() - started))
        if clock() - saved_at > CHECKPOINT_EVERY_S or step + 1 == last:
            save_checkpoint(folder, model, _bare(optimizer), state)
            give_back_freed_memory()
            saved_at = clock()
    model.eval()
    return Trained(state.step, steps, state.computed_tokens, state.nominal_tokens, state.seconds, path, reason)


def _update(
    optimizer: Any, parameters: Sequence[Any], loss: float, step: int, steps: int, settings: TrainSettings
) -> tuple[float, float]:
    """One optimizer step at the schedule's learning rate; returns the rate and the norm before clipping."""
    if not math.isfinite(loss):
        raise Diverged(
            f"the loss became {loss} in step {step + 1} of {steps}",
            where=f"training with learning rate {settings.learning_rate:g}",
            expected="a finite number",
            remedy="Lower the learning rate, or look at the rows with `lastresort data check`.",
        )
    rate = learning_rate_at(step, steps, settings)
    for group in optimizer.param_groups:
        group["lr"] = rate
    norm = float(torch.nn.utils.clip_grad_norm_(parameters, settings.max_grad_norm))
    optimizer.step()
    optimizer.zero_grad()
    return rate, norm


def _accumulate(
    accelerator: Any, model: Any, batch: Sequence[Row], settings: TrainSettings, plain: bool
) -> tuple[float, int, int, str, str | None]:
    """Gradients of the batch's mean loss, pass by pass and summed over processes."""
    targets = sum(sum(row.targets) for row in batch)
    if not targets:
        raise DataError(
            "no token of the batch is trained",
            where="training",
            expected="targets in every row",
            remedy="Run `lastresort data check`.",
        )
    own = batch[accelerator.process_index :: accelerator.num_processes]
    total, computed, nominal, path, reason = 0.0, 0, 0, "packed", None
    for rows in split_passes(own, settings.max_pass_tokens):
        with adapters_in_base_precision(model):
            result = target_logps(model, rows, plain=plain)
        loss = sft(result.per_token).sum() / targets
        accelerator.backward(loss)
        total += float(loss.detach())
        computed += result.computed_tokens
        nominal += result.nominal_tokens
        path, reason = result.path, result.reason
    if accelerator.num_processes > 1:
        for _, parameter in trainable(model):
            gradient = torch.zeros_like(parameter) if parameter.grad is None else parameter.grad
            parameter.grad = accelerator.reduce(gradient, "sum")
        total = float(accelerator.reduce(torch.tensor(total), "sum"))
    return total, computed, nominal, path, reason


def _run_fingerprint(rows: Sequence[Row], settings: TrainSettings, base: str) -> str:
    digest = hashlib.sha256(f"{settings.fingerprint()} {base}".encode())
    for row in rows:
        digest.update(repr((row.ids, row.targets)).encode())
    return digest.hexdigest()[:16]


def _bare(optimizer: Any) -> Any:
    """The torch optimizer inside accelerate's wrapper."""
    return getattr(optimizer, "optimizer", optimizer)
