"""What a base model's folder says of its layers and weights, without loading them."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import torch

from lastresort.embedded import own_code_refused, quiet_transformers
from lastresort.errors import DataError


def linear_shapes(source: Path) -> dict[str, tuple[int, int]]:
    """Path -> (inputs, outputs) of the linear layers that a merge may change: not the output layer if it is the embedding."""
    from transformers.pytorch_utils import Conv1D

    stored = json.loads((source / "config.json").read_text(encoding="utf-8"))
    if "quantization_config" in stored:
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
        elif isinstance(module, torch.nn.Linear) and module is not tied:
            shapes[name] = (module.in_features, module.out_features)
    return shapes


def layer_names(source: Path, target: str) -> list[str]:
    """Of the layers that get adapters, as `targets.target_names` finds them; no weight is read."""
    from lastresort.train.targets import target_names

    return target_names(_without_weights(source), target)


def _without_weights(source: Path) -> Any:
    from transformers import AutoConfig, AutoModelForCausalLM

    with quiet_transformers(), own_code_refused(source), torch.device("meta"):
        config = AutoConfig.from_pretrained(source, local_files_only=True, trust_remote_code=False)
        return AutoModelForCausalLM.from_config(config, trust_remote_code=False)


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
