"""An adapter's own settings, checked before PEFT reads them: types, sizes, and the patterns by which it finds its layers."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from lastresort.apart import TooMuch, answer_apart
from lastresort.errors import DataError, InputError
from lastresort.foreign import read_json
from lastresort.model_heads import ADAPTER_CONFIG, MOST_LAYERS

ADAPTER_WEIGHTS = "adapter_model.safetensors"
MOST_RANK = 16_384  # the width of the largest models; PEFT fills the factors before it reads them from the file
PLAIN_STARTS = ("gaussian", "eva", "orthogonal", "mica", "lora_ga")
"""Initial weights of an adapter that leave its base as it is; PEFT's others change the base, too."""
_NUMBERS = ("r", "lora_alpha", "lora_dropout")
_BY_LAYER = ("rank_pattern", "alpha_pattern")
_NAMES = ("target_modules", "exclude_modules", "modules_to_save", "layers_pattern")


def adapter_settings(folder: Path, *, raised: type[InputError] = DataError) -> Mapping[str, Any]:
    """The settings in an adapter's folder as they are. Raises `raised` for what is no settings of PEFT, or would run code."""
    path = folder / ADAPTER_CONFIG
    found: Any = read_json(path, lenient=True, raised=raised)
    if not isinstance(found, dict):
        raise raised("no settings", where=str(path), expected="PEFT's settings", remedy="Save the adapter again.")
    for key, expected in _faults(found):
        raise raised(
            f"found {json.dumps(found[key])[:80]}",
            where=f'{path}, key "{key}"',
            expected=expected,
            remedy="Save the adapter again.",
        )
    return found


def keeps_base(settings: Mapping[str, Any]) -> bool:
    """Whether the base is as it was once this adapter is taken off it."""
    start = settings.get("init_lora_weights")
    return (
        settings.get("peft_type") == "LORA"
        and not (isinstance(start, str) and start.lower() not in PLAIN_STARTS)
        and settings.get("bias", "none") in ("none", None)
        and not any(settings.get(key) for key in ("lora_bias", "layer_replication", "trainable_token_indices"))
    )


def _faults(settings: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """The keys whose value PEFT cannot have written, with what is expected there."""
    for key in _NUMBERS:
        if settings.get(key) is not None and not _is_number(settings[key]):
            yield key, "a number"
    for key in _BY_LAYER if settings.get("peft_type") == "LORA" else ():  # AdaLoRA keeps lists there
        by_layer = settings.get(key) or {}
        if not isinstance(by_layer, dict) or not all(map(_is_number, by_layer.values())):
            yield key, "numbers by the names of layers"
        elif key == "rank_pattern" and not all(map(_is_rank, by_layer.values())):
            yield key, f"whole numbers from 1 to {MOST_RANK:,}"
    if not (settings.get("r") is None or _is_rank(settings["r"])):
        yield "r", f"a whole number from 1 to {MOST_RANK:,}"
    for key in _NAMES:
        value = settings.get(key)
        if not (value is None or isinstance(value, str) or (isinstance(value, list) and _are_texts(value))):
            yield key, "names of layers"
    name = settings.get("base_model_name_or_path")
    if name is not None and not isinstance(name, str):
        yield "base_model_name_or_path", "the name of a model"
    if settings.get("megatron_config"):  # it imports a module by its name
        yield "megatron_config", "null"
    if settings.get("layer_replication") and not _copies_few(settings["layer_replication"]):
        yield "layer_replication", f"first and last layers, at most {MOST_LAYERS:,} layers in all"


def _copies_few(ranges: Any) -> bool:
    pairs = [one for one in ranges if isinstance(one, list) and len(one) == 2] if isinstance(ranges, list) else []
    if not pairs or len(pairs) < len(ranges) or not all(isinstance(end, int) for pair in pairs for end in pair):
        return False
    return all(first >= 0 for first, _ in pairs) and sum(abs(last - first) for first, last in pairs) <= MOST_LAYERS


def _is_rank(value: Any) -> bool:
    return isinstance(value, int) and _is_number(value) and 1 <= value <= MOST_RANK


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _are_texts(values: Sequence[Any]) -> bool:
    return all(isinstance(value, str) for value in values)


MATCHING_S = 3.0
"""Of the processor, for all of an adapter's patterns on all of a model's layers; ordinary ones take a hundredth of a second."""
_PLAIN = re.compile(r"[\w.\-]*")
_MATCH = """
import re
def answer(question):
    patterns, layers = question
    for key, pattern in patterns:
        try:
            compiled = re.compile(pattern)
        except (re.error, OverflowError, RecursionError, MemoryError) as error:
            return [key, str(error) or type(error).__name__]
        for layer in layers:
            compiled.match(layer)
"""


def check_patterns(settings: Mapping[str, Any], layers: Sequence[str], folder: Path) -> None:
    """Raise DataError where a regular expression of the settings is none, or takes too long on this model's layers.

    PEFT matches it with every layer. A pattern can make that take years, so that it is tried in a process that is ended after
    MATCHING_S seconds of the processor. Names of layers, which nearly all adapters hold, need none.
    """
    patterns = list(_patterns(settings))
    if not patterns:
        return
    where = str(folder / ADAPTER_CONFIG)
    try:
        fault = answer_apart(_MATCH, [patterns, list(layers)], most_s=MATCHING_S)
    except TooMuch as error:
        keys = " and ".join(dict.fromkeys(key for key, _ in patterns))
        raise DataError(
            f"matching the patterns of {keys} with the model's layers takes more than {MATCHING_S:g} seconds",
            where=where,
            expected="patterns without nested repetition",
            remedy="Write the names of the layers.",
        ) from error
    if fault is not None:
        key, reason = fault
        raise DataError(
            f"found a pattern that is no regular expression ({reason[:120]})",
            where=f'{where}, key "{key}"',
            expected="names or patterns of layers",
            remedy="Correct it.",
        )


def _patterns(settings: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Each key with its regular expression as PEFT builds it, but for plain names."""
    for key in ("target_modules", "exclude_modules"):
        if isinstance(settings.get(key), str):
            yield key, rf"(?:{settings[key]})\Z"
    for key in _BY_LAYER if settings.get("peft_type") == "LORA" else ():
        yield from ((key, rf"(.*\.)?({name})$") for name in settings.get(key) or {} if not _PLAIN.fullmatch(name))
    for name in settings.get("modules_to_save") or ():
        if not _PLAIN.fullmatch(name):
            yield "modules_to_save", rf"(^|.*\.){name}($|\..*)"
    found = settings.get("layers_pattern") or ()
    for name in [found] if isinstance(found, str) else found:
        if not _PLAIN.fullmatch(name):
            yield "layers_pattern", rf"(?:^|.*?\.){name}\.(?P<idx>\d+)\."
