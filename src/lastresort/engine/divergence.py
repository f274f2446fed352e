"""How far a model is from another one at the targets of rows: what keeps training from changing what it does not teach.

The other model is known by its hidden states at those places, which take a thousandth of the room of its logits. Neither model's
logits ever exist but for a piece of the places.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import linear
from torch.utils.checkpoint import checkpoint

from lastresort.engine.parts import Head, piece_of, target_logps_of, vocabulary_of, wide_dtype


@dataclass(frozen=True, slots=True)
class Far:
    """The model to stay close to, at the targets of the rows of a pass.

    states: of each row [its targets, width], None for a row that is trained on its targets. head: its output layer, None where it
    is that of the model that learns, which is then not trained.
    """

    states: Sequence[Tensor | None]
    head: Head | None = None

    def of(self, rows: Sequence[int]) -> Far:
        """Of some of the rows, by their numbers."""
        return Far([self.states[number] for number in rows], self.head)


def target_values_of(
    hidden: Tensor, pick: Tensor, target: Tensor, owner: Tensor, head: Head, far: Far | None
) -> Tensor:
    """Of each target log p in nats, or, in the rows of which `far` has states, -KL(far || model) there, which is at most 0.

    hidden [tokens, width]; pick, target, owner [targets]: which state predicts which token of which row.
    """
    if far is None:
        return target_logps_of(hidden, pick, target, head)
    soft = torch.tensor([states is not None for states in far.states], device=owner.device)[owner]
    values = hidden.new_empty(len(pick), dtype=wide_dtype(hidden.dtype))
    hard, near = (~soft).nonzero()[:, 0], soft.nonzero()[:, 0]
    values = values.index_put((hard,), target_logps_of(hidden, pick[hard], target[hard], head))
    if not len(near):
        return values
    other = torch.cat([states for states in far.states if states is not None]).to(hidden.device)
    return values.index_put((near,), divergence_of(hidden[pick[near]], other, head, far.head))


def divergence_of(states: Tensor, far: Tensor, head: Head, far_head: Head | None = None) -> Tensor:
    """-KL(far || model) of the next-token distributions over the whole vocabulary, in nats, shape [places], float32 or wider.

    states [places, width]: of the model that learns. far: likewise of the other, to which no gradient goes. far_head: its output
    layer, as in `Far`.
    """
    if head.frozen_linear and far_head is None:
        module: Any = head.module
        return FrozenHeadDivergence.apply(states, far, module.weight, module.bias, head)  # type: ignore[no-any-return, no-untyped-call]
    step, other = piece_of(vocabulary_of(head)), far_head or head
    parts = [
        checkpoint(
            _divergence, states[start : start + step], far[start : start + step], head, other, use_reentrant=False
        )
        for start in range(0, len(states), step)
    ]
    return torch.cat(parts)


def _divergence(states: Tensor, far: Tensor, head: Head, far_head: Head) -> Tensor:
    with torch.no_grad():
        wanted = _logps(far_head, far.to(states.dtype))
    apart = wanted - _logps(head, states)
    return -apart.mul_(wanted.exp_()).sum(-1)


def _logps(head: Head, states: Tensor) -> Tensor:
    logits = head.logits(states)
    return torch.log_softmax(logits.to(wide_dtype(logits.dtype)), -1)


class FrozenHeadDivergence(torch.autograd.Function):
    """-d KL(q || p) / d hidden = (q - p) W does not depend on the loss, so that it is formed in forward, and backward is one
    multiplication. With scale s and cap c, each row of W is weighted by s (1 - (z/c)^2)."""

    @staticmethod
    def forward(ctx: Any, states: Tensor, far: Tensor, weight: Tensor, bias: Tensor | None, head: Head) -> Tensor:
        wanted, wider = ctx.needs_input_grad[0], wide_dtype(weight.dtype)
        states, far = states.to(weight.dtype), far.to(weight.dtype)
        gradient = torch.empty_like(states) if wanted else None
        found = states.new_empty(len(states), dtype=wider)
        step = piece_of(weight.shape[0])
        for start in range(0, len(states), step):
            piece = slice(start, start + step)
            z = head.shape(linear(states[piece], weight, bias).to(wider))
            own = torch.log_softmax(z, -1)
            slope = None if head.cap is None or gradient is None else 1 - (z / head.cap) ** 2
            del z  # what is not needed goes at once: each of these is as large as all logits of the piece
            other = torch.log_softmax(head.shape(linear(far[piece], weight, bias).to(wider)), -1)
            q = other.exp()
            found[piece] = -other.sub_(own).mul_(q).sum(-1)
            del other
            if gradient is not None:
                apart = q.sub_(own.exp_()).mul_(head.scale)
                if slope is not None:
                    apart.mul_(slope)
                torch.mm(apart.to(weight.dtype), weight, out=gradient[piece])
                del apart
            del own, q, slope
        if gradient is not None:
            ctx.save_for_backward(gradient)
        return found

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        (gradient,) = ctx.saved_tensors
        return gradient * grads[0][:, None].to(gradient.dtype), None, None, None, None
