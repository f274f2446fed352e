"""The configuration and the size of a model from its config.json or the head of its GGUF; no weight is read."""

from __future__ import annotations

import math
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

from lastresort.errors import DataError, InputError
from lastresort.hardware.shape import ModelShape, shape_of
from lastresort.model_heads import GgufHead, gguf_head
from lastresort.types import JsonObject

_KINDS = {"gemma3": "gemma3_text", "qwen2moe": "qwen2_moe", "qwen3moe": "qwen3_moe"}
_KEYS = {
    "hidden_size": "embedding_length",
    "num_hidden_layers": "block_count",
    "num_attention_heads": "attention.head_count",
    "num_key_value_heads": "attention.head_count_kv",
    "head_dim": "attention.key_length",
    "intermediate_size": "feed_forward_length",
    "moe_intermediate_size": "expert_feed_forward_length",
    "num_experts": "expert_count",
    "num_experts_per_tok": "expert_used_count",
    "max_position_embeddings": "context_length",
}
_EMBEDDING, _OUTPUT = "token_embd.weight", "output.weight"


def config_of_gguf(path: Path) -> JsonObject:
    """Sizes under their usual names. Raises DataError for a damaged file, or one of no language model."""
    head = _head(path)
    architecture = str(head.fields.get("general.architecture"))
    embedding = head.shapes.get(_EMBEDDING, ())
    if len(embedding) != 2:
        raise DataError(
            f"no GGUF of a language model (no {_EMBEDDING})",
            where=str(path),
            remedy="Download it again, or name another.",
        )
    sizes = {
        ours: head.fields[f"{architecture}.{theirs}"]
        for ours, theirs in _KEYS.items()
        if f"{architecture}.{theirs}" in head.fields
    }
    tied = _OUTPUT not in head.shapes
    kind = _KINDS.get(architecture, architecture)
    return {"model_type": kind, **sizes, "vocab_size": embedding[1], "tie_word_embeddings": tied}


def _head(path: Path) -> GgufHead:
    file = path.stat()
    return _read_head(path, file.st_mtime_ns, file.st_size)


@lru_cache(maxsize=8)
def _read_head(path: Path, changed_ns: int, size_bytes: int) -> GgufHead:
    """Once a process for a file as it is."""
    return gguf_head(path)


_EXPERTS = ("num_local_experts", "num_experts", "n_routed_experts", "moe_num_experts")
_TIED = ("gemma", "cohere")  # model types whose output layer is the embeddings where a configuration does not say


def parameters_of(config: Mapping[str, Any]) -> int | None:
    """Number of parameters, of all experts where it has them; exact for the families that the plan knows.

    For others as of a dense decoder with gated MLP and grouped-query attention, biases not counted (below 0.1% of the whole);
    GPT-2's names are understood too. None for what this would count wrongly: a mixture of experts, and a configuration that
    lacks these names.
    """
    shape = _known_shape(config)
    return _counted(config) if shape is None else shape.parameters


def computed_parameters_of(config: Mapping[str, Any]) -> int | None:
    """Number of weights that one token is multiplied with: of experts those that it takes. None as for `parameters_of`."""
    shape = _known_shape(config)
    return _counted(config) if shape is None else shape.multiplied_parameters


def _known_shape(config: Mapping[str, Any]) -> ModelShape | None:
    try:
        return shape_of(config, "")
    except InputError:
        return None


def _counted(config: Mapping[str, Any]) -> int | None:
    try:
        return None if any((config.get(name) or 0) > 1 for name in _EXPERTS) else _dense(config)
    except (KeyError, TypeError, ValueError, ArithmeticError):
        return None


def _dense(config: Mapping[str, Any]) -> int:
    hidden = int(config.get("hidden_size") or config["n_embd"])
    layers = int(config.get("num_hidden_layers") or config["n_layer"])
    heads = int(config.get("num_attention_heads") or config["n_head"])
    key_heads = int(config.get("num_key_value_heads") or heads)
    size = int(config.get("head_dim") or hidden // heads)
    gated = "intermediate_size" in config
    inner = int(config.get("intermediate_size") or config.get("n_inner") or 4 * hidden)
    tied = not gated or str(config.get("model_type")).startswith(_TIED)
    attention = hidden * size * (2 * heads + 2 * key_heads)
    feed_forward = hidden * inner * (3 if gated else 2)
    embeddings = int(config["vocab_size"]) * hidden * (1 if config.get("tie_word_embeddings", tied) else 2)
    return layers * (attention + feed_forward + 2 * hidden) + embeddings + hidden


def parameters_of_gguf(path: Path) -> int:
    """Number of parameters of a GGUF, from the list of its tensors: no weight is read. Raises DataError for a damaged file."""
    return sum(math.prod(shape) for shape in _head(path).shapes.values())
