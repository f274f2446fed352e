"""Taking a causal language model apart: what computes hidden states, and what turns them into logits.

Log-probabilities of targets from hidden states, piece by piece: full logits never exist.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeGuard

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from lastresort.engine.attention import Attends
from lastresort.errors import ContractError

if TYPE_CHECKING:
    from torch.distributed.tensor import DTensor


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


PIECE_LOGITS = 8_000_000  # logits alive at once


def target_logps_of(hidden: Tensor, pick: Tensor, target: Tensor, head: Head) -> Tensor:
    """log p(target) in nats, shape [targets], float32 or wider.

    hidden [tokens, width]; pick, target [targets]: which hidden state predicts which token. A state picked by several
    targets is turned into logits once.
    """
    if not len(pick):
        return (hidden.sum() * 0.0).to(wide_dtype(hidden.dtype)).expand(0)
    states, which = torch.unique(pick, return_inverse=True)
    chosen = hidden[states]
    if head.frozen_linear:
        module: Any = head.module
        return FrozenHead.apply(  # type: ignore[no-any-return, no-untyped-call]
            chosen, module.weight, module.bias, which, target, head.scale, head.cap
        )
    return _trained_head(chosen, which, target, head)


def _trained_head(states: Tensor, which: Tensor, target: Tensor, head: Head) -> Tensor:
    """Through the output layer's own forward, each piece recomputed in backward."""

    def logps(piece: Tensor, local: Tensor, wanted: Tensor) -> Tensor:
        logits = head.logits(piece)
        logits = logits.to(wide_dtype(logits.dtype))
        return logits[local, wanted] - logits.logsumexp(-1)[local]

    step = piece_of(vocabulary_of(head))
    parts, places = [], []
    for start in range(0, len(states), step):
        inside = ((which >= start) & (which < start + step)).nonzero()[:, 0]
        parts.append(
            checkpoint(logps, states[start : start + step], which[inside] - start, target[inside], use_reentrant=False)
        )
        places.append(inside)
    return torch.cat(parts)[torch.argsort(torch.cat(places))]


class FrozenHead(torch.autograd.Function):
    """d log p / d hidden = W[target] - p W does not depend on the loss, so that p W is formed in forward and backward is
    one multiplication. With scale s and cap c, z = c tanh(s (W h + b) / c), each row of W is weighted by s (1 - (z/c)^2)."""

    @staticmethod
    def forward(
        ctx: Any,
        states: Tensor,
        weight: Tensor,
        bias: Tensor | None,
        which: Tensor,
        target: Tensor,
        scale: float,
        cap: float | None,
    ) -> Tensor:
        wide, wanted = wide_dtype(weight.dtype), ctx.needs_input_grad[0]
        states = states.to(weight.dtype)
        vocabulary, step = weight.shape[0], min(piece_of(weight.shape[0]), len(states))
        product = weight.new_empty(step, vocabulary)
        logits = product if wide == weight.dtype else weight.new_empty(step, vocabulary, dtype=wide)
        lse = states.new_empty(len(states), dtype=wide)
        mean = torch.empty_like(states) if wanted else None
        chosen = lse.new_empty(len(target))
        for start in range(0, len(states), step):
            x = states[start : start + step]
            raw, z = product[: len(x)], logits[: len(x)]
            torch.mm(x, weight.t(), out=raw) if bias is None else torch.addmm(bias, x, weight.t(), out=raw)
            if wide != weight.dtype:
                z.copy_(raw)
            if scale != 1.0:
                z.mul_(scale)
            if cap is not None:
                z.div_(cap).tanh_().mul_(cap)
            inside = ((which >= start) & (which < start + len(x))).nonzero()[:, 0]
            chosen[inside] = z[which[inside] - start, target[inside]]
            if mean is None:
                lse[start : start + len(x)] = z.logsumexp(1)
                continue
            bend = None if cap is None else 1 - (z / cap) ** 2
            top, where = z.max(1)
            torch.softmax(z, 1, out=z)
            # The largest probability is at least 1 / vocabulary, so that its logarithm is exact.
            lse[start : start + len(x)] = top - z.gather(1, where[:, None])[:, 0].log()
            if bend is not None:
                z.mul_(bend)
            p = z if wide == weight.dtype else raw.copy_(z)
            torch.mm(p, weight, out=mean[start : start + len(x)])
        if mean is not None:
            factor = torch.full_like(chosen, scale) if cap is None else scale * (1 - (chosen / cap) ** 2)
            ctx.save_for_backward(mean, weight, which, target, factor)
            ctx.scale = scale
        return chosen - lse[which]

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        mean, weight, which, target, factor = ctx.saved_tensors
        (grad,) = grads
        total = grad.new_zeros(len(mean)).index_add_(0, which, grad)
        gradient = mean * (total * -ctx.scale)[:, None].to(mean.dtype)
        gradient.index_add_(0, which, weight[target] * (grad * factor)[:, None].to(weight.dtype))
        return gradient, None, None, None, None, None, None


def wide_dtype(dtype: torch.dtype) -> torch.dtype:
    return torch.promote_types(dtype, torch.float32)


def piece_of(vocabulary: int) -> int:
    return max(1, PIECE_LOGITS // vocabulary)


def vocabulary_of(head: Head) -> int:
    weight = getattr(head.module, "weight", None)
    return int(weight.shape[0]) if isinstance(weight, Tensor) else 100_000


def in_shards(tensor: Tensor) -> TypeGuard[DTensor]:
    """Whether processes hold a tensor in shards. Never where torch is built without what connects them."""
    if not torch.distributed.is_available():
        return False
    from torch.distributed.tensor import DTensor

    return isinstance(tensor, DTensor)


def whole(tensor: Tensor) -> Tensor:
    """All of a tensor that processes hold in shards, which all of them ask for alike; another one as it is."""
    return tensor.full_tensor() if in_shards(tensor) else tensor


def back_into_shards(model: nn.Module) -> None:
    """Let go of what was gathered for a pass without a backward, at the end of which FSDP does so."""
    if not torch.distributed.is_available():
        return
    from torch.distributed.fsdp import FSDPModule

    for module in model.modules():
        if isinstance(module, FSDPModule):
            module.reshard()
