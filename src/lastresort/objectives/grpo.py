"""Group-relative policy optimisation: the loss of each token. Advantages and weights stand in the files beside it."""

from __future__ import annotations

import torch
from torch import Tensor

from lastresort.errors import ContractError
from lastresort.objectives.contract import not_negative, same_layout

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
