"""A GPU that is not there, for whole commands: the pretended device of CUDA, with what torch says of a GPU and autocast on it.

Autocast is done as torch does it on CUDA, by the lists of ATen/autocast_mode.h: on a CPU it changes other functions. What is not
pretended: autocast inside functions of torch that call others, and of those that take the widest precision of what they are given;
the arithmetic of a GPU, its kernels' own rounding, several streams, and memory that runs out.
"""

from __future__ import annotations

import re
from contextlib import ExitStack, contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import ClassVar
from unittest.mock import patch

import torch
from torch.nn import functional
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_map_only

from lastresort.hardware import memory
from lastresort.models.quantized import import_bitsandbytes
from pretend_device import Far, pretend

CARD = SimpleNamespace(name="NVIDIA H100 80GB HBM3", total_memory=85_000_000_000, major=9, minor=0)
CUDA = {
    "is_available": True,
    "is_bf16_supported": True,
    "device_count": 1,
    "current_device": 0,
    "get_device_properties": CARD,
    "mem_get_info": (80_000_000_000, 85_000_000_000),
    "memory_reserved": 0,
    "memory_allocated": 0,
    "max_memory_allocated": 1_000_000,
    "empty_cache": None,
    "reset_peak_memory_stats": None,
    "synchronize": None,
}


LISTS = (Path(torch.__file__).parent / "include" / "ATen" / "autocast_mode.h").read_text(encoding="utf-8")


def _functions(of, operators=""):
    """Those of one of torch's own lists, which a program calls by any of these places."""
    [listed] = re.findall(rf"#define AT_FORALL_{of}\(_\)((?:.*\\\n)+.*)", LISTS)
    names = [name.removeprefix("linalg_") for name in re.findall(r"\b_\((?:ADD_NS\()?(\w+)", listed)]
    places = (torch, torch.Tensor, functional, torch.linalg)
    return {getattr(place, name) for name in (*names, *operators.split()) for place in places if hasattr(place, name)}


LOWER = _functions("LOWER_PRECISION_FP", "__matmul__ __rmatmul__")
WIDER = _functions("FP32", "__pow__ __rpow__") | _functions("DIFFERENT_REDISPATCH_SIGNATURE")
WIDER_UNLESS_ASKED = _functions("FP32_SET_OPT_DTYPE")


class Autocast:
    """Stands in for torch.autocast: as itself for other devices."""

    own = torch.autocast
    regions: ClassVar[list[torch.dtype | None]] = []  # those that are open, None for one that is disabled

    def __init__(self, device_type, dtype=None, enabled=True, cache_enabled=None):
        self.dtype = (dtype or torch.float16) if enabled else None
        self.on_gpu = device_type == "cuda"
        self.stack = ExitStack()
        if not self.on_gpu:
            self.stack.enter_context(Autocast.own(device_type, dtype, enabled, cache_enabled))

    def __enter__(self):
        if self.on_gpu:
            Autocast.regions.append(self.dtype)
            self.stack.callback(Autocast.regions.pop)
            self.stack.enter_context(_Casts())
        return self

    def __exit__(self, *error):
        self.stack.close()


def _open_region():
    return Autocast.regions[-1] if Autocast.regions else None


def _asked(own, of_gpu):
    """What torch says of autocast, on which checkpointing relies to compute a layer again as before."""
    return lambda *device: of_gpu() if device == ("cuda",) else own(*device)


class _Casts(TorchFunctionMode):
    def __torch_function__(self, func, types, args=(), kwargs=None):
        kwargs, dtype = kwargs or {}, _open_region()
        if dtype is not None and kwargs.get("out") is None:
            if func in LOWER:
                args, kwargs = tree_map_only(Far, _to(dtype), (args, kwargs))
            elif func in WIDER or (func in WIDER_UNLESS_ASKED and kwargs.get("dtype") is None):
                args, kwargs = tree_map_only(Far, _to(torch.float32), (args, kwargs))
        return func(*args, **kwargs)


def _to(dtype):
    return lambda x: x.to(dtype) if x.is_floating_point() and x.dtype != torch.float64 else x


@contextmanager
def _draws_kept(*_, **__):
    """torch.random.fork_rng without the state of a GPU."""
    state = torch.get_rng_state()
    try:
        yield
    finally:
        torch.set_rng_state(state)


def _moving(own):
    def to(module, *args, **kwargs):
        """Weights that share memory do so afterwards, as on a GPU: there their data is replaced, here they are."""
        own(module, *args, **kwargs)
        if hasattr(module, "tie_weights"):
            module.tie_weights()
        return module

    return to


def _saving(own):
    def save_pretrained(model, *args, **kwargs):
        """What is written is read by its storage, which is elsewhere here."""
        weights = kwargs.pop("state_dict", None) or model.state_dict()
        near = {name: (x.detach().near if isinstance(x, Far) else x).clone() for name, x in weights.items()}
        return own(model, *args, state_dict=near, **kwargs)

    return save_pretrained


@contextmanager
def pretend_gpu():
    """Within it, the program finds a GPU and computes on it."""
    from transformers import PreTrainedModel

    import_bitsandbytes()  # before torch says that there is a GPU: it looks for CUDA's functions then
    overwritten = torch.__future__.get_overwrite_module_params_on_conversion()
    torch.__future__.set_overwrite_module_params_on_conversion(True)
    with ExitStack() as patched:
        patched.callback(torch.__future__.set_overwrite_module_params_on_conversion, overwritten)
        device = patched.enter_context(pretend("cuda"))
        for owner, name, stand_in in (
            *((torch.cuda, name, lambda *_, found=found, **__: found) for name, found in CUDA.items()),
            (memory, "may_have_gpu", lambda: True),
            (torch, "autocast", Autocast),
            (torch, "is_autocast_enabled", _asked(torch.is_autocast_enabled, lambda: _open_region() is not None)),
            (torch, "get_autocast_dtype", _asked(torch.get_autocast_dtype, lambda: _open_region() or torch.float16)),
            (torch.amp, "autocast", Autocast),
            (torch.random, "fork_rng", _draws_kept),
            (torch.nn.Module, "to", _moving(torch.nn.Module.to)),
            (PreTrainedModel, "save_pretrained", _saving(PreTrainedModel.save_pretrained)),
        ):
            patched.enter_context(patch.object(owner, name, stand_in))
        yield device
