"""What differs between a model in transformers and the same model in a GGUF: keys, names, and the order of rotary rows."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from lastresort.errors import DataError

FAMILIES = {"llama": "llama", "qwen2": "qwen2", "qwen3": "qwen3"}  # transformers' model_type -> GGUF's architecture


def check_family(config: Any, where: str) -> str:
    """The architecture in GGUF's words. Raises DataError for a model that cannot be said there by this exporter."""
    family = config.model_type
    if family not in FAMILIES:
        raise _refused(f"a model of the family {family}", where, "Llama, Qwen2 or Qwen3")
    if config.hidden_act != "silu":
        raise _refused(f"the activation {config.hidden_act}", where, "silu")
    if set(getattr(config, "layer_types", None) or ["full_attention"]) != {"full_attention"}:
        raise _refused("layers with a sliding window", where, "full attention")
    kind = _rope(config)["rope_type"]
    if kind not in ("default", "linear", "llama3", "yarn"):
        raise _refused(f"rotary angles of the kind {kind}", where, "default, linear, llama3 or yarn")
    return FAMILIES[family]


def add_shape(writer: Any, config: Any) -> None:
    """The model's shape as metadata."""
    from gguf import RopeScalingType

    head, rope = head_size(config), _rope(config)
    writer.add_vocab_size(config.vocab_size)
    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(config.hidden_size)
    writer.add_block_count(config.num_hidden_layers)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(config.num_attention_heads)
    writer.add_head_count_kv(config.num_key_value_heads)
    writer.add_key_length(head)
    writer.add_value_length(head)
    writer.add_rope_dimension_count(head)
    writer.add_rope_freq_base(rope["rope_theta"])
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    if rope["rope_type"] in ("linear", "yarn"):
        writer.add_rope_scaling_type(RopeScalingType(rope["rope_type"]))
        writer.add_rope_scaling_factor(rope["factor"])
    if rope["rope_type"] == "yarn":
        original = rope.get("original_max_position_embeddings") or config.max_position_embeddings
        writer.add_rope_scaling_orig_ctx_len(original)


def rotary_factors(config: Any) -> Tensor | None:
    """What each rotary frequency is divided by in Llama 3.1 and later, shape [head size / 2]; None for other models.

    Frequencies that turn more than high_freq_factor times within the original context stay, those that turn less than
    low_freq_factor times are slowed by `factor`, and between them the slowing is interpolated.
    """
    rope = _rope(config)
    if rope["rope_type"] != "llama3":
        return None
    head = head_size(config)
    frequency: Tensor = rope["rope_theta"] ** -(torch.arange(0, head, 2, dtype=torch.float64) / head)
    turns: Tensor = rope["original_max_position_embeddings"] * frequency / (2 * math.pi)
    low, high = rope["low_freq_factor"], rope["high_freq_factor"]
    share = ((turns - low) / (high - low)).clamp(0, 1)
    factors: Tensor = 1 / ((1 - share) / rope["factor"] + share)
    return factors.float()


def in_gguf_order(name: str, weight: Tensor, config: Any) -> Tensor:
    """The rows of a Llama's q and k projections in llama.cpp's rotary order; everything else as it is.

    transformers turns row i of a head with row i + size/2, llama.cpp row 2i with row 2i + 1.
    """
    if config.model_type != "llama":
        return weight
    for part, heads in (("q_proj", config.num_attention_heads), ("k_proj", config.num_key_value_heads)):
        if name.endswith((f"{part}.weight", f"{part}.bias")):
            halves = weight.reshape(heads, 2, weight.shape[0] // heads // 2, *weight.shape[1:])
            return halves.transpose(1, 2).reshape(weight.shape)
    return weight


def head_size(config: Any) -> int:
    return int(getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads)


def _rope(config: Any) -> dict[str, Any]:
    return {"rope_type": "default", "rope_theta": 10000.0, **(config.rope_parameters or {})}


def _refused(found: str, where: str, expected: str) -> DataError:
    return DataError(
        found,
        where=where,
        expected=f"{expected} for a GGUF",
        remedy="Serve the merged folder, or convert it with llama.cpp.",
    )
