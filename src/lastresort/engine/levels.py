"""A forest by its levels on CUDA: flash attention takes ranges of any lengths in one call, so that a forest needs one call
for all its nodes on themselves and one for each level of it, instead of two a node.

Batches have many small nodes (a prompt with sixteen answers has seventeen), whose kernel calls would take longer to start
than to run. It is the first choice there also before FlexAttention (flex.py): nothing is compiled, and no length of a batch
makes it compile again. Its gradients are summed in float32 over levels.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Any

import torch
from torch import Tensor

from lastresort.engine.attention import KeysValues, Nodes
from lastresort.engine.kernels import CudaFlash, Kernel, merge, no_random_state, rows_whole
from lastresort.errors import ContractError

Range = tuple[int, int]
Place = slice | Tensor


@dataclass(frozen=True, slots=True)
class Ranges:
    """Ranges of packed tokens. place: where their tokens are; ends: int32 [ranges + 1], where each ends among them, after a
    0; longest: length of the longest."""

    place: Place
    ends: Tensor
    longest: int


@dataclass(frozen=True, slots=True)
class Levels:
    """own: all nodes. above: for each level the descendants of its nodes, and these nodes, range by range."""

    own: Ranges
    above: tuple[tuple[Ranges, Ranges], ...]


@dataclass(frozen=True, slots=True)
class ByLevel:
    """A call a level, in 16 bits, and one more for an external prefix."""

    @property
    def name(self) -> str:
        return "levels"

    @property
    def pieces(self) -> Kernel:
        return CudaFlash()

    def plan(self, nodes: Nodes, device: torch.device) -> Levels:
        own = ranges_of([(start, end) for start, end, _ in nodes], device)
        above = tuple(
            (
                ranges_of([(end, last) for _, end, last in level], device),
                ranges_of([(start, end) for start, end, _ in level], device),
            )
            for level in parents_by_level(nodes)
        )
        return Levels(own, above)

    def attend(
        self, query: Tensor, key: Tensor, value: Tensor, plan: Levels, prefix: KeysValues | None, scale: float
    ) -> Tensor:
        rows = (x[0].transpose(0, 1) for x in (query, key, value))
        out: Tensor = LevelAttention.apply(*rows, plan, prefix, scale, self.pieces)  # type: ignore[no-untyped-call]
        return out.transpose(0, 1)[None]


def parents_by_level(nodes: Nodes) -> list[list[tuple[int, int, int]]]:
    """The nodes that have descendants, by their depth; those of one depth have nothing in common."""
    levels: list[list[tuple[int, int, int]]] = []
    open_ends: list[int] = []  # of the ancestors of the node at hand
    for start, end, last in nodes:
        while open_ends and open_ends[-1] <= start:
            open_ends.pop()
        if last > end:
            if len(open_ends) == len(levels):
                levels.append([])
            levels[len(open_ends)].append((start, end, last))
            open_ends.append(last)
    return levels


def ranges_of(ranges: Sequence[Range], device: torch.device) -> Ranges:
    """Of ascending ranges that do not overlap; those without a gap are a view."""
    first, last = ranges[0][0], ranges[-1][1]
    lengths = [end - start for start, end in ranges]
    place: Place = slice(first, last)
    if sum(lengths) < last - first:
        place = torch.cat([torch.arange(start, end) for start, end in ranges]).to(device)
    ends = torch.tensor([0, *accumulate(lengths)], dtype=torch.int32, device=device)
    # With single queries flash attention takes a way of its own, which lays the log-sum-exp out otherwise.
    return Ranges(place, ends, max(2, *lengths))


class LevelAttention(torch.autograd.Function):
    """query, out [tokens, heads, size]; key, value [tokens, key heads, size]."""

    @staticmethod
    def forward(
        ctx: Any,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        plan: Levels,
        prefix: KeysValues | None,
        scale: float,
        pieces: Kernel,
    ) -> Tensor:
        query, key, value = (rows_whole(x) for x in (query, key, value))
        out, lse = ranges_forward(query, key, value, plan.own, plan.own, True, scale)
        for below, above in plan.above:
            part, part_lse = ranges_forward(
                query[below.place], key[above.place], value[above.place], below, above, False, scale
            )
            into, into_lse = out[below.place], lse[:, below.place]
            merge(into.transpose(0, 1), into_lse, part.transpose(0, 1), part_lse)
            if isinstance(below.place, Tensor):
                out[below.place], lse[:, below.place] = into, into_lse
        if prefix is not None:
            far_key, far_value = prefix
            far, far_lse = pieces.forward(query.transpose(0, 1)[None], far_key, far_value, False, scale)
            merge(out.transpose(0, 1), lse, far[0], far_lse[0])
        elif any(ctx.needs_input_grad):
            ctx.save_for_backward(query, key, value, out, lse)
            ctx.plan, ctx.scale = plan, scale
        return out

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        saved = ctx.saved_tensors  # read once: under checkpointing a second reading is refused
        if not saved:
            raise ContractError("gradients through an external prefix", where="LevelAttention")
        query, key, value, out, lse = saved
        (grad,) = grads
        plan: Levels = ctx.plan

        def gradients(below: Ranges, above: Ranges, causal: bool) -> tuple[Tensor, Tensor, Tensor]:
            q, k = below.place, above.place
            return ranges_backward(
                grad[q], query[q], key[k], value[k], out[q], lse[:, q], below, above, causal, ctx.scale
            )

        sums = [x.to(lse.dtype) for x in gradients(plan.own, plan.own, True)]
        for below, above in plan.above:
            for total, gradient, ranges in zip(
                sums, gradients(below, above, False), (below, above, above), strict=True
            ):
                total[ranges.place] += gradient  # ranges of one level do not overlap
        return (*sums, None, None, None, None)  # autograd casts each to its input's precision


def ranges_forward(
    query: Tensor, key: Tensor, value: Tensor, queries: Ranges, keys: Ranges, causal: bool, scale: float
) -> tuple[Tensor, Tensor]:
    """Each range of queries on its range of keys: out like query [tokens, heads, size], lse [heads, tokens]."""
    out, lse, *_ = torch.ops.aten._flash_attention_forward(
        query,
        key,
        value,
        queries.ends,
        keys.ends,
        queries.longest,
        keys.longest,
        0.0,
        causal,
        False,
        scale=scale,
    )
    if lse.shape != (query.shape[1], query.shape[0]):
        raise ContractError(f"a log-sum-exp of shape {tuple(lse.shape)}", where="levels", expected="[heads, tokens]")
    return out, lse


def ranges_backward(
    grad: Tensor,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    out: Tensor,
    lse: Tensor,
    queries: Ranges,
    keys: Ranges,
    causal: bool,
    scale: float,
) -> tuple[Tensor, Tensor, Tensor]:
    """Of query, key and value, by the out and lse of a softmax that may be over more keys."""
    state = no_random_state(query)
    return torch.ops.aten._flash_attention_backward(  # type: ignore[no-any-return]
        grad,
        query,
        key,
        value,
        out,
        lse.contiguous(),
        queries.ends,
        keys.ends,
        queries.longest,
        keys.longest,
        0.0,
        causal,
        state,
        state,
        scale=scale,
    )
