"""Attention over a packed forest, registered as a transformers attention implementation.

Per node two kernel calls on views: the node on itself (causal) and its descendants on it (unmasked); what is small may share one.
Partial results merge by their log-sum-exp; backward calls each kernel's backward with the merged output and
log-sum-exp, as ring attention does (Liu et al. 2023). No mask of all tokens, no cache, no padding; it works under activation
checkpointing, because a model keeps the implementation once it has it: without a `lastresort` argument it is torch's own scaled
dot product attention.

A call of a few tokens takes longer to start than to run. Small neighbours, such as the answers to a multiple choice question with
the question itself, therefore stand in one call, with a mask that keeps them apart.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice, takewhile
from typing import Any, Protocol

import torch
from torch import Tensor

from lastresort.engine.kernels import CpuFlash, Kernel, merge
from lastresort.errors import ContractError

Nodes = Sequence[tuple[int, int, int]]


@dataclass(frozen=True, slots=True)
class Calls:
    """own: ranges of tokens on themselves, each token in one; causal where bias is None, else by the bias [1, 1, tokens, tokens],
    0 for what a token sees and -inf for the rest. above: (start, end, last): the tokens end:last on start:end, all of them.
    """

    own: tuple[tuple[int, int, Tensor | None], ...]
    above: tuple[tuple[int, int, int], ...]


def calls_of(nodes: Nodes, device: torch.device, *, together: int = 0) -> Calls:
    """together: most tokens of a call with a mask; 0 makes none."""
    own: list[tuple[int, int, Tensor | None]] = []
    above: list[tuple[int, int, int]] = []
    siblings = [_roots(nodes, 0, len(nodes))]
    while siblings:
        for group in _groups(nodes, siblings.pop(), together):
            start, end, last = nodes[group[0]]
            if len(group) > 1 or (last > end and last - start <= together):
                whole = nodes[group[-1]][2]
                own.append((start, whole, _bias(nodes, group[0], whole, device)))
                continue
            own.append((start, end, None))
            if last > end:
                above.append((start, end, last))
                siblings.append(_roots(nodes, group[0] + 1, _after(nodes, group[0])))
    return Calls(tuple(sorted(own, key=lambda call: call[0])), tuple(sorted(above)))


def _after(nodes: Nodes, i: int) -> int:
    """The number of the first node that does not descend from node i."""
    last = nodes[i][2]
    i += 1
    while i < len(nodes) and nodes[i][0] < last:
        i += 1
    return i


def _roots(nodes: Nodes, first: int, stop: int) -> list[int]:
    """Of the nodes first:stop those that descend from none of them."""
    found = []
    while first < stop:
        found.append(first)
        first = _after(nodes, first)
    return found


def _groups(nodes: Nodes, siblings: Sequence[int], together: int) -> Iterator[list[int]]:
    """Neighbours that have room in one call, with all that descends from them."""
    group: list[int] = []
    for i in siblings:
        if group and nodes[i][2] - nodes[group[0]][0] > together:
            yield group
            group = []
        group.append(i)
    if group:
        yield group


def _bias(nodes: Nodes, first: int, whole: int, device: torch.device) -> Tensor:
    """Of the tokens from node `first` on, up to `whole`."""
    origin = nodes[first][0]
    size = whole - origin
    sees = torch.zeros(size, size, dtype=torch.bool)
    for start, end, last in takewhile(lambda node: node[0] < whole, islice(nodes, first, None)):
        sees[start - origin : last - origin, start - origin : end - origin] = True
    bias = torch.zeros(size, size, dtype=torch.float32).masked_fill_(~sees.tril_(), -torch.inf)
    return bias[None, None].to(device)


NAME = "lastresort"
# Most tokens of nodes that share a call: attention of multiple choice takes half as long, that of training rows as long as before.
TOGETHER = 128

KeysValues = tuple[Tensor, Tensor]


class Attends(Protocol):
    """What a forward passes down to the attention layers as `lastresort=`."""

    def attend(self, layer: int, query: Tensor, key: Tensor, value: Tensor, scale: float) -> Tensor:
        """query [rows, heads, tokens, size]; key, value [rows, key heads, tokens, size] -> like query."""


class ForestKernel(Protocol):
    """A way to compute the attention of a whole forest."""

    @property
    def name(self) -> str: ...

    @property
    def pieces(self) -> Kernel:
        """For what is no forest: the tokens of a decoding step."""

    def plan(self, nodes: Nodes, device: torch.device) -> Any:
        """What attention needs to know about a forest, computed once for all layers."""

    def attend(
        self, query: Tensor, key: Tensor, value: Tensor, plan: Any, prefix: KeysValues | None, scale: float
    ) -> Tensor:
        """query [1, heads, tokens, size]; key, value [1, key heads, tokens, size] -> like query. prefix: as in Packed."""


@dataclass(frozen=True, slots=True)
class ByNode:
    """Two calls a node, of any kernel. together: most tokens of neighbours that share one."""

    pieces: Kernel
    together: int = 0

    @property
    def name(self) -> str:
        return self.pieces.name

    def plan(self, nodes: Nodes, device: torch.device) -> Calls:
        return calls_of(nodes, device, together=self.together)

    def attend(
        self, query: Tensor, key: Tensor, value: Tensor, plan: Calls, prefix: KeysValues | None, scale: float
    ) -> Tensor:
        heads, key_heads = query.shape[1], key.shape[1]
        grouped = query.view(key_heads, heads // key_heads, *query.shape[2:])
        out: Tensor = ForestAttention.apply(  # type: ignore[no-untyped-call]
            grouped, key[0, :, None], value[0, :, None], plan, prefix, scale, self.pieces
        )
        return out.flatten(0, 1)[None]


BY_NODE_ON_CPU = ByNode(CpuFlash(), together=TOGETHER)


@dataclass(frozen=True, slots=True)
class Packed:
    """One forest in one packed row.

    prefix: for each layer keys and values [1, key heads, tokens, size] to which every token attends; without gradient.
    captured: filled, if given, with each layer's keys and values of the packed tokens.
    plans: holds the kernel's plan of the nodes from the first layer on.
    """

    nodes: Nodes
    prefix: Sequence[KeysValues] | None = None
    captured: dict[int, KeysValues] | None = field(default=None)
    kernel: ForestKernel = BY_NODE_ON_CPU
    plans: list[Any] = field(default_factory=list)

    def attend(self, layer: int, query: Tensor, key: Tensor, value: Tensor, scale: float) -> Tensor:
        if self.captured is not None:
            self.captured[layer] = (key.detach(), value.detach())
        prefix = None if self.prefix is None else self.prefix[layer]
        return self.kernel.attend(query, key, value, self.plan(query.device), prefix, scale)

    def plan(self, device: torch.device) -> Any:
        """The kernel's, of the nodes."""
        if not self.plans:
            self.plans.append(self.kernel.plan(self.nodes, device))
        return self.plans[0]


