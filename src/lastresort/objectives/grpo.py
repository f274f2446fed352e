"""Group-relative policy optimisation: an answer's advantage over its group, the loss of each token, and the weight of each token.

The advantage takes the place of a value model. The weights are the only difference between grpo, dr_grpo and dapo.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from lastresort.errors import ContractError
from lastresort.objectives.answers import not_negative, same_layout

Scale = Literal["std", "none"]

ADVANTAGE_SCALE: dict[str, Scale] = {"grpo": "std", "dr_grpo": "none", "dapo": "std"}

SMALLEST_STD = 1e-4


def group_advantages(rewards: Tensor, groups: Tensor, *, scale: Scale) -> Tensor:
    """Reward above the mean of its group, in standard deviations of the group or as it is.

    A = r - mean(r of the group), divided by (std + 1e-4) if scale is "std"

    rewards: (rows,), finite floats. groups: (rows,), whole numbers, equal for the answers to one prompt; groups need not be
    equally large or lie together, but must be whole. scale: "std" for grpo and dapo, "none" for dr_grpo (ADVANTAGE_SCALE).
    Returns (rows,), in the precision of the rewards; 0 where a group has one member or all rewards are equal.
    Raises ContractError for rewards that are not finite, shapes that differ, or an unknown scale.
    Source: Shao et al. 2024, section 4.1.2, which does not say which deviation: the sample's (n - 1) and the 1e-4 are TRL's.
    "none": Liu et al. 2025 (Dr. GRPO). Oracle: TRL's GRPOTrainer, scale_rewards `group` and `none`.
    """
    where = "group_advantages"
    if rewards.ndim != 1 or groups.shape != rewards.shape:
        found = f"rewards of shape {tuple(rewards.shape)}, groups of shape {tuple(groups.shape)}"
        raise ContractError(found, where=where, expected="shape (rows,) for both")
    if not rewards.is_floating_point() or not bool(rewards.isfinite().all()):
        raise ContractError("a reward that is no finite float", where=where, expected="finite floats")
    if scale not in ("std", "none"):
        raise ContractError(f'scale "{scale}"', where=where, expected='"std" or "none"')
    labels, member = torch.unique(groups, return_inverse=True)
    size = torch.bincount(member, minlength=len(labels)).to(rewards)
    above = rewards - (_sum_by(member, rewards, len(labels)) / size)[member]
    if scale == "none":
        return above
    variance = _sum_by(member, above**2, len(labels)) / (size - 1).clamp(min=1)
    return above / (variance.sqrt() + SMALLEST_STD)[member]


def _sum_by(member: Tensor, values: Tensor, count: int) -> Tensor:
    return values.new_zeros(count).index_add(0, member, values)


Variant = Literal["grpo", "dr_grpo", "dapo"]


def token_weights(
    row: Tensor,
    row_tokens: Tensor,
    *,
    variant: Variant,
    max_tokens: int | None = None,
    dtype: torch.dtype = torch.float32,
) -> Tensor:
    """The weight of each token, such that sum(weight x loss of the token) over all micro-batches is the loss of the batch.

    grpo:     1 / (rows x tokens of its row)     mean over the tokens of a row, then over rows
    dr_grpo:  1 / (rows x max_tokens)            the same for all, however long the row
    dapo:     1 / tokens of all rows             mean over all tokens

    row: (tokens,), which row of the *whole optimizer batch* each token of this micro-batch belongs to. row_tokens: (rows,),
    sampled tokens of every row of that batch, on all devices; a row without tokens counts as a row to grpo and dr_grpo.
    max_tokens: the most that may be sampled for a row, for dr_grpo. Returns (tokens,): of the batch alone, so
    that accumulation changes nothing.
    Raises ContractError for an unknown variant, dr_grpo without max_tokens, a row longer than that, or an unknown row.
    Source: Shao et al. 2024, eq. 3; Liu et al. 2025 (Dr. GRPO), listing 1; Yu et al. 2025 (DAPO), section 3.3, whose equation is
    of one prompt: over a batch its authors, like TRL, take the tokens of all prompts together.
    Oracle: TRL's GRPOTrainer, the loss_type of the same name.
    """
    where = "token_weights"
    if row.ndim != 1 or row_tokens.ndim != 1:
        raise ContractError(f"{row.ndim} and {row_tokens.ndim} dimensions", where=where, expected="1 and 1")
    if row.numel() and not 0 <= int(row.min()) <= int(row.max()) < len(row_tokens):
        found = f"rows {int(row.min())} to {int(row.max())}"
        raise ContractError(found, where=where, expected=f"0 to {len(row_tokens) - 1}")
    counts, rows = row_tokens.to(device=row.device, dtype=dtype), len(row_tokens)
    if variant == "grpo":
        return 1 / (rows * counts[row])
    if variant == "dapo":
        return (1 / row_tokens.sum().to(counts)).expand(len(row))
    if variant != "dr_grpo":
        raise ContractError(f'variant "{variant}"', where=where, expected="grpo, dr_grpo or dapo")
    if max_tokens is None or (rows and max_tokens < int(row_tokens.max())):
        raise ContractError(
            f"max_tokens is {max_tokens}", where=where, expected="at least the tokens of the longest row"
        )
    return counts.new_full((len(row),), 1 / (rows * max_tokens) if rows else 0.0)


LARGEST_LOG_RATIO = 20.0


def grpo(
    per_token_logps: Tensor,
    per_token_old_logps: Tensor,
    per_token_advantages: Tensor,
    *,
    eps_low: float = 0.2,
    eps_high: float = 0.2,
    kl_weight: float = 0.0,
    per_token_ref_logps: Tensor | None = None,
) -> Tensor:
    """Raise tokens of answers better than their group, as far as one trust region allows.

    loss = -min(ratio A, clip(ratio, 1 - eps_low, 1 + eps_high) A) + kl_weight (exp(d) - d - 1),
    ratio = exp(logp - old),  d = ref - logp

    per_token_logps: of the sampled tokens, in nats, any shape. per_token_old_logps: of the policy that sampled them.
    per_token_advantages: that of each token's row, from `group_advantages`. per_token_ref_logps: needed if kl_weight > 0.
    All of one shape; gradients flow into the first only. 0 <= eps_low < 1, eps_high >= 0, kl_weight >= 0.
    Returns the loss of each token, same shape, not reduced: its weight in the sum is `token_weights`.
    Raises ContractError where layouts differ, a number is out of range, or the reference is missing.
    Above a log ratio of 20, exp goes on as its tangent, so that no loss overflows and no gradient is lost.
    Source: Shao et al. 2024, eqs. 3 and 4 (KL: Schulman's k3); Dr. GRPO has the same loss of a token, without the KL.
    Oracle: TRL's GRPOTrainer, loss_type `grpo` and `dr_grpo`.
    """
    if not 0 <= eps_low < 1:
        raise ContractError(f"eps_low is {eps_low}", where="grpo", expected="at least 0, below 1")
    not_negative("grpo", eps_high=eps_high, kl_weight=kl_weight)
    same_layout("grpo", logps=per_token_logps, old=per_token_old_logps, advantages=per_token_advantages)
    advantages = per_token_advantages.detach()
    ratio = _bounded_exp(per_token_logps - per_token_old_logps.detach())
    loss = -torch.min(ratio * advantages, ratio.clamp(1 - eps_low, 1 + eps_high) * advantages)
    if kl_weight == 0:
        return loss
    if per_token_ref_logps is None:
        raise ContractError("kl_weight without log-probabilities of the reference", where="grpo", expected="both")
    same_layout("grpo", logps=per_token_logps, reference=per_token_ref_logps)
    return loss + kl_weight * k3(per_token_logps, per_token_ref_logps)


def k3(per_token_logps: Tensor, per_token_ref_logps: Tensor) -> Tensor:
    """How far each sampled token is from the reference, in nats: exp(d) - d - 1, d = ref - logp, never below 0.

    Both of one shape, which is returned; gradients flow into the first only. Its mean estimates KL(policy || reference).
    Source: Schulman 2020, Approximating KL divergence. Bounded as `grpo` is.
    """
    lag = per_token_ref_logps.detach() - per_token_logps
    return _bounded_exp(lag) - lag - 1


def dapo(
    per_token_logps: Tensor,
    per_token_old_logps: Tensor,
    per_token_advantages: Tensor,
    *,
    eps_low: float = 0.2,
    eps_high: float = 0.28,
    kl_weight: float = 0.0,
    per_token_ref_logps: Tensor | None = None,
) -> Tensor:
    """`grpo` with a higher ceiling than floor, so that unlikely tokens may rise: arguments and errors as there.

    Source: Yu et al. 2025 (DAPO), sections 3.1 (clip higher) and 3.3 (the weights). Its dynamic sampling (groups that are all
    right or all wrong are drawn again) is the caller's. Oracle: TRL's GRPOTrainer, loss_type `dapo`, epsilon_high 0.28.
    """
    return grpo(
        per_token_logps,
        per_token_old_logps,
        per_token_advantages,
        eps_low=eps_low,
        eps_high=eps_high,
        kl_weight=kl_weight,
        per_token_ref_logps=per_token_ref_logps,
    )


def _bounded_exp(logs: Tensor) -> Tensor:
    return logs.clamp(max=LARGEST_LOG_RATIO).exp() * (1 + (logs - LARGEST_LOG_RATIO).relu())
