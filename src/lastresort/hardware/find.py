"""From the name of a model to its shape: a folder, a GGUF, the catalogue, or the hub's cache. No weight is read.

The catalogue holds models whose shape is known by name, without their configuration.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from functools import cache
from math import log
from pathlib import Path
from typing import Any

from lastresort.errors import InputError
from lastresort.hardware.cards import Card, catalogue
from lastresort.hardware.model_files import config_of_gguf
from lastresort.hardware.plan.memory import training_memory
from lastresort.hardware.plan.setup import Cards, Setup
from lastresort.hardware.shape import ModelShape, shape_of
from lastresort.model_heads import model_config

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
        return shape_of(_config_at(path), _short(path))
    cached = _cached(name) if name.count("/") == 1 else None
    if cached is not None:
        return shape_of(model_config(cached), name)
    entry = entry_named(name)
    if entry is None:
        raise InputError(f'found "{name}"', where="--model", expected=KINDS, remedy=hint(name))
    return shape_of(entry.config, entry.name)


def _short(path: Path) -> str:
    return (path.name or path.resolve().name).removesuffix(".gguf")


def _config_at(path: Path) -> Mapping[str, Any]:
    if path.is_file():
        return config_of_gguf(path) if path.suffix == ".gguf" else model_config(path)
    if not (path / "config.json").is_file():
        raise InputError(
            "there is no config.json", where=str(path), expected="the folder of a model", remedy="Correct the path."
        )
    return model_config(path / "config.json")


def _cached(name: str) -> Path | None:
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
    nearest = shape_named(min(dense, key=lambda known: abs(log(known.parameters / parameters))).name)
    memory = training_memory(nearest, Setup("lora"), _CARD)
    context = memory.of("context")
    return context + round((memory.per_card_bytes - context) * parameters / nearest.parameters)