class ForestAttention(torch.autograd.Function):
    """query, out [key heads, group, tokens, size]; key, value [key heads, 1, tokens, size], never expanded in memory."""

    @staticmethod
    def forward(
        ctx: Any,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        calls: Calls,
        prefix: KeysValues | None,
        scale: float,
        kernel: Kernel,
    ) -> Tensor:
        out, lse = forest_forward(query, key, value, calls, scale, kernel)
        if prefix is not None:
            far_key, far_value = (kernel.shared(x[0, :, None], query.shape[1]) for x in prefix)
            merge(out, lse, *kernel.forward(query, far_key, far_value, False, scale))
        elif any(ctx.needs_input_grad):
            ctx.save_for_backward(query, key, value, out, lse)
            ctx.calls, ctx.scale, ctx.kernel = calls, scale, kernel
        return out

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        saved = ctx.saved_tensors  # read once: under checkpointing a second reading is refused
        if not saved:
            raise ContractError("gradients through an external prefix", where="ForestAttention")
        found = forest_backward(grads[0], saved, ctx.calls, ctx.scale, ctx.kernel)
        return (*found, None, None, None, None)  # autograd casts each to its input's precision


def forest_forward(
    query: Tensor, key: Tensor, value: Tensor, calls: Calls, scale: float, kernel: Kernel
) -> tuple[Tensor, Tensor]:
    """out like query, and its log-sum-exp [key heads, group, tokens]; shapes as in ForestAttention."""
    key_heads, group, tokens, size = query.shape
    key, value = kernel.shared(key, group), kernel.shared(value, group)
    if len(calls.own) == 1:
        bias = calls.own[0][2]
        return kernel.forward(query, key, value, bias is None, scale, bias)
    # The layout [tokens, heads, size], which the model's next layer reads without a copy.
    out = query.new_empty(tokens, key_heads, group, size).permute(1, 2, 0, 3)
    lse = query.new_empty(key_heads, group, tokens, dtype=torch.promote_types(query.dtype, torch.float32))
    for start, end, bias in calls.own:
        own, own_key, own_value = (x[:, :, start:end] for x in (query, key, value))
        own, own_lse = kernel.forward(own, own_key, own_value, bias is None, scale, bias)
        out[:, :, start:end], lse[:, :, start:end] = own, own_lse
    for start, end, last in calls.above:
        part, part_lse = kernel.forward(
            query[:, :, end:last], key[:, :, start:end], value[:, :, start:end], False, scale
        )
        merge(out[:, :, end:last], lse[:, :, end:last], part, part_lse)
    return out, lse


