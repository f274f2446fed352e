"""The adapter of a training as other frameworks are told of it: rank, scale and layers by name."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from lastresort.errors import DataError
from lastresort.neighbours.exporting.job import Base, Beside
from lastresort.neighbours.started import says_its_base
from lastresort.train.adapter_folder import CONFIG
from lastresort.train.training_file import AdapterChoice, TrainingFile

# In Llama, Mistral, Qwen, Gemma and SmolLM models.
USUAL_ATTENTION = ("q_proj", "k_proj", "v_proj", "o_proj")


def adapter_of(file: TrainingFile, layers: tuple[str, ...], base: Base) -> tuple[Beside | None, tuple[str, ...]]:
    """The adapter, None where all weights are trained; with sentences on what had to be assumed.

    layers: names that are known from the trained adapter, () otherwise. Raises DataError for an adapter to start from that is
    none of PEFT's.
    """
    if file.start_from is not None:
        return _started(file.start_from), ()
    plan = file.adapter
    if plan.kind == "full":
        return None, ()
    named, notes = _layers(plan.target, layers, base)
    return Beside(plan.kind, plan.r, plan.alpha, plan.dropout, named), notes


def _layers(
    target: str | tuple[str, ...], known: tuple[str, ...], base: Base
) -> tuple[tuple[str, ...] | str, tuple[str, ...]]:
    if not isinstance(target, str):
        return target, ()
    if target == "all-linear":
        return target, ()
    if known:
        return known, ()
    if base.here is not None:
        from lastresort.train.base_folder import layer_names

        return tuple(layer_names(base.here, target)), ()
    listed = ", ".join(USUAL_ATTENTION)
    return USUAL_ATTENTION, (
        f"target: attention is written as {listed}, which is what Llama, Mistral, Qwen and Gemma call these layers; the base is "
        "not on this machine, where its own names could be looked up.",
    )


def layers_in(adapter: Path) -> tuple[str, ...]:
    """Short names of the layers of a saved adapter, () where its configuration cannot be read."""
    try:
        found = json.loads((adapter / CONFIG).read_text(encoding="utf-8"))["target_modules"]
    except (OSError, ValueError, KeyError, TypeError):
        return ()
    return tuple(sorted(found)) if isinstance(found, list) else ()


def _started(folder: Path) -> Beside:
    try:
        found: dict[str, Any] = json.loads((folder / CONFIG).read_text(encoding="utf-8"))
        kind: AdapterChoice = "dora" if found.get("use_dora") else "rslora" if found.get("use_rslora") else "lora"
        kind = "qlora" if says_its_base(folder) else kind  # its own files say the rest
        modules = found["target_modules"]
        layers = modules if isinstance(modules, str) else tuple(sorted(modules))
        return Beside(kind, int(found["r"]), float(found["lora_alpha"]), float(found["lora_dropout"]), layers)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DataError(
            "the adapter to start from cannot be read",
            where=str(folder / CONFIG),
            expected="an adapter as PEFT saves it",
        ) from error
