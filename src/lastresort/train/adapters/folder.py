"""An adapter's folder, read and compared with a base before any weights are loaded.

What a base model's folder says of its layers and weights, without loading them.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lastresort.errors import DataError
from lastresort.libraries import loading, stored_weights
from lastresort.model_heads import ADAPTER_CONFIG, model_config
from lastresort.models.adapter_settings import ADAPTER_WEIGHTS, adapter_settings


def linear_shapes(source: Path) -> dict[str, tuple[int, int]]:
    """Path -> (inputs, outputs) of the linear layers that a merge may change: not the output layer if it is the embedding."""
    from torch.nn import Linear
    from transformers.pytorch_utils import Conv1D

    if "quantization_config" in model_config(source / "config.json"):
        raise DataError(
            "the weights of this base are stored quantised",
            where=str(source),
            expected="its ordinary weights",
            remedy="Name the model that it was quantised from.",
        )
    model = _without_weights(source)
    tied = model.get_output_embeddings() if getattr(model.config, "tie_word_embeddings", False) else None
    shapes = {}
    for name, module in model.named_modules():
        if isinstance(module, Conv1D):
            shapes[name] = (module.weight.shape[0], module.weight.shape[1])
        elif isinstance(module, Linear) and module is not tied:
            shapes[name] = (module.in_features, module.out_features)
    return shapes


def layer_names(source: Path, target: str) -> list[str]:
    """Of the layers that get adapters, as `targets.target_names` finds them; no weight is read."""
    from lastresort.train.adapters.adapters import target_names

    return target_names(_without_weights(source), target)


def _without_weights(source: Path) -> Any:
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    with loading(source, "a causal language model"), torch.device("meta"):
        config = AutoConfig.from_pretrained(source, local_files_only=True, trust_remote_code=False)
        return AutoModelForCausalLM.from_config(config, trust_remote_code=False)


def stored_dtype(source: Path) -> str:
    """The dtype of most of the weights: float64, float32, float16 or bfloat16. Raises DataError where there is none."""
    sizes: Counter[str] = Counter()
    for path in source.glob("*.safetensors"):
        for weight in stored_weights(path).values():
            sizes[weight.dtype] += math.prod(weight.shape)
    if not sizes:
        raise DataError(
            "its files hold no weight", where=str(source), expected="a whole model", remedy="Save it again."
        )
    names = {"F64": "float64", "F32": "float32", "F16": "float16"}
    return names.get(sizes.most_common(1)[0][0], "bfloat16")


CONFIG, WEIGHTS = ADAPTER_CONFIG, ADAPTER_WEIGHTS
_KEY = re.compile(r"base_model\.model\.(?P<layer>.+)\.(?P<part>lora_A|lora_B|lora_magnitude_vector)(\.weight)?")
_PLAIN = {"bias": "none", "modules_to_save": None, "lora_bias": False, "layer_replication": None}


@dataclass(frozen=True, slots=True)
class AdapterFolder:
    """An adapter as its files describe it.

    base_name: what its configuration calls its base. layers: path in the base -> (inputs, rank, outputs).
    """

    folder: Path
    base_name: str
    layers: Mapping[str, tuple[int, int, int]]


def read_adapter(folder: Path) -> AdapterFolder:
    """Read configuration and shapes. Raises DataError for what is no whole LoRA adapter, or holds more than low-rank layers."""
    config = _config(folder)
    parts = _parts(folder)
    layers = {}
    for layer, shapes in parts.items():
        if {"lora_A", "lora_B"} - shapes.keys() or any(
            len(shape) != 2 for shape in (shapes["lora_A"], shapes["lora_B"])
        ):
            raise _refused(folder, f"layer {layer} lacks one of its two factors", "lora_A and lora_B for each layer")
        (rank, inputs), (outputs, _) = shapes["lora_A"], shapes["lora_B"]
        layers[layer] = (inputs, rank, outputs)
    return AdapterFolder(folder, str(config.get("base_model_name_or_path") or ""), layers)


def check_fits(adapter: AdapterFolder, base: str, shapes: Mapping[str, tuple[int, int]]) -> None:
    """Raise DataError where a layer of the adapter is not in the base, or has another shape there.

    base: the name to speak of. shapes: path -> (inputs, outputs) of the base's linear layers.
    """
    expected = f"an adapter of {base}"
    if adapter.base_name and adapter.base_name != base:
        expected += f", while this one was trained on {adapter.base_name}"
    for layer, (inputs, _, outputs) in adapter.layers.items():
        if layer not in shapes:
            raise _refused(adapter.folder, f"{layer} is no linear layer of the base that can be merged", expected)
        if shapes[layer] != (inputs, outputs):
            sizes = f"{layer} has {inputs} inputs and {outputs} outputs, but {shapes[layer][0]} and {shapes[layer][1]}"
            raise _refused(adapter.folder, f"{sizes} in the base", expected)


def _config(folder: Path) -> Mapping[str, Any]:
    path = folder / CONFIG
    if not folder.is_dir():
        fault = "this is a file" if folder.exists() else "there is no such folder"
        raise DataError(fault, where=str(folder), expected="an adapter's folder", remedy="Correct the path.")
    if not path.is_file():
        fault = "this is a whole model" if (folder / "config.json").is_file() else f"no {CONFIG} in this folder"
        inner = next((one for one in ("adapter", "winner/adapter") if (folder / one / CONFIG).is_file()), None)
        remedy = "Name its folder." if inner is None else f"Name {folder / inner}."
        raise DataError(fault, where=str(folder), expected="an adapter as PEFT saves it", remedy=remedy)
    config = adapter_settings(folder)
    if config.get("peft_type") != "LORA":
        fault = f"found {str(config.get('peft_type'))[:80]}"
        raise DataError(fault, where=f"{path}, peft_type", expected="LORA, which can be merged")
    for key, plain in _PLAIN.items():
        if config.get(key, plain) not in (plain, None, []):
            raise DataError(
                f"found {str(config[key])[:80]}",
                where=f'{path}, key "{key}"',
                expected="an adapter of low-rank layers alone",
                remedy="Merge it with PEFT's merge_and_unload.",
            )
    return config


def weight_shapes(folder: Path) -> dict[str, tuple[int, ...]]:
    """Name -> shape of each of an adapter's weights, from their header, whose length must agree with the file's.

    Raises DataError where there are none as safetensors, or the file is cut short.
    """
    path = folder / WEIGHTS
    if not path.is_file():
        raise DataError(
            f"no {WEIGHTS} in this folder",
            where=str(folder),
            expected="weights as safetensors",
            remedy="Save the adapter again with save_pretrained; pickled weights are not read.",
        )
    return {key: weight.shape for key, weight in stored_weights(path).items()}


def _parts(folder: Path) -> dict[str, dict[str, tuple[int, ...]]]:
    """Layer -> part -> shape."""
    parts: dict[str, dict[str, tuple[int, ...]]] = {}
    for key, shape in weight_shapes(folder).items():
        match = _KEY.fullmatch(key)
        if match is None:
            raise _refused(folder, f"found {key}", "low-rank factors of linear layers alone")
        parts.setdefault(match["layer"], {})[match["part"]] = shape
    if not parts:
        raise _refused(folder, "it holds no layer", "at least one")
    return parts


def _refused(folder: Path, found: str, expected: str) -> DataError:
    return DataError(found, where=str(folder), expected=expected, remedy="Name another adapter or another base.")
