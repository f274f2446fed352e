"""How much better an answer is than its group: what takes the place of a value model."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from lastresort.errors import ContractError

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
