"""Which linear layers of a model get adapters, by the short names that PEFT matches at the end of a module's path."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import torch

from lastresort.errors import DataError


def target_names(model: torch.nn.Module, target: str | Sequence[str]) -> list[str]:
    """The shortest names that mean exactly the chosen layers: "q_proj", or "attn.c_proj" where GPT-2's MLP has a c_proj too.

    target: "attention", every linear layer inside an attention block; "all-linear", every linear layer but the output
    layer; or names. Raises DataError for a name that is no linear layer here, saying which there are.
    """
    linear = linear_layers(model)
    if not isinstance(target, str):
        return _checked(tuple(target), linear)
    chosen = [path for path in linear if target == "all-linear" or in_attention(path)]
    if not chosen:
        raise DataError(
            "no linear layer lies in a block whose name speaks of attention",
            where="target",
            expected=f"some of {_listed(linear)}",
            remedy="Name the layers.",
        )
    others = _paths(model) - set(chosen)
    names = (_shortest(path, others) for path in chosen)
    return list(dict.fromkeys(names))


def linear_layers(model: torch.nn.Module) -> list[str]:
    """Paths of all linear layers, quantised or not, in the model's order, without the output layer."""
    from transformers.pytorch_utils import Conv1D

    root: Any = model
    head = root.get_output_embeddings() if hasattr(root, "get_output_embeddings") else None
    kinds = (torch.nn.Linear, Conv1D)
    return [name for name, module in model.named_modules() if isinstance(module, kinds) and module is not head]


def _checked(names: tuple[str, ...], linear: list[str]) -> list[str]:
    for name in names:
        if not any(_matches(name, path) for path in linear):
            raise DataError(
                f'"{name}" names no linear layer that can get an adapter',
                where="target",
                expected=f"some of {_listed(linear)}",
                remedy="Correct the name, or use attention or all-linear.",
            )
    if not names:
        raise DataError("no layer is named", where="target", expected=f"some of {_listed(linear)}")
    return list(dict.fromkeys(names))


def _matches(name: str, path: str) -> bool:
    return path == name or path.endswith(f".{name}")


def in_attention(path: str) -> bool:
    return any("attn" in part or "attention" in part for part in path.split(".")[:-1])


def _shortest(path: str, others: Iterable[str]) -> str:
    """The shortest end of `path` that is the end of none of the others."""
    parts = path.split(".")
    for length in range(1, len(parts)):
        name = ".".join(parts[-length:])
        if not any(_matches(name, other) for other in others):
            return name
    return path


def _paths(model: torch.nn.Module) -> set[str]:
    return {name for name, module in model.named_modules() if name and not list(module.children())}


def _listed(linear: list[str]) -> str:
    return ", ".join(dict.fromkeys(path.rsplit(".", 1)[-1] for path in linear))
