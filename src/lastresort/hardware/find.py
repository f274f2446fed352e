"""From the name of a model to its shape: a folder, a GGUF, the catalogue, or the hub's cache. No weight is read."""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import cache
from math import log
from pathlib import Path
from typing import Any

from lastresort.errors import DataError, InputError
from lastresort.hardware.catalogue.cards import Card
from lastresort.hardware.catalogue.models import KINDS, entry_named, hint, known_models, shape_named
from lastresort.hardware.model_files import config_of_gguf
from lastresort.hardware.plan.memory import training_memory
from lastresort.hardware.plan.setup import Cards, Setup
from lastresort.hardware.shape import ModelShape, shape_of


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
        return shape_of(_read(cached), name)
    entry = entry_named(name)
    if entry is None:
        raise InputError(f'found "{name}"', where="--model", expected=KINDS, remedy=hint(name))
    return shape_of(entry.config, entry.name)


def _short(path: Path) -> str:
    return (path.name or path.resolve().name).removesuffix(".gguf")


def _config_at(path: Path) -> Mapping[str, Any]:
    if path.is_file():
        return config_of_gguf(path) if path.suffix == ".gguf" else _read(path)
    if not (path / "config.json").is_file():
        raise InputError(
            "there is no config.json", where=str(path), expected="the folder of a model", remedy="Correct the path."
        )
    return _read(path / "config.json")


def _read(path: Path) -> Mapping[str, Any]:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise DataError(
            f"cannot be read ({error})", where=str(path), expected="JSON", remedy="Restore the file."
        ) from error
    if not isinstance(found, dict):
        raise DataError("found no object", where=str(path), expected="the config.json of a model")
    return found


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
