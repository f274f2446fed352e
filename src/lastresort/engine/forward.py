"""Hidden states of a trunk: by its own forward, or layer by layer where these are of a form that `fused` knows."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from lastresort.engine.attention import Attends, ByNode, Packed
from lastresort.engine.fused import answered_hidden, fused_layers, trained_hidden


def packed_hidden(
    trunk: Any, ids: Sequence[int], positions: Sequence[int], attends: Attends, device: torch.device
) -> Tensor:
    """Hidden states [tokens, width] of one packed row."""
    return trunk_hidden(trunk, torch.tensor([ids], device=device), torch.tensor([positions], device=device), attends)[0]


def trunk_hidden(trunk: Any, ids: Tensor, positions: Tensor, attends: Attends) -> Tensor:
    """Hidden states [rows, tokens, width]; ids and positions [rows, tokens]."""
    layers = fused_layers(trunk)
    if layers is not None and not torch.is_grad_enabled():
        return answered_hidden(trunk, layers, ids, positions, attends)
    if (
        layers is not None
        and isinstance(attends, Packed)
        and isinstance(attends.kernel, ByNode)
        and attends.prefix is None
        and attends.captured is None
    ):
        return trained_hidden(trunk, layers, ids, positions, attends.plan(ids.device), attends.kernel.pieces)
    return own_hidden(trunk, ids, positions, attends)


def own_hidden(trunk: Any, ids: Tensor, positions: Tensor, attends: Attends) -> Tensor:
    """As `trunk_hidden`, by the trunk's own forward."""
    # transformers takes a mask of four dimensions as it is; with none it would build one of tokens x tokens.
    no_mask = torch.zeros(1, 1, 1, 1, device=ids.device)
    return trunk(  # type: ignore[no-any-return]
        input_ids=ids, position_ids=positions, attention_mask=no_mask, use_cache=False, lastresort=attends
    ).last_hidden_state
