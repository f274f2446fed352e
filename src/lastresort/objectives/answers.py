"""Objectives on answers one by one: supervised fine-tuning, and Kahneman-Tversky optimisation of answers labelled good or bad."""

from __future__ import annotations

import torch
from torch import Tensor

from lastresort.errors import ContractError
from lastresort.objectives.contract import not_negative, positive, same_layout


def sft(per_token_logps: Tensor) -> Tensor:
    """Raise the probability of the right answer: loss = -log p.

    per_token_logps: of the target tokens, in nats, any shape. Returns the loss of each token, same shape, not averaged; the
    caller divides the sum by the number of target tokens of the whole accumulated batch, so that accumulation changes nothing.
    Source: maximum likelihood; Radford et al. 2018, eq. 3. Oracle: transformers' causal loss with num_items_in_batch.
    """
    return -per_token_logps


def kto(
    logps: Tensor,
    ref_logps: Tensor,
    desirable: Tensor,
    baseline: Tensor,
    *,
    beta: float = 0.1,
    desirable_weight: float = 1.0,
    undesirable_weight: float = 1.0,
) -> Tensor:
    """Raise good answers above the reference and lower bad ones below it, as seen from how far the policy has moved anyway.

    loss = desirable_weight (1 - sigmoid(beta (logp - ref - z)))      where desirable
           undesirable_weight (1 - sigmoid(beta (z - logp + ref)))    elsewhere

    logps, ref_logps: of the answers, in nats, summed, each (rows,); no gradient into the reference. desirable: bool, (rows,).
    baseline: z in nats, a single value, from `kto_baseline` over the whole optimizer batch. beta: 1/nats, > 0. Weights: >= 0;
    the paper wants desirable_weight x desirable rows at 1 to 4/3 of undesirable_weight x undesirable rows.
    Returns the loss of each row, in order, shape (rows,), not averaged.
    Raises ContractError where layouts differ, labels are not bool, or a number is out of range.
    Source: Ethayarajh et al. 2024, eqs. 7 and 8. Oracle: TRL's KTOTrainer, loss_type `kto`.
    """
    positive("kto", beta=beta)
    not_negative("kto", desirable_weight=desirable_weight, undesirable_weight=undesirable_weight)
    same_layout("kto", logps=logps, ref_logps=ref_logps)
    if desirable.dtype != torch.bool or desirable.shape != logps.shape:
        found = f"labels in {desirable.dtype} of shape {tuple(desirable.shape)}"
        raise ContractError(found, where="kto", expected=f"bool of shape {tuple(logps.shape)}")
    if baseline.numel() != 1:
        raise ContractError(f"a baseline of {baseline.numel()} values", where="kto", expected="one for the whole batch")
    value = beta * (logps - ref_logps.detach() - baseline.detach().to(logps).reshape(()))
    # sigmoid(-x) is 1 - sigmoid(x) without the cancellation.
    return torch.where(desirable, desirable_weight * (-value).sigmoid(), undesirable_weight * value.sigmoid())


def kto_baseline(logps: Tensor, ref_logps: Tensor) -> Tensor:
    """How far the policy has moved from the reference on answers that belong to other prompts.

    z = max(0, mean(logp - ref))

    logps, ref_logps: of mismatched pairs (each prompt with another row's answer), in nats, summed, each (rows,): all rows of
    the optimizer batch, on all devices, or accumulation changes the loss. Returns z in nats, shape (), without gradient.
    Raises ContractError where layouts differ or there is no row.
    Source: Ethayarajh et al. 2024, section 4. TRL takes the mean of each micro-batch. Oracle: TRL's KTOTrainer, one micro-batch.
    """
    same_layout("kto_baseline", logps=logps, ref_logps=ref_logps)
    if logps.numel() == 0:
        raise ContractError("no mismatched pair", where="kto_baseline", expected="at least one")
    return (logps.detach() - ref_logps.detach()).mean().clamp(min=0)
