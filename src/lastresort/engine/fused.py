"""Decoder layers of Llama's form, frozen, with LoRA or without, in few calls on CPU; each is one step of autograd.

Through PEFT and autograd a layer casts, scales and adds tensors as large as the output of every adapted linear layer. Here the
adapter's product is added by the product itself, the scale multiplies [tokens, rank], backward is written by hand, and less is
kept for it. Adapters are multiplied in the precision of the base, in answers as in training, where PEFT answers with float32
adapters in float32. Unsloth fuses the adapters of a block on GPUs in this way (its `fast_lora`); this is a whole layer.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from lastresort.engine.attention import Attends, forest_backward, forest_forward
from lastresort.engine.calls import Calls
from lastresort.engine.kernels import Kernel

# Whose forward is nothing but embedding, layers of `Layer`'s form and a norm, in transformers.
FORMS = {"LlamaModel", "MistralModel", "Qwen2Model"}
LINEARS = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")


@dataclass(frozen=True, slots=True)
class Adapted:
    """x -> W x + b + scale B A x. weight [outputs, inputs], frozen, as bias; a [rank, inputs] and b [outputs, rank] in any
    precision, None without an adapter."""

    weight: Tensor
    bias: Tensor | None
    a: Tensor | None = None
    b: Tensor | None = None
    scale: float = 1.0


@dataclass(frozen=True, slots=True)
class Norm:
    """Root mean square normalisation in float32, as transformers does it. weight: frozen."""

    weight: Tensor
    epsilon: float


@dataclass(frozen=True, slots=True)
class Layer:
    """linears: in the order of LINEARS. head_size: of queries and keys. scale: of the attention scores."""

    linears: tuple[Adapted, ...]
    norms: tuple[Norm, Norm]
    head_size: int
    scale: float

    @property
    def factors(self) -> list[Tensor | None]:
        """a and b of each linear layer."""
        return [factor for linear in self.linears for factor in (linear.a, linear.b)]


def fused_layers(trunk: Any) -> list[Layer] | None:
    """The layers of a trunk none of whose own weights is trained, None where one of them is not of this form.

    Dropout while training is not looked at: `why_plain` keeps such a model from the packed form.
    """
    if (
        type(trunk).__name__ not in FORMS
        or not type(trunk).__module__.startswith("transformers.models.")
        or trunk.device.type != "cpu"
        or trunk.config.hidden_act != "silu"
        or (trunk.training and trunk.gradient_checkpointing)
        or any(map(_touched, (trunk, trunk.embed_tokens, trunk.norm)))
        or any(p.requires_grad for module in (trunk.embed_tokens, trunk.norm) for p in module.parameters())
    ):
        return None
    layers = []
    for module in trunk.layers[: trunk.config.num_hidden_layers]:
        layer = _layer(module, type(trunk).__module__, trunk.dtype)
        if layer is None:
            return None
        layers.append(layer)
    return layers


def in_precision(layers: Sequence[Layer], precision: torch.dtype) -> list[Layer]:
    """The layers with their adapters in the precision of the weights."""
    return [replace(layer, linears=tuple(_in_precision(layer, layer.factors, precision))) for layer in layers]


def answered_hidden(trunk: Any, layers: Sequence[Layer], ids: Tensor, positions: Tensor, attends: Attends) -> Tensor:
    """As `trunk_hidden`, without gradients: nothing is kept of a layer. layers: as `in_precision` gives them."""
    hidden, angles = _embedded(trunk, ids, positions)
    for number, layer in enumerate(layers):
        hidden = _answered(hidden, ids.shape, angles, number, layer, attends)
    normalised: Tensor = trunk.norm(hidden.view(*ids.shape, -1))
    return normalised


def trained_hidden(
    trunk: Any, layers: Sequence[Layer], ids: Tensor, positions: Tensor, calls: Calls, kernel: Kernel
) -> Tensor:
    """As `trunk_hidden`, of one packed row, with gradients of the adapters."""
    hidden, angles = _embedded(trunk, ids, positions)
    for layer in layers:
        hidden = FusedLayer.apply(hidden, angles, layer, calls, kernel, *layer.factors)  # type: ignore[no-untyped-call]
    normalised: Tensor = trunk.norm(hidden.view(*ids.shape, -1))
    return normalised


def _embedded(trunk: Any, ids: Tensor, positions: Tensor) -> tuple[Tensor, tuple[Tensor, Tensor]]:
    """[rows * tokens, width], and the cosines and sines of half a head, each [rows * tokens, 1, size / 2]."""
    hidden = trunk.embed_tokens(ids)
    cos, sin = (x.flatten(0, 1)[:, None] for x in trunk.rotary_emb(hidden, position_ids=positions))
    half = cos.shape[-1] // 2
    return hidden.flatten(0, 1), (cos[..., :half], sin[..., :half])


def _answered(
    hidden: Tensor, shape: Sequence[int], angles: tuple[Tensor, Tensor], number: int, layer: Layer, attends: Attends
) -> Tensor:
    """Through one layer without gradients; nothing is kept. hidden [rows * tokens, width]; shape: rows and tokens."""

    def attend(query: Tensor, key: Tensor, value: Tensor) -> tuple[Tensor, None]:
        query, key, value = (x.view(*shape, *x.shape[1:]).transpose(1, 2) for x in (query, key, value))
        seen = attends.attend(number, query, key, value, layer.scale)
        return seen.transpose(1, 2).reshape(len(hidden), -1), None

    with torch.autocast(hidden.device.type, enabled=False):
        return _through(hidden, angles, layer, layer.linears, attend)[0]


class FusedLayer(torch.autograd.Function):
    """hidden [tokens, width] -> the same shape; gradients of hidden and of the factors of `Layer.factors`."""

    @staticmethod
    def forward(
        ctx: Any,
        hidden: Tensor,
        angles: tuple[Tensor, Tensor],
        layer: Layer,
        calls: Calls,
        kernel: Kernel,
        *factors: Tensor | None,
    ) -> Tensor:
        linears = _in_precision(layer, factors, hidden.dtype)

        def attend(query: Tensor, key: Tensor, value: Tensor) -> tuple[Tensor, Tensor]:
            heads = key.shape[1]
            query, key, value = (_grouped(x, heads) for x in (query, key, value))
            seen, lse = forest_forward(query, key, value, calls, layer.scale, kernel)
            return seen.permute(2, 0, 1, 3).flatten(1), lse

        with torch.autocast(hidden.device.type, enabled=False):
            out, kept, mids = _through(hidden, angles, layer, linears, attend)
        spread, x, *others, y, gated, raised, inner = kept
        q, k, v, _, gate, up, down = (linear.a is not None for linear in linears)
        ctx.save_for_backward(
            hidden,
            spread,
            x if q or k or v else None,  # of no use but to adapters
            *others,
            y if gate or up else None,
            gated,
            raised,
            inner if down else None,
            *mids,
            *(factor for linear in linears for factor in (linear.a, linear.b)),
        )
        ctx.angles, ctx.layer, ctx.calls, ctx.kernel = angles, layer, calls, kernel
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        saved = ctx.saved_tensors
        hidden, spread, x, query, key, value, seen, lse, middle, spread_2, y, gated, raised, inner = saved[:14]
        mids, layer = saved[14:21], ctx.layer
        q, k, v, o, gate, up, down = _in_precision(layer, saved[21:], hidden.dtype)
        (to_out,) = grads
        with torch.autocast(hidden.device.type, enabled=False):
            to_inner, *of_down = _backward(to_out, inner, down, mids[6])
            to_raised = nn.functional.silu(gated).mul_(to_inner)
            to_y, *of_up = _backward(to_raised, y, up, mids[5])
            del to_raised
            to_gated = torch.ops.aten.silu_backward(to_inner.mul_(raised), gated)
            del to_inner
            to_y, *of_gate = _backward(to_gated, y, gate, mids[4], to_y)
            del to_gated
            to_middle = _normalised_backward(to_y, middle, spread_2, layer.norms[1], to_out)
            to_seen, *of_o = _backward(to_middle, seen, o, mids[3])
            heads = key.shape[1]
            far = _grouped(_by_head(to_seen, layer), heads)
            attended = [_grouped(part, heads) for part in (query, key, value, _by_head(seen, layer))]
            to_query, to_key, to_value = (
                part.permute(2, 0, 1, 3).flatten(1, 2)
                for part in forest_backward(far, (*attended, lse), ctx.calls, layer.scale, ctx.kernel)
            )
            cos, sin = ctx.angles
            to_query, to_key = (rotated(part, cos, -sin) for part in (to_query, to_key))
            to_query, to_key, to_value = (part.flatten(1).to(hidden.dtype) for part in (to_query, to_key, to_value))
            to_x, *of_q = _backward(to_query, x, q, mids[0])
            to_x, *of_k = _backward(to_key, x, k, mids[1], to_x)
            to_x, *of_v = _backward(to_value, x, v, mids[2], to_x)
            to_hidden = None
            if ctx.needs_input_grad[0]:
                to_hidden = _normalised_backward(to_x, hidden, spread, layer.norms[0], to_middle)
        # autograd casts each to its input's precision
        return to_hidden, None, None, None, None, *of_q, *of_k, *of_v, *of_o, *of_gate, *of_up, *of_down


def _through(
    hidden: Tensor,
    angles: tuple[Tensor, Tensor],
    layer: Layer,
    linears: Sequence[Adapted],
    attend: Callable[[Tensor, Tensor, Tensor], tuple[Tensor, Tensor | None]],
) -> tuple[Tensor, tuple[Tensor | None, ...], tuple[Tensor | None, ...]]:
    """What comes out, what backward needs of the way, and `_forward`'s second of each linear layer.

    attend: query, key, value [tokens, heads, size] -> [tokens, heads * size], and its log-sum-exp where backward will want it.
    """
    q, k, v, o, gate, up, down = linears
    x, spread = _normalised(hidden, layer.norms[0])
    query, mid_q = _forward(x, q)
    key, mid_k = _forward(x, k)
    value, mid_v = _forward(x, v)
    query, key = (rotated(_by_head(part, layer), *angles) for part in (query, key))
    value = _by_head(value, layer)
    seen, lse = attend(query, key, value)
    middle, mid_o = _forward(seen, o)
    middle += hidden  # last: each sum rounds to the precision of what is largest in it
    y, spread_2 = _normalised(middle, layer.norms[1])
    gated, mid_gate = _forward(y, gate)
    raised, mid_up = _forward(y, up)
    inner = nn.functional.silu(gated).mul_(raised)
    out, mid_down = _forward(inner, down)
    out += middle
    kept = (spread, x, query, key, value, seen, lse, middle, spread_2, y, gated, raised, inner)
    return out, kept, (mid_q, mid_k, mid_v, mid_o, mid_gate, mid_up, mid_down)


def rotated(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Rotary position embedding; with -sin its gradient. x [tokens, heads, size]; cos, sin [tokens, 1, size / 2]."""
    half = x.shape[-1] // 2
    first, second = x[..., :half], x[..., half:]
    out = torch.empty_like(x)
    torch.mul(first, cos, out=out[..., :half]).addcmul_(second, sin, value=-1)
    torch.mul(second, cos, out=out[..., half:]).addcmul_(first, sin)
    return out


