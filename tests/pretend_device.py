"""A device that is not there: tensors whose numbers lie on the CPU, and which refuse to be mixed with tensors that do.

What runs on it has put every tensor in the right place. The kernels that torch has on CUDA alone are stood in for by plain
softmax attention that makes their demands, and that reads memory as they do: by assumed strides where they assume them, so
that a tensor in another layout gives the wrong numbers that it would give there.
"""

from __future__ import annotations

import math
from contextlib import ExitStack, contextmanager
from unittest.mock import patch

import torch
from torch.overrides import _get_current_function_mode_stack
from torch.utils._device import DeviceContext, _device_constructors
from torch.utils._python_dispatch import return_and_correct_aliasing
from torch.utils._pytree import tree_map_only

aten = torch.ops.aten
MAY_MIX = {aten.copy_.default, aten.index.Tensor}  # from one device to another; an index may lie on the CPU
FACTORIES = (
    "tensor",
    "zeros",
    "ones",
    "empty",
    "full",
    "arange",
    "eye",
    "randn",
    "linspace",
    "zeros_like",
    "ones_like",
)


class Far(torch.Tensor):
    @staticmethod
    def __new__(cls, near, device):
        far = torch.Tensor._make_wrapper_subclass(
            cls,
            near.shape,
            strides=near.stride(),
            storage_offset=near.storage_offset(),
            dtype=near.dtype,
            device="meta",
        )
        far.near, far.place = near, device
        return far

    def __repr__(self):
        return f"Far({self.near!r}, {self.place})"

    @property
    def device(self):
        return self.place

    def tolist(self):
        return self.near.tolist()

    def cpu(self):
        return self.near.clone()

    @classmethod
    def __torch_dispatch__(cls, func, types, args=(), kwargs=None):
        kwargs = dict(kwargs or {})
        places = set()

        def note(x):
            places.add(x.place if isinstance(x, Far) else torch.device("cpu") if x.ndim else None)

        tree_map_only(torch.Tensor, note, (args, kwargs))
        places.discard(None)
        wanted = kwargs.get("device")
        if len(places) > 1 and func not in MAY_MIX:
            raise RuntimeError(f"Expected all tensors to be on the same device: {func} on {places}")
        place = next((p for p in places if p.type != "cpu"), torch.device("cpu"))
        if wanted is not None:
            kwargs["device"] = torch.device("cpu")
        if func is aten.where.self:
            args = tuple(map(_zero_of_a_derivative, args))
        near_args, near_kwargs = tree_map_only(Far, lambda x: x.near, (args, kwargs))
        # A plain `aten._to_copy` to the CPU is what `.cpu()` becomes; "meta" is what torch believes of these tensors.
        stays = wanted is None or torch.device(wanted).type != "cpu"
        out = STAND_INS.get(func, func)(*near_args, **near_kwargs)
        if not stays:
            return out
        if place.type == "mps":
            tree_map_only(torch.Tensor, _no_float64, out)
        out = tree_map_only(torch.Tensor, lambda x: Far(x, place), out)
        return return_and_correct_aliasing(func, args, kwargs, out)


def _zero_of_a_derivative(x):
    """Of clamp's, say: torch makes it where it believes the other tensors to be."""
    return torch.zeros_like(x, device="cpu") if x.device.type == "meta" and not x.ndim else x


def _no_float64(x):
    if x.dtype == torch.float64:
        raise TypeError("Cannot convert a MPS Tensor to float64 dtype as the MPS framework doesn't support float64")


def _device_around():
    """Of a `with torch.device(...)`, None without one."""
    around = reversed(_get_current_function_mode_stack())
    return next((mode.device for mode in around if isinstance(mode, DeviceContext)), None)


@contextmanager
def pretend(name):
    """Within it, torch has a device of this name: factories make tensors on it, and `.to` brings them there."""
    device = torch.device(name, 0)

    def named(x):
        return isinstance(x, (str, torch.device)) and str(x).split(":")[0] == name

    def creating(factory):
        def create(*args, **kwargs):
            if not named(kwargs.get("device") or _device_around()):
                return factory(*args, **kwargs)
            return Far(factory(*args, **{**kwargs, "device": "cpu"}), device)

        return create

    def to(x, *args, **kwargs):
        if not any(map(named, (*args, kwargs.get("device")))):
            return torch._C.TensorBase.to(x, *args, **kwargs)
        rest = [y for y in args if isinstance(y, (torch.dtype, torch.Tensor))]
        kwargs.pop("device", None)
        x = torch._C.TensorBase.to(x, *rest, **kwargs) if rest or kwargs else x
        return x if isinstance(x, Far) else Far(x.detach().clone(), device)  # writing to it changes nothing on the host

    def new_tensor(x, data, dtype=None, device=None, **others):
        if not isinstance(x, Far) or device is not None:
            return torch._C.TensorBase.new_tensor(x, data, dtype=dtype, device=device, **others)
        return Far(torch.tensor(data, dtype=x.dtype if dtype is None else dtype), x.place)

    # Else a first `with torch.device("meta")` would take note of the patched factories, and not know torch's own.
    _device_constructors()
    with ExitStack() as patched:
        for factory in FACTORIES:
            patched.enter_context(patch.object(torch, factory, creating(getattr(torch, factory))))
        patched.enter_context(patch.object(torch.Tensor, "to", to, create=True))
        patched.enter_context(patch.object(torch.Tensor, "new_tensor", new_tensor, create=True))
        patched.enter_context(patch.object(torch.nn.functional, "scaled_dot_product_attention", _plain_attention))
        yield device


