"""What a base model's folder says of its layers and weights, without loading them."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import torch

from lastresort.embedded import quiet_transformers
from lastresort.errors import DataError


def linear_shapes(source: Path) -> dict[str, tuple[int, int]]:
    """Path -> (inputs, outputs) of the linear layers that a merge may change: not the output layer if it is the embedding."""
    from transformers import AutoConfig, AutoModelForCausalLM
    from transformers.pytorch_utils import Conv1D

    stored = json.loads((source / "config.json").read_text(encoding="utf-8"))
    if "quantization_config" in stored:
        raise DataError(
            "the weights of this base are stored quantised",
            where=str(source),
            expected="its ordinary weights",
            remedy="Name the model that it was quantised from.",
        )
    with quiet_transformers(), torch.device("meta"):
        model = AutoModelForCausalLM.from_config(AutoConfig.from_pretrained(source, local_files_only=True))
    tied = model.get_output_embeddings() if getattr(model.config, "tie_word_embeddings", False) else None
    shapes = {}
    for name, module in model.named_modules():
        if isinstance(module, Conv1D):
            shapes[name] = (module.weight.shape[0], module.weight.shape[1])
        elif isinstance(module, torch.nn.Linear) and module is not tied:
            shapes[name] = (module.in_features, module.out_features)
    return shapes


def layer_names(source: Path, target: str) -> list[str]:
    """Of the layers that get adapters, as `targets.target_names` finds them; no weight is read."""
    from transformers import AutoConfig, AutoModelForCausalLM

    from lastresort.train.targets import target_names

    with quiet_transformers(), torch.device("meta"):
        model = AutoModelForCausalLM.from_config(AutoConfig.from_pretrained(source, local_files_only=True))
    return target_names(model, target)


def stored_dtype(source: Path) -> str:
    """The dtype of most of the weights: float64, float32, float16 or bfloat16."""
    from safetensors import safe_open

    sizes: Counter[str] = Counter()
    for path in source.glob("*.safetensors"):
        with safe_open(str(path), framework="pt") as file:
            for key in file.keys():  # noqa: SIM118  safe_open is no mapping
                part = file.get_slice(key)
                sizes[part.get_dtype()] += int(torch.Size(part.get_shape()).numel())
    names = {"F64": "float64", "F32": "float32", "F16": "float16"}
    return names.get(sizes.most_common(1)[0][0], "bfloat16")
