"""What every objective refuses: tensors of different layout and numbers outside their range."""

from __future__ import annotations

from torch import Tensor

from lastresort.errors import ContractError


def same_layout(where: str, **tensors: Tensor) -> None:
    """Raises ContractError unless all have one shape and one floating dtype, so that nothing broadcasts by accident."""
    first_name, first = next(iter(tensors.items()))
    if not first.is_floating_point():
        raise ContractError(f"{first_name} holds {first.dtype}", where=where, expected="log-probabilities as floats")
    for name, tensor in tensors.items():
        if tensor.shape != first.shape:
            found = f"{name} of shape {tuple(tensor.shape)} beside {first_name} of shape {tuple(first.shape)}"
            raise ContractError(found, where=where, expected="one shape for all")
        if tensor.dtype != first.dtype:
            found = f"{name} in {tensor.dtype} beside {first_name} in {first.dtype}"
            raise ContractError(found, where=where, expected="one precision for all")


def positive(where: str, **values: float) -> None:
    """Raises ContractError for the first value that is not above 0; not-a-number counts as such."""
    for name, value in values.items():
        if not value > 0:
            raise ContractError(f"{name} is {value}", where=where, expected="a number above 0")


def not_negative(where: str, **values: float) -> None:
    """Raises ContractError for the first value that is below 0; not-a-number counts as such."""
    for name, value in values.items():
        if not value >= 0:
            raise ContractError(f"{name} is {value}", where=where, expected="0 or a number above it")
