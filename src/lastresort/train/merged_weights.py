"""The weights of a merged model: the formula, and its way through a whole model to the disk."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from lastresort.embedded import quiet_transformers
from lastresort.models.loading import load_local
from lastresort.models.precision import DTYPES
from lastresort.models.quantized import through_nf4
from lastresort.records.atomic import disk_errors
from lastresort.train.adapter_folder import AdapterFolder

SHARD = "5GB"


def merged_weight(
    weight: Tensor, a: Tensor, b: Tensor, *, scaling: float, magnitude: Tensor | None = None, scale: float = 1.0
) -> Tensor:
    """W' of `train.merge.merge_adapter`, computed in float32 or wider, in the weight's own dtype.

    weight [outputs, inputs], a [r, inputs], b [outputs, r], magnitude [outputs] for DoRA. scaling: alpha/r or alpha/sqrt(r).
    Source: Hu et al. 2021, section 4.1; Liu et al. 2024, eq. 5. Oracle: PEFT's merge_and_unload at scale 1.
    """
    wide = torch.promote_types(weight.dtype, torch.float32)
    plain, change = weight.to(wide), scaling * (b.to(wide) @ a.to(wide))
    if magnitude is not None:
        direction = plain + change
        change = (magnitude.to(wide) / direction.norm(dim=1))[:, None] * direction - plain
    return (plain + scale * change).to(weight.dtype)


def write_merged(
    source: Path,
    adapter: AdapterFolder,
    fresh: Path,
    *,
    load_as: str,
    written: str,
    scale: float,
    in_4_bits: frozenset[str],
) -> None:
    """The merged model into `fresh`, one layer after the other, so that only one is held twice.

    load_as: the base's precision before anything is added. written: the dtype of the file. in_4_bits: layers whose weights are
    taken through NF4 first. Raises InfrastructureError when the disk refuses.
    """
    from transformers import GenerationConfig

    loaded = load_local(source, precision=load_as, adapter=adapter.folder, quantize="no")
    with torch.no_grad():
        for name, layer in adapted_layers(loaded.model):
            _merge_layer(layer, scale, name in in_4_bits)
        model = loaded.model.unload()
        for name in in_4_bits - adapter.layers.keys():
            module = model.get_submodule(name)
            through = through_nf4(_outputs_first(module, module.weight.data))
            module.weight.data = _outputs_first(module, through).contiguous()
    model = model.to(DTYPES[written])
    generation = source / "generation_config.json"
    if generation.is_file():
        model.generation_config = GenerationConfig()  # the base's own is copied as it is, whatever stands in it
    with disk_errors(fresh), quiet_transformers():
        shutil.rmtree(fresh, ignore_errors=True)
        fresh.mkdir(parents=True)
        model.save_pretrained(str(fresh), max_shard_size=SHARD)
        loaded.tokenizer.save_pretrained(str(fresh))
        if generation.is_file():
            shutil.copyfile(generation, fresh / generation.name)


def adapted_layers(model: Any) -> list[tuple[str, Any]]:
    """Path in the base and PEFT's layer, for each layer that has an adapter."""
    from peft.tuners.lora import LoraLayer

    return [
        (name.removeprefix("base_model.model."), module)
        for name, module in model.named_modules()
        if isinstance(module, LoraLayer)
    ]


def _merge_layer(layer: Any, scale: float, through_4_bits: bool) -> None:
    module, name = layer.get_base_layer(), layer.active_adapters[0]
    weight = _outputs_first(module, module.weight.data)
    merged = merged_weight(
        through_nf4(weight) if through_4_bits else weight,
        layer.lora_A[name].weight.data,
        layer.lora_B[name].weight.data,
        scaling=float(layer.scaling[name]),
        magnitude=layer.lora_magnitude_vector[name].weight.data if name in layer.lora_magnitude_vector else None,
        scale=scale,
    )
    module.weight.data = _outputs_first(module, merged).contiguous()


def _outputs_first(module: Any, weight: Tensor) -> Tensor:
    """[outputs, inputs] of a layer's weight, or back again: GPT-2's Conv1D keeps it the other way round."""
    from transformers.pytorch_utils import Conv1D

    return weight.T if isinstance(module, Conv1D) else weight
