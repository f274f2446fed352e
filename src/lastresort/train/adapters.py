"""Attaching, saving and removing LoRA adapters, in PEFT's own format."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from lastresort.records.atomic import disk_errors
from lastresort.train.settings import ATTENTION, TrainSettings


def attach_lora(model: torch.nn.Module, settings: TrainSettings, *, base_name: str) -> Any:
    """A PEFT model around `model` with fresh adapters; the base is frozen. Seeded by settings.seed.

    base_name: what adapter_config.json will call the base.

    Models that name their attention layers otherwise (GPT-2, Phi) get PEFT's own default targets for their family.
    """
    from peft import LoraConfig, get_peft_model

    config = LoraConfig(
        r=settings.r,
        lora_alpha=settings.alpha,
        lora_dropout=0.0,
        target_modules=_targets(model, settings),
        task_type="CAUSAL_LM",
    )
    with torch.random.fork_rng():
        torch.manual_seed(settings.seed)
        tuned = get_peft_model(model, config)
    tuned.active_peft_config.base_model_name_or_path = base_name  # PEFT writes the folder it was loaded from
    return tuned


def trainable(model: torch.nn.Module) -> list[tuple[str, torch.nn.Parameter]]:
    return [(name, parameter) for name, parameter in model.named_parameters() if parameter.requires_grad]


def save_adapter(model: Any, folder: Path) -> None:
    """Write adapter_model.safetensors and adapter_config.json, as PEFT and every server that reads PEFT expects them.

    Raises InfrastructureError when the disk refuses.
    """
    with disk_errors(folder):
        model.save_pretrained(str(folder), safe_serialization=True, save_embedding_layers=False)


def detach(model: Any) -> Any:
    """The base model as it was before `attach_lora`."""
    return model.unload()


def _targets(model: torch.nn.Module, settings: TrainSettings) -> list[str] | str | None:
    if settings.target == "all-linear":
        return "all-linear"
    names = {name.rsplit(".", 1)[-1] for name, _ in model.named_modules()}
    found = [name for name in ATTENTION if name in names]
    if "q_proj" in found:
        return found + [name for name in ("out_proj", "dense") if name in names and "o_proj" not in found]
    return None
