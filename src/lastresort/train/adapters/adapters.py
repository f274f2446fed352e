"""Adapters in PEFT's format: which layers get one, attaching, saving, removing and scaling them; or training all weights."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from lastresort.errors import CandidateError, ContractError, DataError
from lastresort.libraries import quiet_checkpointing
from lastresort.models.adapter_settings import adapter_settings
from lastresort.models.quantized import import_bitsandbytes, quantized_base_of, write_quantized_base
from lastresort.records.atomic import disk_errors, refuse_links_out, replace_folder, settle_folder, write_atomically
from lastresort.records.training import AdaptedLayers
from lastresort.train.adapters.folder import CONFIG
from lastresort.train.settings import AdapterSettings

# PEFT refuses an adapter there, since Mamba's kernels take that layer's weights and would pass over its adapter.
WITHOUT_OUT_PROJ = {"falcon_h1", "falcon_mamba", "mamba", "mamba2", "nemotron_h"}
FEW = 0.5
"""Below this share of layers, adapters leave most of a model as it is."""


def adapted(model: torch.nn.Module) -> AdaptedLayers | None:
    """How far the adapters of a PEFT model reach, None where it has none."""
    layers, all_layers = adapted_layers([name for name, _ in model.named_modules(remove_duplicate=False)])
    trained = sum(parameter.numel() for parameter in model.parameters() if parameter.requires_grad)
    return AdaptedLayers(layers=layers, all_layers=all_layers, parameters=trained) if all_layers else None


def coverage(reach: AdaptedLayers) -> str:
    return f"adapters in {reach.layers} of {reach.all_layers} layers, {reach.parameters:,} parameters"


def coverage_warning(reach: AdaptedLayers, key: str, target: str | Sequence[str] | None) -> str | None:
    """What to set where adapters reach less than half of the layers. key: as a reader writes the target, which is None where an
    adapter is trained further.
    """
    if reach.layers >= FEW * reach.all_layers:
        return None
    remedy = f"Set {key} to all-linear."
    if target is None:
        remedy = "Start from the base, or from an adapter that reaches more of them."
    elif target == "all-linear":
        remedy = "The others hold no linear layer: train all weights where that is not enough."
    elif target != "attention":
        remedy = f"Name layers of the others in {key} too, or set it to all-linear."
    return (
        f"the adapters reach only {reach.layers} of {reach.all_layers} layers, and the others learn nothing. {remedy}"
    )


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
    return len(with_adapter), sum(len(modules) for modules in layers.values() if modules & with_adapter)


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
    leaves = {name for name, module in model.named_modules() if name and not list(module.children())}
    others = leaves - set(chosen)
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


def _listed(linear: list[str]) -> str:
    return ", ".join(dict.fromkeys(path.rsplit(".", 1)[-1] for path in linear))


def attach_adapter(model: Any, settings: AdapterSettings, *, base_name: str, seed: int = 0) -> Any:
    """A PEFT model around `model` with fresh adapters, the base frozen; for kind "none" the model, all its weights trainable.

    base_name: what adapter_config.json will call the base. A fresh adapter changes no answer. Norms and embeddings stay in
    the base's precision. Raises DataError for targets that do not exist, ContractError for a base quantised otherwise than
    the settings say.
    """
    loaded = "nf4" if quantized_base_of(model) is not None else None
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
    with torch.random.fork_rng(range(torch.cuda.device_count())), quiet_checkpointing():
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
    if not is_adapter(model) or not in_16_bits(model):
        yield
        return
    dtype = next(model.parameters()).dtype
    # torch 2.6 takes weights that it rounded under no_grad for a pass that needs their gradient.
    with torch.autocast(model.device.type, dtype=dtype, cache_enabled=False), inputs_in_base_precision(model):
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


@contextmanager
def rescaled(model: Any, scale: float) -> Iterator[None]:
    """The adapters' update is multiplied by `scale` inside, as `scale_adapter` does in a copy."""
    if scale == 1:
        yield
        return
    from peft.helpers import rescale_adapter_scale

    with rescale_adapter_scale(model, scale):
        yield


