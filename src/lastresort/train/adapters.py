"""Attaching, saving and removing adapters, in PEFT's own format; or training the base's own weights."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from lastresort.embedded import quiet_checkpointing
from lastresort.errors import ContractError
from lastresort.models.quantized import import_bitsandbytes, note_of, write_note
from lastresort.records.atomic import disk_errors, replace_folder, settle_folder, write_atomically
from lastresort.train.settings import AdapterSettings
from lastresort.train.targets import target_names


def attach_adapter(model: Any, settings: AdapterSettings, *, base_name: str, seed: int = 0) -> Any:
    """A PEFT model around `model` with fresh adapters, the base frozen; for kind "none" the model, all its weights trainable.

    base_name: what adapter_config.json will call the base. A fresh adapter changes no answer. Norms and embeddings stay in
    the base's precision. Raises DataError for targets that do not exist, ContractError for a base quantised otherwise than
    the settings say.
    """
    loaded = "nf4" if note_of(model) is not None else None
    if loaded != settings.quantize:
        raise ContractError(f"a base loaded as {loaded}", where="attach_adapter", expected=f"{settings.quantize}")
    if settings.kind == "none":
        return model.requires_grad_(True)
    import_bitsandbytes()
    from peft import LoraConfig, get_peft_model

    config = LoraConfig(
        r=settings.r,
        lora_alpha=settings.alpha,
        lora_dropout=settings.dropout,
        use_rslora=settings.kind == "rslora",
        use_dora=settings.kind == "dora",
        target_modules=target_names(model, settings.target),
        fan_in_fan_out=_stores_inputs_first(model),
        task_type="CAUSAL_LM",
    )
    with torch.random.fork_rng(), quiet_checkpointing():
        torch.manual_seed(seed)
        tuned = get_peft_model(model, config)
    tuned.active_peft_config.base_model_name_or_path = base_name  # PEFT writes the folder it was loaded from
    return tuned


def trainable(model: torch.nn.Module) -> list[tuple[str, torch.nn.Parameter]]:
    return [(name, parameter) for name, parameter in model.named_parameters() if parameter.requires_grad]


def ranks_of(model: torch.nn.Module) -> dict[str, int]:
    """Of the adapters that are trained, by the path of their layer; empty where all weights are."""
    down = ".lora_A."
    return {name.split(down)[0]: weight.shape[0] for name, weight in trainable(model) if down in name}


def in_16_bits(model: Any) -> bool:
    """Whether the base's weights are bf16 or fp16, whatever its adapters are in."""
    return next(model.parameters()).dtype in (torch.bfloat16, torch.float16)


@contextmanager
def adapters_in_base_precision(model: Any) -> Iterator[None]:
    """Multiply with adapters in the precision of a 16-bit base, as mixed precision does; their weights stay float32.

    PEFT would turn the input of every adapted layer into float32, which costs a fifth of a training step on CPU.
    """
    dtype = next(model.parameters()).dtype
    if not is_adapter(model) or dtype not in (torch.bfloat16, torch.float16):
        yield
        return
    with torch.autocast(model.device.type, dtype=dtype), inputs_in_base_precision(model):
        yield


@contextmanager
def inputs_in_base_precision(model: Any) -> Iterator[None]:
    """Adapters take the inputs of a 16-bit base as they are. To be held around a backward too, in which checkpointed layers are
    computed again: torch restores the precision of their products then, but not what PEFT does with their inputs.
    """
    if not is_adapter(model) or not in_16_bits(model):
        yield
        return
    from peft.helpers import disable_input_dtype_casting

    with disable_input_dtype_casting(model):
        yield


@contextmanager
def as_base(model: Any) -> Iterator[None]:
    """An adapter's model is its base inside; another model stays what it is. What is trained is the same afterwards."""
    if not is_adapter(model):
        yield
        return
    trained = {parameter: parameter.requires_grad for parameter in model.parameters()}
    try:
        with model.disable_adapter():
            yield
    finally:
        for parameter, wanted in trained.items():
            parameter.requires_grad_(wanted)


def save_adapter(model: Any, folder: Path) -> None:
    """Write adapter_model.safetensors and adapter_config.json, as PEFT and every server that reads PEFT expects them.

    Raises InfrastructureError when the disk refuses.
    """
    with disk_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
        write_note(model.get_base_model(), folder)  # before adapter_config.json, by which a finished adapter is known
        model.save_pretrained(str(folder), safe_serialization=True, save_embedding_layers=False)
    (folder / "README.md").unlink(missing_ok=True)  # PEFT's empty form of a model card, with the path of the base here
    _sort_targets(folder / "adapter_config.json")


def _sort_targets(path: Path) -> None:
    """PEFT writes a set, in another order in every process: the same adapter would have another hash."""
    config = json.loads(path.read_text(encoding="utf-8"))
    if isinstance(config.get("target_modules"), list):
        config["target_modules"] = sorted(config["target_modules"])
        write_atomically(path, json.dumps(config, indent=2))


def save_trained(model: Any, tokenizer: Any, folder: Path) -> None:
    """What was trained: the adapter, or, where all weights were, a whole model with its tokenizer, in place of `folder`.

    It is on the disk when this returns. Raises InfrastructureError when the disk refuses.
    """
    fresh = folder.with_name(f".{folder.name}.new")
    with disk_errors(folder):
        settle_folder(folder)
        shutil.rmtree(fresh, ignore_errors=True)
        if is_adapter(model):
            save_adapter(model, fresh)
        else:
            model.save_pretrained(str(fresh))
            tokenizer.save_pretrained(str(fresh))
    replace_folder(fresh, folder)


def is_adapter(model: Any) -> bool:
    import_bitsandbytes()  # PEFT imports it too, with a warning
    from peft import PeftModel

    return isinstance(model, PeftModel)


def unfreeze_adapter(model: Any, base_name: str) -> Any:
    """A loaded adapter, to be trained further; the base stays frozen. base_name: what its configuration will call the base."""
    model.set_requires_grad(model.active_adapters, True)
    model.active_peft_config.base_model_name_or_path = base_name
    return model


def detach(model: Any) -> Any:
    """The base model as it was before `attach_adapter`. Raises ContractError where its own weights were trained."""
    if not is_adapter(model):
        raise ContractError("a model without an adapter", where="detach", expected="the base to be loaded again")
    return model.unload()


def _stores_inputs_first(model: torch.nn.Module) -> bool:
    """Whether the layers are GPT-2's Conv1D, whose weight is [inputs, outputs]."""
    from transformers.pytorch_utils import Conv1D

    return any(isinstance(module, Conv1D) for module in model.modules())
