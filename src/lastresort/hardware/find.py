"""What is known of a model without reading a weight: its shape, its configuration and its size.

It may be a folder, a GGUF, a model of the catalogue, or one in the hub's cache.

The catalogue holds models whose shape is known by name, without their configuration.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from functools import cache, lru_cache
from pathlib import Path
from typing import Any

from lastresort.errors import DataError, InputError
from lastresort.hardware.cards import Card, catalogue
from lastresort.hardware.plan.memory import training_memory
from lastresort.hardware.plan.setup import Cards, Setup
from lastresort.hardware.shape import ModelShape, shape_of
from lastresort.model_heads import GgufHead, gguf_head, model_config
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


_TUNED = re.compile(r"-(instruct|it|chat|hf|base|pt|qat|bnb|4bit|gguf|\d+k|\d{4})(?=-|$)")
_PUBLISHER = re.compile(r"^(meta-|llama3(?=[.-]))")


@dataclass(frozen=True, slots=True)
class KnownModel:
    """parameters: of the whole model, each weight once. config: as its config.json says it."""

    name: str
    parameters: int
    config: Mapping[str, Any]


@cache
def known_models() -> Mapping[str, KnownModel]:
    """By name, in the catalogue's order; other names for the same shape stand behind it."""
    found: dict[str, KnownModel] = {}
    for name, entry in catalogue("models").items():
        for own in (name, *entry.get("also", ())):
            found[own] = KnownModel(own, entry["parameters"], entry["config"])
    return found


def shape_named(name: str) -> ModelShape:
    """The shape of a catalogued model. Raises InputError with the nearest names for one that is not there."""
    entry = entry_named(name)
    if entry is None:
        raise InputError(f'"{name}" is not in the catalogue', where="--model", expected=KINDS, remedy=hint(name))
    return shape_of(entry.config, entry.name)


KINDS = "a name of the catalogue, a folder with a config.json, a .gguf file or the id of a model in the hub's cache"


def entry_named(name: str) -> KnownModel | None:
    """Capitals, the publisher and what says how it was tuned count for nothing: `Qwen/Qwen3-8B-Instruct` is qwen3-8b."""
    known, plain = known_models(), name.rpartition("/")[2].lower().replace("_", "-")
    candidates = (plain, _PUBLISHER.sub("", plain), _TUNED.sub("", _PUBLISHER.sub("", plain)))
    return next((known[one] for one in candidates if one in known), None)


def hint(name: str) -> str:
    """The nearest names, as a sentence; else where they all are."""
    plain = _TUNED.sub("", name.rpartition("/")[2].lower())
    near = get_close_matches(plain, list(known_models()), 3, 0.6)
    if not near:
        return "`lastresort plan --list` shows the catalogue."
    return f"Did you mean {' or '.join(near)}? `lastresort plan --list` shows all."


def find_shape(name: str, folder: Path) -> ModelShape:
    """The shape of a model. folder: what relative paths start from.

    A path on disk wins over the hub's cache, and that over the catalogue.
    Raises InputError for an unknown name or architecture; DataError for a damaged file.
    """
    path = folder / Path(name).expanduser()
    if path.is_dir() or path.is_file():
        return shape_of(_config_at(path), (path.name or path.resolve().name).removesuffix(".gguf"))
    cached = cached_config(name) if name.count("/") == 1 else None
    if cached is not None:
        return shape_of(model_config(cached), name)
    entry = entry_named(name)
    if entry is None:
        raise InputError(f'found "{name}"', where="--model", expected=KINDS, remedy=hint(name))
    return shape_of(entry.config, entry.name)


def _config_at(path: Path) -> Mapping[str, Any]:
    if path.is_file():
        return config_of_gguf(path) if path.suffix == ".gguf" else model_config(path)
    if not (path / "config.json").is_file():
        raise InputError(
            "there is no config.json", where=str(path), expected="the folder of a model", remedy="Correct the path."
        )
    return model_config(path / "config.json")


def cached_config(name: str) -> Path | None:
    """The configuration that the hub's cache holds of a model; nothing is downloaded."""
    from huggingface_hub import try_to_load_from_cache
    from huggingface_hub.errors import HFValidationError

    try:
        found = try_to_load_from_cache(name, "config.json")
    except HFValidationError:
        return None
    return Path(found) if isinstance(found, str) else None


_CARD = Cards(Card("any", 0))


@cache
def lora_bytes(parameters: int) -> int:
    """Memory of LoRA with the plan's defaults (rows of 1,024 tokens one at a time, checkpointing, 16 bits), on one card.

    Scaled from the catalogue's model nearest in size; all but the card's context follows the number of parameters.
    """
    dense = (known for known in known_models().values() if not shape_named(known.name).has_experts)
    nearest = shape_named(min(dense, key=lambda known: abs(math.log(known.parameters / parameters))).name)
    memory = training_memory(nearest, Setup("lora"), _CARD)
    context = memory.of("context")
    return context + round((memory.per_card_bytes - context) * parameters / nearest.parameters)