def save_adapter(model: Any, folder: Path) -> None:
    """Write adapter_model.safetensors and adapter_config.json, as PEFT and every server that reads PEFT expects them.

    Raises InfrastructureError when the disk refuses.
    """
    with disk_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
        write_quantized_base(
            model.get_base_model(), folder
        )  # before adapter_config.json, by which a finished adapter is known
        model.save_pretrained(str(folder), safe_serialization=True, save_embedding_layers=False)
    (folder / "README.md").unlink(missing_ok=True)  # PEFT's empty form of a model card, with the path of the base here
    _sort_targets(folder / "adapter_config.json")


def _sort_targets(path: Path) -> None:
    """PEFT writes a set, in another order in every process: the same adapter would have another hash."""
    config = json.loads(path.read_text(encoding="utf-8"))
    if isinstance(config.get("target_modules"), list):
        config["target_modules"] = sorted(config["target_modules"])
        write_atomically(path, json.dumps(config, indent=2))


def save_trained(model: Any, tokenizer: Any, folder: Path, weights: Mapping[str, torch.Tensor] | None = None) -> None:
    """What was trained: the adapter, or, where all weights were, a whole model with its tokenizer, in place of `folder`.

    weights: of a whole model, None for those that it has. It is on the disk when this returns. Raises InfrastructureError when the
    disk refuses.
    """
    fresh = folder.with_name(f".{folder.name}.new")
    with disk_errors(folder):
        settle_folder(folder)
        shutil.rmtree(fresh, ignore_errors=True)
        if is_adapter(model):
            save_adapter(model, fresh)
        else:
            _save_whole(model, fresh, weights)
            tokenizer.save_pretrained(str(fresh))
    replace_folder(fresh, folder)


def _save_whole(model: Any, folder: Path, weights: Mapping[str, torch.Tensor] | None) -> None:
    """Older transformers save no model whose own generation settings they would warn of: a temperature without do_sample."""
    from transformers import GenerationConfig

    own, model.generation_config = model.generation_config, GenerationConfig()
    try:
        model.save_pretrained(str(folder), state_dict=weights)
    finally:
        model.generation_config = own
    own.to_json_file(str(folder / "generation_config.json"))


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


# What PEFT can train with or instead of the low-rank update, where alpha has no effect; with the values that leave it out.
_PLAIN: dict[str, tuple[Any, ...]] = {
    "use_dora": (False,),
    "modules_to_save": ([],),
    "bias": ("none",),
    "trainable_token_indices": ([], {}),
}


def scale_adapter(adapter: Path, scale: float, folder: Path) -> None:
    """Write a copy of the adapter into `folder`, with its low-rank update multiplied by `scale`; its weights are the same.

    PEFT multiplies the update of a layer by lora_alpha / r, or by lora_alpha / sqrt(r), so that the scale goes into every alpha.
    0 is the base, 1 the adapter as it is. Raises CandidateError where the strength of an adapter is not in its alpha alone.
    """
    config = dict(adapter_settings(adapter))
    if config.get("peft_type") != "LORA" or any(config.get(key) not in (None, *plain) for key, plain in _PLAIN.items()):
        raise CandidateError("only the strength of a plain LoRA adapter is a number", where=str(adapter / CONFIG))
    config["lora_alpha"] = _times(config["lora_alpha"], scale)
    config["alpha_pattern"] = {
        name: _times(value, scale) for name, value in (config.get("alpha_pattern") or {}).items()
    }
    fresh = folder.with_name(f".{folder.name}.new")
    with disk_errors(folder):
        shutil.rmtree(fresh, ignore_errors=True)
        refuse_links_out(adapter)
        shutil.copytree(adapter, fresh)
    write_atomically(fresh / CONFIG, json.dumps(config, indent=2))
    replace_folder(fresh, folder)


def scale_weights(base: Any, trained: Any, scale: float) -> None:
    """Move all weights of `trained` to base + scale * (trained - base), in place. Both: the same architecture, in float32."""
    import torch

    before = dict(base.named_parameters())
    with torch.no_grad():
        for name, weight in trained.named_parameters():
            weight.copy_(torch.lerp(before[name], weight, scale))


def _times(alpha: float, scale: float) -> float:
    """A whole number stays one, as other programs expect it."""
    scaled = alpha * scale
    return int(scaled) if float(scaled).is_integer() else scaled