def _forward(x: Tensor, linear: Adapted) -> tuple[Tensor, Tensor | None]:
    """linear(x), and scale A x, [tokens, rank], for backward."""
    weight = linear.weight.t()
    out = torch.mm(x, weight) if linear.bias is None else torch.addmm(linear.bias, x, weight)
    if linear.a is None or linear.b is None:
        return out, None
    mid = torch.mm(x, linear.a.t()).mul_(linear.scale)
    return out.addmm_(mid, linear.b.t()), mid


def _backward(
    grad: Tensor, x: Tensor | None, linear: Adapted, mid: Tensor | None, to_x: Tensor | None = None
) -> tuple[Tensor, Tensor | None, Tensor | None]:
    """Gradients of x, added to to_x where given, of a and of b."""
    to_x = torch.mm(grad, linear.weight) if to_x is None else to_x.addmm_(grad, linear.weight)
    if linear.a is None or linear.b is None or mid is None or x is None:
        return to_x, None, None
    to_mid = torch.mm(grad, linear.b).mul_(linear.scale)
    return to_x.addmm_(to_mid, linear.a), torch.mm(to_mid.t(), x), torch.mm(grad.t(), mid)


def _normalised(x: Tensor, norm: Norm) -> tuple[Tensor, Tensor]:
    """And the factor [tokens, 1] that makes the root mean square of each token one."""
    wide = x.to(torch.float32)
    spread = wide.square().mean(-1, keepdim=True).add_(norm.epsilon).rsqrt_()
    return norm.weight * (wide * spread).to(x.dtype), spread