def forest_backward(
    grad: Tensor, attended: Sequence[Tensor], calls: Calls, scale: float, kernel: Kernel
) -> tuple[Tensor, Tensor, Tensor]:
    """Gradients of query, key and value. attended: these three, and the out and lse that `forest_forward` gave; the gradients
    are in lse's precision where there are several calls or the kernel computes them so."""
    query, key, value, out, lse = attended
    precision = lse.dtype if kernel.wide_gradients else query.dtype
    grad, query, key, value, out = (x.to(precision) for x in (grad, query, key, value, out))
    group = query.shape[1]
    wide_key, wide_value = kernel.shared(key, group), kernel.shared(value, group)

    def gradients(
        first: int, last: int, start: int, end: int, causal: bool, bias: Tensor | None = None
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Of queries first:last on keys start:end."""
        to_query, to_key, to_value = kernel.backward(
            grad[:, :, first:last],
            query[:, :, first:last],
            wide_key[:, :, start:end],
            wide_value[:, :, start:end],
            out[:, :, first:last],
            lse[:, :, first:last],
            causal,
            scale,
            bias,
        )
        if to_key.shape[1] > 1:
            to_key, to_value = to_key.sum(1, keepdim=True), to_value.sum(1, keepdim=True)
        return to_query, to_key, to_value

    if len(calls.own) == 1:
        ((start, end, bias),) = calls.own
        return gradients(start, end, start, end, bias is None, bias)
    sums = (
        torch.empty_like(query, dtype=lse.dtype),
        torch.empty_like(key, dtype=lse.dtype),
        torch.empty_like(value, dtype=lse.dtype),
    )
    for start, end, bias in calls.own:  # each token is in one, so this fills every place once
        for total, gradient in zip(sums, gradients(start, end, start, end, bias is None, bias), strict=True):
            total[:, :, start:end] = gradient
    for start, end, last in calls.above:
        to_query, to_key, to_value = gradients(end, last, start, end, False)
        sums[0][:, :, end:last] += to_query
        sums[1][:, :, start:end] += to_key
        sums[2][:, :, start:end] += to_value
    return sums


def attention(
    module: Any,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    scaling: float | None = None,
    dropout: float = 0.0,
    lastresort: Attends | None = None,
    **kwargs: Any,
) -> tuple[Tensor, None]:
    """The registered implementation. Raises ContractError for what the packed form cannot do."""
    if lastresort is None:
        from transformers.integrations.sdpa_attention import sdpa_attention_forward

        return sdpa_attention_forward(  # type: ignore[no-any-return]
            module, query, key, value, attention_mask, dropout=dropout, scaling=scaling, **kwargs
        )
    for name in ("softcap", "s_aux", "position_bias", "sinks"):
        if kwargs.get(name) is not None:
            raise ContractError(f"attention with {name}", where="packed form", expected="plain attention")
    if dropout:
        raise ContractError("attention with dropout", where="packed form", expected="plain attention")
    if key.shape != value.shape or query.shape[-1] != key.shape[-1] or not getattr(module, "is_causal", True):
        raise ContractError("attention of another shape", where="packed form", expected="plain attention")
    dtype = _precision(value)
    query, key, value = query.to(dtype), key.to(dtype), value.to(dtype)
    scale = query.shape[-1] ** -0.5 if scaling is None else scaling
    return _attend(lastresort, module.layer_idx, query, key, value, scale).transpose(1, 2), None


def _precision(value: Tensor) -> torch.dtype:
    """Autocast's inside it, as torch's own attention has it. On CUDA a layer norm gives float32 there, and a layer in 4 bits gives
    what it was given, so that values come in float32 to a kernel that was found for 16 bits."""
    device = value.device.type
    if value.dtype != torch.float32 or not torch.amp.is_autocast_available(device):
        return value.dtype
    return torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else value.dtype


@torch.compiler.disable  # type: ignore[untyped-decorator]  # else a compiled model would be retraced for the nodes of every forest
def _attend(attends: Attends, layer: int, query: Tensor, key: Tensor, value: Tensor, scale: float) -> Tensor:
    return attends.attend(layer, query, key, value, scale)


def enable(causal: Any) -> None:
    """Give a transformers model this implementation; the model keeps it. Does nothing the second time."""
    if causal.config._attn_implementation == NAME:
        return
    from transformers import AttentionInterface, AttentionMaskInterface
    from transformers.masking_utils import sdpa_mask

    AttentionInterface.register(NAME, attention)
    AttentionMaskInterface.register(NAME, sdpa_mask)
    causal.set_attn_implementation(NAME)
