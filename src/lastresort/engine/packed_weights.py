"""Weights in the order in which a processor multiplies them, for products with few rows.

A decoding step multiplies all weights by one row of each text. The plain product brings the weights into that order each time,
which for few rows takes about as long as the product itself. Weights that do not change can be kept in it. They are also kept as
they are, for products of many rows and for all that reads them.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from lastresort.hardware.memory import free_memory_bytes

MOST_ROWS = 64  # with more, the plain product is as fast or faster
SMALLEST = 2**16  # numbers of a weight; a smaller one is read at once
SPARE = 2  # so many times the packed weights must be free: keys and values need memory, too
_PACKED_FOR = 8  # rows
_DTYPES = (torch.float32, torch.bfloat16)
_FAR = {torch.float32: 1e-5, torch.bfloat16: 1e-2}


class PackedLinear(nn.Linear):
    """A linear layer with the same weight and bias, whose weight is packed, too. Only for inference."""

    def __init__(self, layer: nn.Linear, packed: Tensor) -> None:
        nn.Module.__init__(self)
        self.in_features, self.out_features = layer.in_features, layer.out_features
        self.weight, self.bias, self._packed = layer.weight, layer.bias, packed
        self.training = layer.training

    def forward(self, given: Tensor) -> Tensor:
        few = least_rows() * self.in_features <= given.numel() <= MOST_ROWS * self.in_features
        if not few or given.requires_grad or given.dtype != self.weight.dtype:
            return functional.linear(given, self.weight, self.bias)
        return _product(given, self._packed, self.bias)


def least_rows() -> int:
    """One row is multiplied for as long as its weights are read: threads that wait for one another take longer than one alone,
    which is faster with packed weights."""
    return 1 if torch.get_num_threads() == 1 else 2


def pack_weights(models: Sequence[Any]) -> bool:
    """Pack the weights of these models on a processor, which may share them, and whose weights change no more.

    Nothing is done where memory is short or where this build of torch cannot. Returns whether any weight is packed.
    """
    layers = [found for model in models for found in _layers(model)]
    weights = {id(layer.weight): layer.weight for _, _, layer in layers}
    free = free_memory_bytes()
    if free is None or free < SPARE * sum(weight.nbytes for weight in weights.values()):
        return False
    packed = {key: _packed(weight) for key, weight in weights.items()}
    for parent, name, layer in layers:
        found = packed[id(layer.weight)]
        if found is not None:
            setattr(parent, name, PackedLinear(layer, found))
    return any(found is not None for found in packed.values())


def _layers(model: Any) -> Iterator[tuple[nn.Module, str, nn.Linear]]:
    """Each linear layer that can be packed, with the module that holds it under this name."""
    for parent in list(model.modules()):
        for name, layer in list(parent.named_children()):
            if type(layer) is nn.Linear and _can_be_packed(layer.weight):
                yield parent, name, layer


def _can_be_packed(weight: Tensor) -> bool:
    still = not weight.requires_grad and weight.dtype in _DTYPES and weight.numel() >= SMALLEST
    return still and weight.device.type == "cpu" and torch.backends.mkldnn.is_available()  # type: ignore[no-untyped-call]


def _packed(weight: Tensor) -> Tensor | None:
    """None where a product with it fails or comes out otherwise than the plain one: torch promises nothing of its inner parts."""
    given = torch.linspace(-1, 1, 2 * weight.shape[1], dtype=weight.dtype).reshape(2, -1)
    try:
        with torch.no_grad():
            packed: Tensor = torch.ops.mkldnn._reorder_linear_weight(weight.detach(), _PACKED_FOR)
            own, found = functional.linear(given, weight).float(), _product(given, packed, None).float()
    except (RuntimeError, TypeError, AttributeError, NotImplementedError):
        return None
    near = float((own - found).norm()) <= _FAR[weight.dtype] * float(own.norm())
    return packed if near else None


def _product(given: Tensor, packed: Tensor, bias: Tensor | None) -> Tensor:
    return torch.ops.mkldnn._linear_pointwise(given, packed, bias, "none", [], "")  # type: ignore[no-any-return]
