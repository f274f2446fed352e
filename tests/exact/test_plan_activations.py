"""What a layer is planned to keep for its backward is what autograd keeps, in bytes, of the models that transformers builds."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from engine_support import saved_beside_weights
from lastresort.hardware.plan.memory import layer_bytes
from lastresort.hardware.plan.setup import Setup
from lastresort.hardware.shape import shape_of
from lastresort.train.adapters.adapters import adapters_in_base_precision, attach_adapter
from lastresort.train.settings import AdapterSettings

TOKENS = 192
SIZES = {
    "vocab_size": 300, "hidden_size": 256, "intermediate_size": 704, "num_attention_heads": 8, "num_key_value_heads": 2,
    "max_position_embeddings": 512, "pad_token_id": 0, "bos_token_id": None, "eos_token_id": None,
}  # fmt: skip
# Phi-3's query, key and value are views of one tensor, all of which stays; Gemma-2 repeats its keys for each head.
TOLERANCE = {"llama": 0.03, "qwen2": 0.03, "qwen3": 0.03, "phi3": 0.08, "gemma2": 0.1}


@pytest.mark.sampled(4)
@pytest.mark.parametrize("family", TOLERANCE)
@pytest.mark.parametrize(
    ("method", "target", "dtype"),
    [
        ("lora", "attention", torch.bfloat16),
        ("lora", "all-linear", torch.float32),
        ("full", "attention", torch.float32),
    ],
)
def test_a_layer_keeps_what_is_planned(family: str, method: Any, target: Any, dtype: torch.dtype) -> None:
    """Of two layers more, so that what the ends of the model keep is left out; adapters of r 4 keep almost nothing themselves."""
    found = (
        (_saved_bytes(family, 4, method, target, dtype) - _saved_bytes(family, 2, method, target, dtype)) / 2 / TOKENS
    )
    compute: Any = str(dtype).removeprefix("torch.")
    setup = Setup(method, target=target, row_tokens=TOKENS, compute=compute)
    planned = layer_bytes(shape_of({"model_type": family, **_sizes(family, 2)}, family), setup)
    assert planned == pytest.approx(found, rel=TOLERANCE[family])


def _sizes(family: str, layers: int) -> dict[str, Any]:
    wide = {"head_dim": 64} if family in ("qwen3", "gemma2") else {}
    return {**SIZES, **wide, "num_hidden_layers": layers}


def _saved_bytes(family: str, layers: int, method: str, target: Any, dtype: torch.dtype) -> int:
    """Of the storages that a forward of TOKENS saves, those of weights left out."""
    from transformers import AutoConfig, AutoModelForCausalLM

    config = AutoConfig.for_model(family, **_sizes(family, layers))
    config._attn_implementation = "eager" if family == "gemma2" else "sdpa"
    settings = AdapterSettings(kind="none") if method == "full" else AdapterSettings(r=4, alpha=8, target=target)
    model = attach_adapter(AutoModelForCausalLM.from_config(config, dtype=dtype), settings, base_name="tiny")
    trunk = model.model if method == "full" else model.get_base_model().model
    with adapters_in_base_precision(model), saved_beside_weights(model) as saved:
        states = trunk(torch.arange(TOKENS)[None] % 290 + 3).last_hidden_state
    assert states.requires_grad
    return sum(saved.values())
