"""Hidden states of a trunk: by its own forward, or layer by layer where these are of a form that `fused` knows."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor

from lastresort.engine.attention import Attends, ByNode, Packed
from lastresort.engine.fused import answered_hidden, fused_layers, in_precision, trained_hidden

Forward = Callable[[Tensor, Tensor, Attends], Tensor]


def packed_hidden(
    trunk: Any, ids: Sequence[int], positions: Sequence[int], attends: Attends, device: torch.device
) -> Tensor:
    """Hidden states [tokens, width] of one packed row."""
    return trunk_hidden(trunk, torch.tensor([ids], device=device), torch.tensor([positions], device=device), attends)[0]


def trunk_hidden(trunk: Any, ids: Tensor, positions: Tensor, attends: Attends) -> Tensor:
    """Hidden states [rows, tokens, width]; ids and positions [rows, tokens]."""
    if not torch.is_grad_enabled():
        return answering(trunk)(ids, positions, attends)
    layers = fused_layers(trunk)
    if (
        layers is not None
        and isinstance(attends, Packed)
        and isinstance(attends.kernel, ByNode)
        and attends.prefix is None
        and attends.captured is None
    ):
        return trained_hidden(trunk, layers, ids, positions, attends.plan(ids.device), attends.kernel.pieces)
    return own_hidden(trunk, ids, positions, attends)


def answering(trunk: Any) -> Forward:
    """`trunk_hidden` without gradients, for as long as nobody changes the trunk: its layers are looked at and their adapters cast
    here, which takes a tenth of a decoding step."""
    layers = fused_layers(trunk)
    if layers is None:
        return partial(own_hidden, trunk)
    return partial(answered_hidden, trunk, in_precision(layers, trunk.dtype))


def own_hidden(trunk: Any, ids: Tensor, positions: Tensor, attends: Attends) -> Tensor:
    """As `trunk_hidden`, by the trunk's own forward."""
    # transformers takes a mask of four dimensions as it is; with none it would build one of tokens x tokens.
    no_mask = torch.zeros(1, 1, 1, 1, device=ids.device)
    return trunk(  # type: ignore[no-any-return]
        input_ids=ids, position_ids=positions, attention_mask=no_mask, use_cache=False, lastresort=attends
    ).last_hidden_state
