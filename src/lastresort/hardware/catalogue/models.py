"""Models whose shape is known by name, without their configuration."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from functools import cache
from importlib.resources import files
from typing import Any

from lastresort.errors import InputError
from lastresort.hardware.shape import ModelShape, shape_of

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
    import yaml

    text = files("lastresort.hardware.catalogue").joinpath("models.yaml").read_text("utf-8")
    found: dict[str, KnownModel] = {}
    for name, entry in yaml.safe_load(text).items():
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