def moved(model, device):
    """The model itself, its weights on the pretended device."""
    for module in model.modules():
        for name, p in list(module._parameters.items()):
            if p is not None:
                far = torch.nn.Parameter(Far(p.detach(), device), requires_grad=p.requires_grad)
                module._parameters[name] = far
        for name, b in list(module._buffers.items()):
            if b is not None:
                module._buffers[name] = Far(b, device)
    model.tie_weights()
    model.__dict__.pop("_lastresort_support", None)
    return model


def _plain_attention(query, key, value, attn_mask=None, dropout_p=0.0, is_causal=False, scale=None, enable_gqa=False):
    """torch's own makes its causal mask where these tensors are not."""
    group = query.shape[1] // key.shape[1]
    key, value = key.repeat_interleave(group, 1), value.repeat_interleave(group, 1)
    scores = query @ key.transpose(2, 3) * (query.shape[-1] ** -0.5 if scale is None else scale)
    if is_causal:
        later = torch.ones(scores.shape[2:], dtype=torch.bool, device=query.device).triu(1)
        scores = scores.masked_fill(later, -torch.inf)
    if attn_mask is not None:
        scores = scores.masked_fill(~attn_mask, -torch.inf) if attn_mask.dtype == torch.bool else scores + attn_mask
    return scores.softmax(-1) @ value


# Stand-ins of the kernels of CUDA.