def _normalised_backward(grad: Tensor, x: Tensor, spread: Tensor, norm: Norm, residual: Tensor) -> Tensor:
    """residual + the gradient of x, in residual's precision."""
    unit = x.to(torch.float32) * spread
    to_unit = (grad * norm.weight).to(torch.float32)
    along = torch.linalg.vecdot(to_unit, unit).div_(x.shape[-1])[:, None]
    return residual + to_unit.addcmul_(unit, along, value=-1).mul_(spread).to(residual.dtype)


def _by_head(x: Tensor, layer: Layer) -> Tensor:
    """[tokens, heads * size] -> [tokens, heads, size]"""
    return x.view(len(x), -1, layer.head_size)


def _grouped(x: Tensor, key_heads: int) -> Tensor:
    """[tokens, heads, size] -> [key heads, heads / key heads, tokens, size]"""
    return x.view(len(x), key_heads, -1, x.shape[-1]).permute(1, 2, 0, 3)


def _in_precision(layer: Layer, factors: Sequence[Tensor | None], precision: torch.dtype) -> list[Adapted]:
    """The linear layers with these factors in the precision of the weights."""
    cast = [None if factor is None else factor.to(precision) for factor in factors]
    return [
        Adapted(linear.weight, linear.bias, a, b, linear.scale)
        for linear, a, b in zip(layer.linears, cast[::2], cast[1::2], strict=True)
    ]


