"""Attention of some queries on some keys, with its log-sum-exp and its gradients: one kernel a device and precision.

A kernel knows nothing of forests. Given the output and the log-sum-exp of a softmax over more keys than it is shown, its
backward still gives the gradients of its own part, which is what lets a forest be put together of pieces.

What the CUDA kernels of torch ask of their callers (read in its sources, up to 2.13; without a GPU to run them on):
log-sum-exps are natural logarithms; flash reads its log-sum-exp as if contiguous, takes key heads that are fewer than query
heads as they are, head sizes up to 256 in steps of 8, and only 16 bits; efficient attention reads its output in backward as
[a, queries, heads, size] in this order in memory, its log-sum-exp in steps of 32 queries, and needs all heads. Neither
checks the layouts, so that a wrong one would be a wrong gradient.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

import torch
from torch import Tensor

from lastresort.errors import ContractError

ALIGNED_BYTES = 16
PIECE_SCORES = 1 << 24  # attention scores alive at once in Products, 64 MB in float32

Gradients = tuple[Tensor, Tensor, Tensor]

_aten: Any = torch.ops.aten
_cpu_forward: Callable[..., tuple[Tensor, Tensor]] = _aten._scaled_dot_product_flash_attention_for_cpu
_cpu_backward: Callable[..., Gradients] = _aten._scaled_dot_product_flash_attention_for_cpu_backward


class Kernel(Protocol):
    """query, out, grad [a, heads, queries, size]; key, value [a, heads, keys, size], or with one head for all as `shared`
    gives them; lse [a, heads, queries], natural logarithm, float32 or wider. causal: query i sees keys 0 to i, and there
    are as many queries as keys. bias is added to the scores, which are scaled before."""

    name: str
    wide_gradients: bool  # whether backward is given everything in lse's precision, or in the query's

    def shared(self, keys: Tensor, heads: int) -> Tensor:
        """A view of keys or values [a, 1, keys, size] as the kernel takes them for that many heads."""

    def forward(
        self, query: Tensor, key: Tensor, value: Tensor, causal: bool, scale: float, bias: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """out and lse."""

    def backward(
        self,
        grad: Tensor,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        out: Tensor,
        lse: Tensor,
        causal: bool,
        scale: float,
        bias: Tensor | None = None,
    ) -> Gradients:
        """Of query, key and value; where heads share a key, its gradient may come with a head for each."""


class CpuFlash:
    """torch's flash attention on CPU, for every precision."""

    name = "flash"
    # 8 leaves of 80 tokens take 5.4 ms in bf16 and 3.2 ms in float32.
    wide_gradients = True

    def shared(self, keys: Tensor, heads: int) -> Tensor:
        return keys.expand(-1, heads, -1, -1)

    def forward(
        self, query: Tensor, key: Tensor, value: Tensor, causal: bool, scale: float, bias: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        return _cpu_forward(query, key, value, 0.0, causal, attn_mask=_as_wide(bias, query), scale=scale)

    def backward(
        self,
        grad: Tensor,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        out: Tensor,
        lse: Tensor,
        causal: bool,
        scale: float,
        bias: Tensor | None = None,
    ) -> Gradients:
        mask = _as_wide(bias, query)
        return _cpu_backward(grad, query, key, value, out, lse, 0.0, causal, attn_mask=mask, scale=scale)


class Products:
    """Matrix products in float32 or wider, on every device, for every shape; long ranges of queries piece by piece."""

    name = "products"
    wide_gradients = True

    def shared(self, keys: Tensor, heads: int) -> Tensor:
        return keys

    def forward(
        self, query: Tensor, key: Tensor, value: Tensor, causal: bool, scale: float, bias: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        wide = torch.promote_types(query.dtype, torch.float32)
        key, value = key.to(wide), value.to(wide)
        out = torch.empty_like(query)
        lse = query.new_empty(query.shape[:-1], dtype=wide)
        with _unrounded(query):
            for first, last in _pieces(query, key):
                seen = last if causal else key.shape[2]
                scores = _scores(query[:, :, first:last].to(wide), key[:, :, :seen], first if causal else None, scale)
                if bias is not None:
                    scores += bias[:, :, first:last]
                own = scores.logsumexp(-1)
                lse[:, :, first:last] = own
                out[:, :, first:last] = _product(scores.sub_(own.unsqueeze(-1)).exp_(), value[:, :, :seen])
        return out, lse

    def backward(
        self,
        grad: Tensor,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        out: Tensor,
        lse: Tensor,
        causal: bool,
        scale: float,
        bias: Tensor | None = None,
    ) -> Gradients:
        grad, query, key, value, out = (x.to(lse.dtype) for x in (grad, query, key, value, out))
        to_query, to_key, to_value = torch.empty_like(query), torch.zeros_like(key), torch.zeros_like(value)
        with _unrounded(query):
            for first, last in _pieces(query, key):
                seen = last if causal else key.shape[2]
                near_key, near_value = key[:, :, :seen], value[:, :, :seen]
                own, own_grad = query[:, :, first:last], grad[:, :, first:last]
                p = _scores(own, near_key, first if causal else None, scale)
                if bias is not None:
                    p += bias[:, :, first:last]
                p.sub_(lse[:, :, first:last, None]).exp_()
                to_value[:, :, :seen] += _sum_over_queries(p, own_grad, value.shape[1])
                through = (own_grad * out[:, :, first:last]).sum(-1, keepdim=True)
                p *= _product(own_grad, near_value.transpose(2, 3)).sub_(through).mul_(scale)
                to_query[:, :, first:last] = _product(p, near_key)
                to_key[:, :, :seen] += _sum_over_queries(p, own, key.shape[1])
        return to_query, to_key, to_value


class CudaFlash:
    """torch's flash attention on CUDA in 16 bits."""

    name = "flash"
    wide_gradients = False

    def shared(self, keys: Tensor, heads: int) -> Tensor:
        return keys

    def forward(
        self, query: Tensor, key: Tensor, value: Tensor, causal: bool, scale: float, bias: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        if bias is not None:  # which the kernel has not
            return Products().forward(query, key, value, causal, scale, bias)
        query, key, value = (rows_whole(x) for x in (query, key, value))
        out, lse, *_ = _aten._scaled_dot_product_flash_attention(query, key, value, 0.0, causal, False, scale=scale)
        return out, lse

    def backward(
        self,
        grad: Tensor,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        out: Tensor,
        lse: Tensor,
        causal: bool,
        scale: float,
        bias: Tensor | None = None,
    ) -> Gradients:
        if bias is not None:
            return Products().backward(grad, query, key, value, out, lse, causal, scale, bias)
        query, key, value = (rows_whole(x) for x in (query, key, value))
        state = no_random_state(query)
        return _aten._scaled_dot_product_flash_attention_backward(  # type: ignore[no-any-return]
            grad,
            query,
            key,
            value,
            out,
            lse.contiguous(),
            None,
            None,
            query.shape[2],
            key.shape[2],
            0.0,
            causal,
            state,
            state,
            scale=scale,
        )


class CudaEfficient:
    """torch's memory-efficient attention on CUDA, for float32 and for cards that have no flash attention."""

    name = "efficient"
    wide_gradients = False

    def shared(self, keys: Tensor, heads: int) -> Tensor:
        return keys.expand(-1, heads, -1, -1)

    def forward(
        self, query: Tensor, key: Tensor, value: Tensor, causal: bool, scale: float, bias: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        if bias is not None:  # which the kernel needs aligned in memory
            return Products().forward(query, key, value, causal, scale, bias)
        # torch chooses its kernel for aligned rows by the strides of heads, and the kernel then refuses rows that are not. With
        # other sizes those strides are aligned for some numbers of tokens: such passes would fail, though the trial does not.
        if query.shape[-1] * query.element_size() % ALIGNED_BYTES:
            raise ContractError(f"heads of {query.shape[-1]} numbers", where=self.name, expected="steps of 16 bytes")
        query, key, value = (rows_whole(x) for x in (query, key, value))
        out, lse, *_ = _aten._scaled_dot_product_efficient_attention(
            query, key, value, None, True, 0.0, causal, scale=scale
        )
        return out, lse[:, :, : query.shape[2]]

    def backward(
        self,
        grad: Tensor,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        out: Tensor,
        lse: Tensor,
        causal: bool,
        scale: float,
        bias: Tensor | None = None,
    ) -> Gradients:
        if bias is not None:
            return Products().backward(grad, query, key, value, out, lse, causal, scale, bias)
        query, key, value = (rows_whole(x) for x in (query, key, value))
        queries = query.shape[2]
        step = 1 if torch.version.hip else 32
        # Infinity, so that a query that is none has the weight 0.
        padded = lse.new_full((*lse.shape[:2], -(-queries // step) * step), torch.inf)
        padded[:, :, :queries] = lse
        state = no_random_state(query)
        gradients = _aten._scaled_dot_product_efficient_attention_backward(
            grad,
            query,
            key,
            value,
            None,
            out.transpose(1, 2).contiguous().transpose(1, 2),
            padded,
            state,
            state,
            0.0,
            [True, True, True, False],
            causal,
            scale=scale,
        )
        return gradients[:3]  # type: ignore[no-any-return]


def merge(out: Tensor, lse: Tensor, part: Tensor, part_lse: Tensor) -> None:
    """Fold attention over further keys into out [..., tokens, size] and lse [..., tokens], in place."""
    weight = torch.sigmoid(part_lse - lse).unsqueeze(-1)
    torch.logaddexp(lse, part_lse, out=lse)
    if out.dtype == weight.dtype:
        out.lerp_(part, weight)
    else:
        out.copy_(torch.lerp(out.to(weight.dtype), part.to(weight.dtype), weight))


def _as_wide(bias: Tensor | None, query: Tensor) -> Tensor | None:
    """torch 2.13 accepts a float32 bias with float64 inputs on CPU, and reads it as float64."""
    return bias.double() if bias is not None and query.dtype == torch.float64 else bias


def rows_whole(x: Tensor) -> Tensor:
    """x with its last dimension contiguous, as the CUDA kernels want it."""
    return x if x.stride(-1) == 1 else x.contiguous()


def no_random_state(like: Tensor) -> Tensor:
    """What backward asks for and does not read without dropout."""
    return torch.zeros(2, dtype=torch.uint64, device=like.device)


def _unrounded(like: Tensor) -> torch.autocast:
    """Inside autocast, too, products are as precise as their factors: it would round them to 16 bits."""
    return torch.autocast(like.device.type, enabled=False)


def _pieces(query: Tensor, key: Tensor) -> list[tuple[int, int]]:
    a, heads, queries, _ = query.shape
    step = max(1, PIECE_SCORES // max(1, a * heads * key.shape[2]))
    return [(first, min(first + step, queries)) for first in range(0, queries, step)]


def _scores(query: Tensor, key: Tensor, first: int | None, scale: float) -> Tensor:
    """Scaled scores [a, heads, queries, keys]; first: place of the first query among the keys where attention is causal."""
    scores = _product(query, key.transpose(2, 3)).mul_(scale)
    if first is not None:
        later = torch.ones(scores.shape[2:], dtype=torch.bool, device=scores.device).triu_(first + 1)
        scores.masked_fill_(later, -torch.inf)
    return scores


def _product(a: Tensor, b: Tensor) -> Tensor:
    """a [n, heads, rows, m] @ b [n, heads or 1, m, columns], b never expanded in memory."""
    if b.shape[1] == a.shape[1]:
        return a @ b
    n, heads, rows, m = a.shape
    return (a.reshape(n, 1, heads * rows, m) @ b).view(n, heads, rows, b.shape[3])


def _sum_over_queries(p: Tensor, x: Tensor, heads: int) -> Tensor:
    """p [n, heads, queries, keys] transposed @ x [n, heads, queries, size], summed over all heads where `heads` is 1."""
    if p.shape[1] == heads:
        return p.transpose(2, 3) @ x
    return p.flatten(1, 2).transpose(1, 2).unsqueeze(1) @ x.flatten(1, 2).unsqueeze(1)
