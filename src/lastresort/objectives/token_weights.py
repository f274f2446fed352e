"""What each token counts in the sum: the only difference between the losses of grpo, dr_grpo and dapo."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from lastresort.errors import ContractError

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
