"""Which kernels a device has for a precision, fastest first, and whether one computes here what it should.

On CPU the tests of this project have tried them. Elsewhere every kernel is tried on the machine itself before it is used:
a forest of nodes of many lengths, forward and backward, against matrix products in float32.

A forest in one kernel, through torch's FlexAttention: query i sees key j if j <= i and i lies before the end of the
descendants of j's node.

The kernel is made by torch.compile and Triton, which takes up to a minute the first time, and again for other lengths, and
it computes whole blocks of 128 queries by 128 keys, however short a node is. So it is no first choice: where it is wanted,
`support.use_kernel(model, "flex")` asks for it. Its gradients exist on GPUs alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import torch
from torch import Tensor

from lastresort.engine.attention import BY_NODE_ON_CPU, ByNode, ForestKernel, KeysValues, Nodes
from lastresort.engine.kernels import CudaEfficient, CudaFlash, Kernel, Products, merge
from lastresort.engine.levels import ByLevel
from lastresort.errors import ContractError
from lastresort.types import JsonObject

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


def _with_lse(function: Any, query: Tensor, key: Tensor, value: Tensor, asked: JsonObject) -> tuple[Tensor, Tensor]:
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


PRODUCTS = ByNode(Products())
_CUDA: tuple[ForestKernel, ...] = (ByLevel(), ByNode(CudaFlash()), ByNode(CudaEfficient()), PRODUCTS)
CANDIDATES: dict[tuple[str, torch.dtype], tuple[ForestKernel, ...]] = {
    ("cuda", torch.bfloat16): _CUDA,
    ("cuda", torch.float16): _CUDA,
    ("cuda", torch.float32): (ByNode(CudaEfficient()), PRODUCTS),
}
# Of the token that is worst. The kernels round what they multiply to 16 bits, the products they are compared with do not.
TRIAL_LIMITS = {torch.float64: 1e-9, torch.float32: 1e-3, torch.bfloat16: 5e-2, torch.float16: 1e-2}
# (start, end, end of the last descendant): long and short nodes, one token alone, levels with and without gaps.
TRIAL_FOREST = (
    (0, 70, 330),
    (70, 103, 240),
    (103, 104, 104),
    (104, 230, 240),
    (230, 240, 240),
    (240, 273, 273),
    (273, 300, 330),
    (300, 330, 330),
    (330, 340, 350),
    (340, 350, 350),
    (350, 351, 351),
)
TRIAL_PREFIX_TOKENS = 37


@dataclass(frozen=True, slots=True, order=True)
class HeadShape:
    """Of an attention layer's query and of its keys."""

    heads: int
    key_heads: int
    size: int


def candidates(device: torch.device, dtype: torch.dtype) -> tuple[ForestKernel, ...]:
    """Kernels to try, fastest first; the last one serves every shape."""
    return (BY_NODE_ON_CPU,) if device.type == "cpu" else CANDIDATES.get((device.type, dtype), (PRODUCTS,))


def kernel_named(name: str, device: torch.device) -> ForestKernel:
    """Raises ContractError for a name that the device has not."""
    kernels: tuple[ForestKernel, ...] = (PRODUCTS, ByMask())
    kernels += (BY_NODE_ON_CPU,) if device.type == "cpu" else _CUDA[:-1] if device.type == "cuda" else ()
    for kernel in kernels:
        if kernel.name == name:
            return kernel
    known = ", ".join(sorted(kernel.name for kernel in kernels))
    raise ContractError(
        f'no attention kernel "{name}" on {device.type}', where="use_kernel", expected=f"one of {known}"
    )


def trial(kernel: ForestKernel, shape: HeadShape, device: torch.device, dtype: torch.dtype) -> str | None:
    """Why the kernel is not to be used on heads of this shape, None if it computes there what it should."""
    tokens = TRIAL_FOREST[-1][2]
    draws = torch.Generator().manual_seed(0)

    def draw(heads: int, tokens: int) -> Tensor:
        """[1, heads, tokens, size] in the layout of a projection's output, [1, tokens, heads, size]."""
        return torch.randn(1, tokens, heads, shape.size, generator=draws).to(device, dtype).transpose(1, 2)

    query, grad = draw(shape.heads, tokens), draw(shape.heads, tokens)
    key, value = draw(shape.key_heads, tokens), draw(shape.key_heads, tokens)
    far_key, far_value = draw(shape.key_heads, TRIAL_PREFIX_TOKENS), draw(shape.key_heads, TRIAL_PREFIX_TOKENS)
    # Rotary angles leave the layout of what they turned; doubled, attention is uneven enough for a wrong weight to show.
    given = (2 * query.contiguous(), key.contiguous(), value, grad, far_key.contiguous(), far_value)
    try:
        found = _computed(kernel, given)
        expected = _computed(PRODUCTS, [x.to(torch.promote_types(dtype, torch.float32)) for x in given])
        for name, a, b in zip(_COMPUTED, found, expected, strict=True):
            apart = _apart(a.to(b.dtype), b)
            if not apart <= TRIAL_LIMITS[dtype]:
                return f"{kernel.name}: its {name} is off by {100 * apart:.2g}%"
    except Exception as error:  # noqa: BLE001 it is another library's, and may fail in any way
        return f"{kernel.name}: {type(error).__name__}: {str(error).strip()[:100]}"
    return None


_COMPUTED = ("output", *(f"gradient of the {name}" for name in ("query", "key", "value")), "output with a prefix")


def _computed(kernel: ForestKernel, given: Sequence[Tensor]) -> list[Tensor]:
    """The output, the gradients of query, key and value, and the output with a prefix.

    given: query, key, value, the output's gradient, keys and values of the prefix.
    """
    query, key, value = (x.detach().requires_grad_() for x in given[:3])
    grad, far_key, far_value = given[3:]
    scale = query.shape[-1] ** -0.5
    plan = kernel.plan(TRIAL_FOREST, query.device)
    with torch.enable_grad():
        out = kernel.attend(query, key, value, plan, None, scale)
        gradients = torch.autograd.grad(out, (query, key, value), grad)
    with torch.no_grad():
        return [out.detach(), *gradients, kernel.attend(query, key, value, plan, (far_key, far_value), scale)]


def _apart(a: Tensor, b: Tensor) -> float:
    """Largest difference of a token's head over its own size, or over what is usual where it is smaller; nan for any nan."""
    sizes = b.norm(dim=-1)
    return float(((a - b).norm(dim=-1) / sizes.clamp(min=float(sizes.square().mean().sqrt()))).max())