def _layer(module: Any, family: str, precision: torch.dtype) -> Layer | None:
    """family: the module of transformers from which everything has to be that is not a linear layer."""
    if type(module).__module__ != family:
        return None
    attention, inner, norms = module.self_attn, module.mlp, (module.input_layernorm, module.post_attention_layernorm)
    parts = (attention, inner, *norms)
    if (
        any(type(part).__module__ != family for part in parts)
        or any(map(_touched, (module, inner.act_fn, *parts)))
        or type(inner.act_fn).__name__ not in ("SiLUActivation", "SiLU")
        or not attention.is_causal
        or any(norm.weight.requires_grad or norm.weight.dtype != precision for norm in norms)
    ):
        return None
    found = [_adapted(getattr(attention if name[0] in "qkvo" else inner, name), precision) for name in LINEARS]
    linears = tuple(linear for linear in found if linear is not None)
    if len(linears) < len(found):
        return None
    first, second = (Norm(norm.weight, norm.variance_epsilon) for norm in norms)
    return Layer(linears, (first, second), attention.head_dim, attention.scaling)


def _adapted(module: Any, precision: torch.dtype) -> Adapted | None:
    """A frozen linear layer, with PEFT's LoRA or without; None for what computes anything else."""
    base: Any = module
    a, b, scale = None, None, 1.0
    if hasattr(module, "lora_A"):
        from peft.tuners.lora.layer import Linear

        if any((type(module) is not Linear, _touched(module), module.merged, module.fan_in_fan_out)):
            return None
        base = module.base_layer
        active = [] if module.disable_adapters else [name for name in module.active_adapters if name in module.lora_A]
        if len(active) > 1 or any(name in module.lora_variant for name in active):
            return None
        for name in active:
            down, up = module.lora_A[name], module.lora_B[name]
            if not (_is_linear(down) and _is_linear(up)) or module.lora_bias[name]:
                return None
            a, b, scale = down.weight, up.weight, module.scaling[name]
    if not _is_linear(base) or any(p.requires_grad or p.dtype != precision for p in base.parameters()):
        return None
    return Adapted(base.weight, base.bias, a, b, scale)


def _is_linear(module: Any) -> bool:
    return type(module) is nn.Linear and type(module.weight) is nn.Parameter and not _touched(module)


def _touched(module: nn.Module) -> bool:
    """Whether someone else computes something beside or in place of its forward."""
    hooks = (module._forward_hooks, module._forward_pre_hooks, module._backward_hooks, module._backward_pre_hooks)
    return "forward" in vars(module) or any(hooks)