def _attention(query, key, value, causal, scale):
    """Softmax attention in float64: out and natural log-sum-exp. query [..., heads, queries, size]."""
    key, value = (x.repeat_interleave(query.shape[-3] // x.shape[-3], -3).double() for x in (key, value))
    scores = query.double() @ key.transpose(-1, -2) * scale
    if causal:
        scores = scores.masked_fill(~torch.ones(scores.shape[-2:], dtype=torch.bool).tril(), -torch.inf)
    lse = scores.logsumexp(-1)
    return (scores - lse[..., None]).exp() @ value, lse, scores


def _gradients(grad, query, key, value, out, lse, causal, scale):
    heads, key_heads = query.shape[-3], key.shape[-3]
    _, _, scores = _attention(query, key, value, causal, scale)
    p = (scores - lse.double()[..., None]).exp()
    wide_key, wide_value = (x.repeat_interleave(heads // key_heads, -3).double() for x in (key, value))
    grad = grad.double()
    ds = p * (grad @ wide_value.transpose(-1, -2) - (grad * out.double()).sum(-1, keepdim=True)) * scale

    def of_key_heads(x):
        return x.unflatten(-3, (key_heads, heads // key_heads)).sum(-3)

    found = (
        ds @ wide_key,
        of_key_heads(ds.transpose(-1, -2) @ query.double()),
        of_key_heads(p.transpose(-1, -2) @ grad),
    )
    return tuple(x.to(query.dtype) for x in found)


def _demands(*tensors):
    assert len({x.dtype for x in tensors}) == 1, "one dtype"
    assert tensors[0].dtype in (torch.bfloat16, torch.float16), "FlashAttention only support fp16 and bf16 data type"
    assert tensors[0].shape[-1] % 8 == 0, "head_size must be a multiple of 8"
    assert tensors[0].shape[-1] <= 256, "head dimension at most 256"
    assert all(x.stride(-1) == 1 for x in tensors), "Input tensor must have contiguous last dimension"


def _by_pointer(x, shape):
    """As a kernel reads memory from where x begins, believing it contiguous."""
    strides = [math.prod(shape[i + 1 :]) for i in range(len(shape))]
    room = x.untyped_storage().nbytes() // x.element_size() - x.storage_offset()
    if math.prod(shape) > room:
        return torch.full(shape, torch.nan, dtype=x.dtype)
    return x.as_strided(shape, strides, x.storage_offset())


def _flash(query, key, value, dropout=0.0, causal=False, debug=False, *, scale):
    _demands(query, key, value)
    out, lse, _ = _attention(query, key, value, causal, scale)
    like = torch.empty_like(query)
    like.copy_(out)
    state = torch.zeros(2, dtype=torch.uint64)
    return like, lse.float(), None, None, query.shape[2], key.shape[2], state, state, query.new_empty(0)


def _flash_backward(
    grad, query, key, value, out, lse, ends_q, ends_k, longest_q, longest_k, dropout, causal, seed, offset, *, scale
):
    _demands(grad, query, key, value, out)
    assert ends_q is None
    return _gradients(grad, query, key, value, out, _by_pointer(lse, query.shape[:-1]), causal, scale)


def _efficient(query, key, value, bias, with_lse, dropout=0.0, causal=False, *, scale):
    assert bias is None
    assert query.shape[1] == key.shape[1] == value.shape[1]
    assert query.dtype != torch.float64
    out, lse, _ = _attention(query, key, value, causal, scale)
    queries = query.shape[2]
    padded = torch.full((*lse.shape[:2], -(-queries // 32) * 32), torch.inf)
    padded[:, :, :queries] = lse
    state = torch.zeros((), dtype=torch.int64)
    out = out.transpose(1, 2).contiguous().transpose(1, 2).to(query.dtype)
    return out, padded, state, state


def _efficient_backward(grad, query, key, value, bias, out, lse, seed, offset, dropout, wanted, causal=False, *, scale):
    assert bias is None
    assert wanted == [True, True, True, False]
    _, heads, queries, size = query.shape
    assert lse.shape[2] == -(-queries // 32) * 32
    assert lse.stride(2) == 1
    assert bool(lse[:, :, queries:].isposinf().all())
    # The stride over queries is assumed, the others are taken from the tensor.
    strides = (out.stride(0), out.stride(1), heads * size, 1)
    last = sum((n - 1) * s for n, s in zip(out.shape, strides, strict=True)) + out.storage_offset()
    fits = (last + 1) * out.element_size() <= out.untyped_storage().nbytes()
    read = out.as_strided(out.shape, strides, out.storage_offset()) if fits else torch.full_like(out, torch.nan)
    return (*_gradients(grad, query, key, value, read, lse[:, :, :queries], causal, scale), None)


def _ranges(ends_q, ends_k, longest_q, longest_k, query, key):
    for ends, longest, x in ((ends_q, longest_q, query), (ends_k, longest_k, key)):
        assert ends.dtype == torch.int32
        assert ends.is_contiguous()
        assert int(ends[0]) == 0
        assert int(ends[-1]) == len(x)
        assert int(ends.diff().min()) > 0
        assert int(ends.diff().max()) <= longest
    assert len(ends_q) == len(ends_k)
    assert longest_q > 1, "single queries have a layout of their own"
    pairs = zip(ends_q.tolist(), ends_q.tolist()[1:], ends_k.tolist(), ends_k.tolist()[1:], strict=False)
    return [(slice(a, b), slice(c, d)) for a, b, c, d in pairs]


def _varlen(query, key, value, ends_q, ends_k, longest_q, longest_k, dropout, causal, debug, *, scale):
    _demands(query, key, value)
    out, lse = torch.empty_like(query), torch.empty(query.shape[1], query.shape[0])
    for q, k in _ranges(ends_q, ends_k, longest_q, longest_k, query, key):
        own, own_lse, _ = _attention(*(x.transpose(0, 1) for x in (query[q], key[k], value[k])), causal, scale)
        out[q], lse[:, q] = own.transpose(0, 1).to(out.dtype), own_lse.float()
    state = torch.zeros(2, dtype=torch.uint64)
    return out, lse, state, state, query.new_empty(0)


def _varlen_backward(
    grad, query, key, value, out, lse, ends_q, ends_k, longest_q, longest_k, dropout, causal, seed, offset, *, scale
):
    _demands(grad, query, key, value, out)
    lse = _by_pointer(lse, (query.shape[1], query.shape[0]))
    found = tuple(torch.full_like(x, torch.nan) for x in (query, key, value))
    for q, k in _ranges(ends_q, ends_k, longest_q, longest_k, query, key):
        cut = (x.transpose(0, 1) for x in (grad[q], query[q], key[k], value[k], out[q]))
        gradients = _gradients(*cut, lse[:, q], causal, scale)
        for total, place, gradient in zip(found, (q, k, k), gradients, strict=True):
            total[place] = gradient.transpose(0, 1)
    return found


STAND_INS = {
    aten._scaled_dot_product_flash_attention.default: _flash,
    aten._scaled_dot_product_flash_attention_backward.default: _flash_backward,
    aten._scaled_dot_product_efficient_attention.default: _efficient,
    aten._scaled_dot_product_efficient_attention_backward.default: _efficient_backward,
    aten._flash_attention_forward.default: _varlen,
    aten._flash_attention_backward.default: _varlen_backward,
}
