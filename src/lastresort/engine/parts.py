"""Taking a causal language model apart: what computes hidden states, and what turns them into logits."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from lastresort.engine.attention import Attends
from lastresort.errors import ContractError


@dataclass(frozen=True, slots=True)
class Head:
    """Hidden states -> logits: cap * tanh(scale * (W h + b) / cap), without the tanh where cap is None."""

    module: nn.Module
    scale: float
    cap: float | None

    @property
    def frozen_linear(self) -> bool:
        """Whether it is a bare linear layer that is not trained, so that its gradient may be formed in forward."""
        return type(self.module) is nn.Linear and not any(p.requires_grad for p in self.module.parameters())

    def logits(self, hidden: Tensor) -> Tensor:
        return self.shape(self.module(hidden))

    def shape(self, logits: Tensor) -> Tensor:
        if self.scale != 1.0:
            logits = logits * self.scale
        if self.cap is not None:
            logits = torch.tanh(logits / self.cap) * self.cap
        return logits


@dataclass(frozen=True, slots=True)
class Parts:
    """causal: the transformers model (inside a peft model its adapters are in place and active). trunk: input ids ->
    last_hidden_state. config: of the text model."""

    causal: Any
    trunk: Callable[..., Any]
    head: Head
    config: Any


def take_apart(model: Any) -> Parts:
    """Parts of a transformers causal model or of a peft model around one.

    Raises ContractError for a peft model that prepends virtual tokens, and for a model without an output layer.
    """
    causal = model
    if hasattr(model, "get_base_model"):
        if getattr(model.active_peft_config, "is_prompt_learning", False):
            raise ContractError("an adapter that prepends virtual tokens", where="engine", expected="LoRA or none")
        causal = model.get_base_model()
    head = causal.get_output_embeddings()
    if head is None:
        raise ContractError(f"{type(causal).__name__} has no output layer", where="engine", expected="a causal model")
    config = causal.config.get_text_config()
    scale = getattr(config, "logit_scale", None) or 1.0
    if getattr(config, "logits_scaling", None):
        scale /= config.logits_scaling
    cap = getattr(config, "final_logit_softcapping", None)
    return Parts(causal, getattr(causal, causal.base_model_prefix, causal), Head(head, float(scale), cap), config)


def packed_hidden(
    trunk: Any, ids: Sequence[int], positions: Sequence[int], attends: Attends, device: torch.device
) -> Tensor:
    """Hidden states [tokens, width] of one packed row."""
    return trunk_hidden(trunk, torch.tensor([ids], device=device), torch.tensor([positions], device=device), attends)[0]


def trunk_hidden(trunk: Any, ids: Tensor, positions: Tensor, attends: Attends) -> Tensor:
    """Hidden states [rows, tokens, width]; ids and positions [rows, tokens]."""
    # transformers takes a mask of four dimensions as it is; with none it would build one of tokens x tokens.
    no_mask = torch.zeros(1, 1, 1, 1, device=ids.device)
    return trunk(  # type: ignore[no-any-return]
        input_ids=ids, position_ids=positions, attention_mask=no_mask, use_cache=False, lastresort=attends
    ).last_hidden_state
