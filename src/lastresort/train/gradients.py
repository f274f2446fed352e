"""The gradients of one optimizer batch, pass by pass."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch

from lastresort.errors import DataError
from lastresort.train.adapters import trainable
from lastresort.train.batches import Batch
from lastresort.train.objective import Objective, Seen, bind
from lastresort.train.policy import Policy
from lastresort.train.reference import Reference


@dataclass(frozen=True, slots=True)
class Passed:
    """One optimizer batch after its backward passes. skipped: it held nothing to learn from."""

    loss: float
    computed_tokens: int
    nominal_tokens: int
    shown: Mapping[str, float]
    skipped: bool = False


def batch_gradients(
    policy: Policy,
    batch: Batch,
    objective: Objective,
    reference: Reference,
    accelerator: Any,
    *,
    max_new_tokens: int | None = None,
) -> Passed:
    """Leave the gradients of the batch's loss in the parameters, summed over processes.

    The first batch of the run is checked by both paths before. max_new_tokens: for dr_grpo. Raises DataError for a batch
    without targets.
    """
    if not batch.items:
        return Passed(0.0, 0, 0, batch.shown, skipped=True)
    if not any(any(row.targets) for item in batch.items for row in item.rows):
        raise DataError(
            "no token of the batch is trained",
            where="training",
            expected="targets in every row",
            remedy="Run `lastresort data check`.",
        )
    policy.check_first(batch.items)
    own = range(accelerator.process_index, len(batch.items), accelerator.num_processes)
    loss_of = bind(objective, batch.items, reference.of_items(batch, own), policy.score, max_new_tokens=max_new_tokens)
    seen, total, computed, nominal = Seen(), 0.0, 0, 0
    for part, result in policy.passes([batch.items[number].trained for number in own]):
        loss = loss_of.loss([own[i] for i in part], result.per_token, result.row, seen)
        accelerator.backward(loss)
        total += float(loss.detach())
        computed += result.computed_tokens
        nominal += result.nominal_tokens
        policy.trained_by(result)
    if accelerator.num_processes > 1:
        total = _over_processes(policy.model, total, accelerator)
    return Passed(total, computed, nominal, {**batch.shown, **seen.means()})


def _over_processes(model: Any, total: float, accelerator: Any) -> float:
    for _, parameter in trainable(model):
        gradient = torch.zeros_like(parameter) if parameter.grad is None else parameter.grad
        parameter.grad = accelerator.reduce(gradient, "sum")
    return float(accelerator.reduce(torch.tensor(total), "sum"))
