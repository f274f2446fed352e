"""A forest in one kernel, through torch's FlexAttention: query i sees key j if j <= i and i lies before the end of the
descendants of j's node.

The kernel is made by torch.compile and Triton, which takes up to a minute the first time, and again for other lengths, and
it computes whole blocks of 128 queries by 128 keys, however short a node is. So it is no first choice: where it is wanted,
`support.use_kernel(model, "flex")` asks for it. Its gradients exist on GPUs alone.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import Any

import torch
from torch import Tensor

from lastresort.engine.attention import KeysValues
from lastresort.engine.calls import Nodes
from lastresort.engine.kernels import Kernel, Products, merge

BLOCK = 128


@dataclass(frozen=True, slots=True)
class ByMask:
    """compiled: False computes all scores, as a reference for the mask."""

    compiled: bool = True

    @property
    def name(self) -> str:
        return "flex"

    @property
    def pieces(self) -> Kernel:
        return Products()

    def plan(self, nodes: Nodes, device: torch.device) -> Any:
        return block_mask(nodes, device)

    def attend(
        self, query: Tensor, key: Tensor, value: Tensor, plan: Any, prefix: KeysValues | None, scale: float
    ) -> Tensor:
        function = _attention(self.compiled)
        asked = {"block_mask": plan, "scale": scale, "enable_gqa": query.shape[1] != key.shape[1]}
        if prefix is None:
            return function(query, key, value, **asked)  # type: ignore[no-any-return]
        out, lse = _with_lse(function, query, key, value, asked)
        key_heads, group = key.shape[1], query.shape[1] // key.shape[1]
        far_key, far_value = (x[0, :, None] for x in prefix)
        grouped = query.view(key_heads, group, *query.shape[2:])
        far, far_lse = self.pieces.forward(grouped, far_key, far_value, False, scale)
        merge(out, lse, far.flatten(0, 1)[None], far_lse.flatten(0, 1)[None])
        return out


def last_of_tokens(nodes: Nodes) -> list[int]:
    """For each packed token the end of the descendants of its node."""
    return [last for start, end, last in nodes for _ in range(start, end)]


def block_mask(nodes: Nodes, device: torch.device) -> Any:
    """torch's BlockMask of a forest, from its nodes: its [tokens, tokens] is never formed."""
    from torch.nn.attention.flex_attention import BlockMask

    last = torch.tensor(last_of_tokens(nodes), dtype=torch.int32)
    seen, whole = blocks(last)
    last = last.to(device)

    def visible(batch: Tensor, head: Tensor, query: Tensor, key: Tensor) -> Tensor:
        return (key <= query) & (query < last[key])

    partly, wholly = (_indices(x, device) for x in (seen & ~whole, whole))
    return BlockMask.from_kv_blocks(
        *partly, *wholly, BLOCK_SIZE=BLOCK, mask_mod=visible, seq_lengths=(len(last), len(last))
    )


def blocks(last: Tensor) -> tuple[Tensor, Tensor]:
    """Which blocks of queries (lines) see a key of a block (columns), and which see all keys of it with all queries; bool."""
    tokens = len(last)
    count = -(-tokens // BLOCK)
    first = torch.arange(count) * BLOCK
    ends = (first + BLOCK).clamp(max=tokens)
    # Beyond the text: 0 for the latest end in a block, so that it makes no block seen.
    latest = torch.nn.functional.pad(last, (0, count * BLOCK - tokens)).view(count, BLOCK).amax(1)
    soonest = torch.nn.functional.pad(last, (0, count * BLOCK - tokens), value=tokens).view(count, BLOCK).amin(1)
    before = first[:, None] > first[None]
    seen = (before & (latest[None] > first[:, None])) | torch.eye(count, dtype=torch.bool)
    return seen, before & (soonest[None] >= ends[:, None])


def _indices(visible: Tensor, device: torch.device) -> tuple[Tensor, Tensor]:
    """How many blocks of keys each block of queries has, and which, these first; int32 [1, 1, blocks (, blocks)]."""
    order = visible.int().argsort(dim=1, descending=True, stable=True).int()
    return visible.sum(1, dtype=torch.int32)[None, None].to(device), order[None, None].to(device)


def _with_lse(function: Any, query: Tensor, key: Tensor, value: Tensor, asked: dict[str, Any]) -> tuple[Tensor, Tensor]:
    try:
        from torch.nn.attention.flex_attention import AuxRequest
    except ImportError:  # torch before 2.9
        return function(query, key, value, return_lse=True, **asked)  # type: ignore[no-any-return]
    out, more = function(query, key, value, return_aux=AuxRequest(lse=True), **asked)
    return out, more.lse


@cache
def _attention(compiled: bool) -> Any:
    from torch.nn.attention.flex_attention import flex_attention

    return torch.compile(flex_attention) if compiled else flex_attention
