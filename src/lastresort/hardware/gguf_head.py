"""The configuration of a model from the head of its GGUF, with the names of a config.json; no weight is read."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

from lastresort.errors import DataError, PrerequisiteError

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


def config_of_gguf(path: Path) -> dict[str, Any]:
    """Sizes under their usual names. Raises PrerequisiteError without the package gguf, DataError for a damaged file."""
    if importlib.util.find_spec("gguf") is None:
        raise PrerequisiteError(
            "the package gguf is not installed, and a .gguf file needs it", remedy="Run: pip install gguf"
        )
    from gguf import GGUFReader

    try:
        reader = GGUFReader(path)
        architecture = str(reader.fields["general.architecture"].contents())
        tensors = {str(tensor.name): tensor for tensor in reader.tensors}
        vocabulary = int(tensors[_EMBEDDING].shape[1])
    except (OSError, ValueError, KeyError, IndexError) as error:
        raise DataError(
            f"no GGUF of a language model ({error})", where=str(path), remedy="Download it again, or name another."
        ) from error
    told = {
        ours: reader.fields[f"{architecture}.{theirs}"].contents()
        for ours, theirs in _KEYS.items()
        if f"{architecture}.{theirs}" in reader.fields
    }
    tied = _OUTPUT not in tensors
    kind = _KINDS.get(architecture, architecture)
    return {"model_type": kind, **told, "vocab_size": vocabulary, "tie_word_embeddings": tied}
