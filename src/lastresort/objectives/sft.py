"""Supervised fine-tuning."""

from __future__ import annotations

from torch import Tensor


def sft(per_token_logps: Tensor) -> Tensor:
    """Raise the probability of the right answer: loss = -log p.

    per_token_logps: of the target tokens, in nats, any shape. Returns the loss of each token, same shape, not averaged; the
    caller divides the sum by the number of target tokens of the whole accumulated batch, so that accumulation changes nothing.
    Source: maximum likelihood; Radford et al. 2018, eq. 3. Oracle: transformers' causal loss with num_items_in_batch.
    """
    return -per_token_logps
