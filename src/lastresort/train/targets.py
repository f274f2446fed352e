"""Which linear layers of a model get adapters, by the short names that PEFT matches at the end of a module's path; and how many
of the model's layers they reach."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import torch

from lastresort.errors import DataError

# PEFT refuses an adapter there, since Mamba's kernels take that layer's weights and would pass over its adapter.
WITHOUT_OUT_PROJ = {"falcon_h1", "falcon_mamba", "mamba", "mamba2", "nemotron_h"}
FEW = 0.5
"""Below this share of layers, adapters leave most of a model as it is."""


@dataclass(frozen=True, slots=True)
class Adapted:
    """layers: of the model that hold an adapter, of all_layers. parameters: that are trained."""

    layers: int
    all_layers: int
    parameters: int

    def sentence(self) -> str:
        return f"adapters in {self.layers} of {self.all_layers} layers, {self.parameters:,} parameters"

    def warning(self, key: str, target: str | Sequence[str] | None) -> str | None:
        """What to set where they reach less than half of the layers. key: as a reader writes the target, which is None where
        an adapter is trained further."""
        if self.layers >= FEW * self.all_layers:
            return None
        remedy = f"Set {key} to all-linear."
        if target is None:
            remedy = "Start from the base, or from an adapter that reaches more of them."
        elif target == "all-linear":
            remedy = "The others hold no linear layer: train all weights where that is not enough."
        elif target != "attention":
            remedy = f"Name layers of the others in {key} too, or set it to all-linear."
        return (
            f"the adapters reach only {self.layers} of {self.all_layers} layers, and the others learn nothing. {remedy}"
        )


def adapted(model: torch.nn.Module) -> Adapted | None:
    """How far the adapters of a PEFT model reach, None where it has none."""
    layers, all_layers = adapted_layers([name for name, _ in model.named_modules(remove_duplicate=False)])
    trained = sum(parameter.numel() for parameter in model.parameters() if parameter.requires_grad)
    return Adapted(layers, all_layers, trained) if all_layers else None


def adapted_facts(model: torch.nn.Module) -> dict[str, Any]:
    """The same for a record."""
    found = adapted(model)
    return {"adapted": None if found is None else asdict(found)}


def adapted_layers(modules: Iterable[str]) -> tuple[int, int]:
    """How many layers hold an adapter, and how many there are in the lists of those that do.

    modules: paths of all modules. A layer is an element of a list of modules: "model.layers.3". Lists without any adapter, such
    as an image tower's, do not count.
    """
    layers: dict[str, set[str]] = {}
    with_adapter: set[str] = set()
    for path in modules:
        parts = path.split(".")
        place = next((i for i, part in enumerate(parts) if part.isdigit()), None)
        if place is None:
            continue
        layer = ".".join(parts[: place + 1])
        layers.setdefault(".".join(parts[:place]), set()).add(layer)
        if "lora_A" in parts:
            with_adapter.add(layer)
    return len(with_adapter), sum(len(own) for own in layers.values() if own & with_adapter)


def target_names(model: torch.nn.Module, target: str | Sequence[str]) -> list[str]:
    """The shortest names that mean exactly the chosen layers: "q_proj", or "attn.c_proj" where GPT-2's MLP has a c_proj too.

    target: "attention", every linear layer inside an attention block; "all-linear", every linear layer but the output
    layer and what PEFT refuses; or names. Raises DataError for a name that is no linear layer here, saying which there are.
    """
    linear = linear_layers(model)
    if not isinstance(target, str):
        return _checked(tuple(target), linear)
    if _model_type(model) in WITHOUT_OUT_PROJ:
        linear = [path for path in linear if path.rsplit(".", 1)[-1] != "out_proj"]
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


def _model_type(model: Any) -> str:
    return str(model.config.model_type) if hasattr(model, "config") else ""


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
