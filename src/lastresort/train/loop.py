"""The training loop: batch -> forests -> log-probabilities -> objective -> step. One loop for every objective.

The loss is the objective's over the whole optimizer batch, whatever number of passes and processes the batch is cut into,
so that accumulating gradients changes nothing.
"""

from __future__ import annotations

import hashlib
import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from lastresort.engine.forest import Row
from lastresort.engine.support import FirstBatchCheck, check_first_batch
from lastresort.errors import BudgetError, DataError
from lastresort.hardware.memory import give_back_freed_memory
from lastresort.train.adapters import adapters_in_base_precision, in_16_bits, is_adapter, trainable
from lastresort.train.batches import Batch, Batches, DataSet, fingerprint
from lastresort.train.checkpoints import CheckpointState, load_checkpoint, save_checkpoint
from lastresort.train.evaluation import Evaluated, evaluate
from lastresort.train.items import Item
from lastresort.train.objective import Seen, bind
from lastresort.train.optimizers import build_optimizer, learning_rate_at
from lastresort.train.order import steps_per_epoch
from lastresort.train.passes import passes, token_logps, unit_sums
from lastresort.train.reference import ReferenceWeights, reference_logps
from lastresort.train.settings import TrainSettings

CHECKPOINT_EVERY_S = 30.0
CHECKED_ITEMS = 4


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

    batches: Batches = DataSet(items, settings.batch_size, settings.seed) if isinstance(items, Sequence) else items
    accelerator = Accelerator(cpu=not torch.cuda.is_available())
    if settings.checkpointing:
        model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
    parameters = [parameter for _, parameter in trainable(model)]
    optimizer = accelerator.prepare(build_optimizer(parameters, settings))
    steps = total_steps(batches.size, settings)
    last = steps if until is None else min(until, steps)
    run = hashlib.sha256(f"{settings.fingerprint()} {base} {batches.fingerprint()}".encode()).hexdigest()[:16]
    state = load_checkpoint(folder, model, _bare(optimizer), run) or CheckpointState(0, run, 0, 0, 0.0)
    work = _Work(model, settings, accelerator, plain, max_new_tokens)
    work.prepare(batches, folder.with_name(f"{folder.name}.reference"), run, begun=state.step > 0, check=state.check)
    work.hold_out(held_out, folder.with_name(f"{folder.name}.evaluation"), run, begun=state.step > 0)
    epoch_ends = {*range(0, steps, steps_per_epoch(batches.size, settings.batch_size)), steps}
    began, saved_at = clock() - state.seconds, clock()
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
        # A base with dropout draws from (seed, step), so that a resumed run draws the same.
        with torch.random.fork_rng():
            torch.manual_seed(settings.seed * 1_000_003 + step)
            passed = work.gradients(batches.at(step, model, work.reference_of))
        rate = learning_rate_at(step, steps, settings)
        norm = _update(optimizer, parameters, passed, step, steps, rate, settings)
        state = CheckpointState(
            step + 1,
            run,
            state.computed_tokens + passed.computed_tokens,
            state.nominal_tokens + passed.nominal_tokens,
            clock() - began,
            work.check,
        )
        if on_step is not None:
            seen = passed.seen(step + 1, norm, rate, clock() - started)
            on_step(replace(seen, evaluated=work.evaluated() if step + 1 in epoch_ends else None))
        if clock() - saved_at > checkpoint_every_s or step + 1 == last:
            save_checkpoint(folder, model, _bare(optimizer), state)
            give_back_freed_memory()
            saved_at = clock()
    model.eval()
    return Trained(
        state.step,
        steps,
        state.computed_tokens,
        state.nominal_tokens,
        state.seconds,
        work.path,
        work.reason,
        work.check,
    )


@dataclass(frozen=True, slots=True)
class _Passed:
    """One optimizer batch after its backward passes."""

    loss: float
    computed_tokens: int
    nominal_tokens: int
    shown: Mapping[str, float]
    skipped: bool = False

    def seen(self, step: int, norm: float, rate: float, seconds: float) -> StepSeen:
        return StepSeen(
            step, self.loss, norm, rate, self.computed_tokens, self.nominal_tokens, seconds, self.shown, self.skipped
        )


class _Work:
    """What the passes of a run have in common."""

    def __init__(
        self, model: Any, settings: TrainSettings, accelerator: Any, plain: bool, max_new_tokens: int | None
    ) -> None:
        self._model, self._settings, self._accelerator = model, settings, accelerator
        self._asked_plain, self._plain, self._longest = plain, plain, max_new_tokens
        self._reference: list[list[float]] | None = None
        self._reference_weights: ReferenceWeights | None = None
        self._held_out: tuple[Sequence[Item], list[list[float]] | None] = ((), None)
        self.check: FirstBatchCheck | None = None
        self.path, self.reason = "packed", None if not plain else "it was asked for"

    def prepare(self, batches: Batches, folder: Path, run: str, *, begun: bool, check: FirstBatchCheck | None) -> None:
        """Check the first batch and compute the reference, before the first step; read both back afterwards."""
        objective, sampled = self._settings.objective, self._settings.objective.need == "groups"
        self._take_path(check)
        if not sampled:
            self._check_first(batches.at(0, self._model, None).items)
        if objective.needs_reference and (sampled or (in_16_bits(self._model) and is_adapter(self._model))):
            self._reference_weights = ReferenceWeights(self._model, folder, run, begun=begun)
        elif objective.needs_reference:
            self._reference = reference_logps(batches.items, self.logps_of, folder, run, begun=begun)

    def hold_out(self, items: Sequence[Item], folder: Path, run: str, *, begun: bool) -> None:
        """Items to evaluate, with their reference where the objective needs one."""
        known = None
        if items and self._settings.objective.needs_reference:
            known = reference_logps(items, self.logps_of, folder, f"{run} {fingerprint(items)}", begun=begun)
        self._held_out = (items, known)

    def evaluated(self) -> Evaluated | None:
        """The objective on the items held out, None without any."""
        items, known = self._held_out
        if not items:
            return None
        tokens = self._settings.max_pass_tokens
        return evaluate(
            self._model, items, self._settings.objective, known, self.score, max_pass_tokens=tokens, plain=self._plain
        )

    def _check_first(self, items: Sequence[Item]) -> None:
        """Packed against plain on the run's first items, once; what fails goes on by the plain path."""
        if self.check is None and not self._asked_plain:
            with adapters_in_base_precision(self._model):
                rows = [row for item in items[:CHECKED_ITEMS] for row in item.rows]
                self._take_path(check_first_batch(self._model, rows))

    def _take_path(self, check: FirstBatchCheck | None) -> None:
        self.check = check
        if check is not None and not check.ok:
            # Without a gradient to compare, the engine refused the packed form and takes the plain path by itself.
            self._plain = self._plain or check.gradient_difference is not None
            self.reason = check.reason

    def score(self, rows: Sequence[Row]) -> Tensor:
        """Summed log-probabilities of rows under the model as it stands, in nats, [rows], float64."""
        units = [(row,) for row in rows]
        sums = unit_sums(self._model, units, self._settings.max_pass_tokens, plain=self._plain)
        return torch.tensor([own for (own,) in sums], dtype=torch.float64, device=self._model.device)

    def logps_of(self, items: Sequence[Item], own: Sequence[int] | None = None) -> list[list[float]]:
        """Summed log-probabilities of the rows of items under the model as it stands, in the passes that training takes.

        own: the items whose trained rows this process computes, None for all; those of the others are left at 0.
        """
        own = range(len(items)) if own is None else own
        units = [items[number].trained for number in own]
        sums = unit_sums(self._model, units, self._settings.max_pass_tokens, plain=self._plain)
        computed = dict(zip(own, sums, strict=True))
        found = [computed.get(number, [0.0] * len(item.trained)) for number, item in enumerate(items)]
        if self._settings.objective.need == "labels":
            mismatched = self.score([item.rows[1] for item in items]).tolist()
            found = [[*logps, far] for logps, far in zip(found, mismatched, strict=True)]
        return found

    def _known(self, batch: Batch, own: Sequence[int]) -> list[list[float]] | None:
        """The reference's log-probabilities of a batch, None where the objective needs none or its items hold them."""
        if self._reference is not None:
            return [self._reference[number] for number in batch.numbers]
        if self._reference_weights is None or self._settings.objective.need == "groups":
            return None
        with self._reference_weights():
            return self.logps_of(batch.items, own)

    def reference_of(self, rows: Sequence[Row]) -> list[tuple[float, ...]]:
        """Log-probabilities of each row's targets under the reference, for answers that were just sampled; () if none."""
        if self._reference_weights is None:
            return [()] * len(rows)
        with self._reference_weights():
            return token_logps(self._model, rows, self._settings.max_pass_tokens, plain=self._plain)

    def gradients(self, batch: Batch) -> _Passed:
        """Gradients of the batch's loss, pass by pass and summed over processes."""
        accelerator, settings = self._accelerator, self._settings
        if not batch.items:
            return _Passed(0.0, 0, 0, batch.shown, skipped=True)
        if not any(any(row.targets) for item in batch.items for row in item.rows):
            raise DataError(
                "no token of the batch is trained",
                where="training",
                expected="targets in every row",
                remedy="Run `lastresort data check`.",
            )
        self._check_first(batch.items)
        own = range(accelerator.process_index, len(batch.items), accelerator.num_processes)
        known = self._known(batch, own)
        loss_of = bind(settings.objective, batch.items, known, self.score, max_new_tokens=self._longest)
        units = [batch.items[number].trained for number in own]
        seen, total, computed, nominal = Seen(), 0.0, 0, 0
        for part, result in passes(self._model, units, settings.max_pass_tokens, plain=self._plain):
            loss = loss_of.loss([own[i] for i in part], result.per_token, result.row, seen)
            accelerator.backward(loss)
            total += float(loss.detach())
            computed += result.computed_tokens
            nominal += result.nominal_tokens
            self.path = result.path
            self.reason = result.reason if result.reason is not None else self.reason
        if accelerator.num_processes > 1:
            total = self._over_processes(total)
        return _Passed(total, computed, nominal, {**batch.shown, **seen.means()})

    def _over_processes(self, total: float) -> float:
        for _, parameter in trainable(self._model):
            gradient = torch.zeros_like(parameter) if parameter.grad is None else parameter.grad
            parameter.grad = self._accelerator.reduce(gradient, "sum")
        return float(self._accelerator.reduce(torch.tensor(total), "sum"))


def _update(
    optimizer: Any,
    parameters: Sequence[Any],
    passed: _Passed,
    step: int,
    steps: int,
    rate: float,
    settings: TrainSettings,
) -> float:
    """One optimizer step at learning rate `rate`; returns the norm of the gradient before clipping."""
    if not math.isfinite(passed.loss):
        raise Diverged(
            f"the loss became {passed.loss} in step {step + 1} of {steps}",
            where=f"training with learning rate {settings.learning_rate:g}",
            expected="a finite number",
            remedy="Lower the learning rate, or look at the rows with `lastresort data check`.",
        )
    if passed.skipped:
        return 0.0
    for group in optimizer.param_groups:
        group["lr"] = rate
    norm = float(torch.nn.utils.clip_grad_norm_(parameters, settings.max_grad_norm))
    optimizer.step()
    optimizer.zero_grad()
    return norm


def _bare(optimizer: Any) -> Any:
    """The torch optimizer inside accelerate's wrapper."""
    return getattr(optimizer, "optimizer", optimizer)
