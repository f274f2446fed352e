"""What is trained, of which model, and in what precision: finetuning_type, lora_*, quantization_*, bf16 and their kin."""

from __future__ import annotations

import math
from pathlib import Path

from lastresort.interop.foreign_keys import (
    NO_REMOTE_CODE,
    NOT_IN_4_BITS,
    ForeignKeys,
    existing_path,
    lora_dropout,
    quantized_base,
)
from lastresort.interop.llamafactory.keys import reference_is_start
from lastresort.interop.llamafactory.objective import PREFERENCE_STAGES, Stage
from lastresort.spec.values import NumberBounds
from lastresort.types import JsonObject

_TYPES = ("lora", "full")
_OTHER_TYPES = ("oft", "freeze")
_LORA_KEYS = ("lora_rank", "lora_alpha", "lora_dropout", "lora_target", "use_rslora", "use_dora")


def model_keys(stage: Stage, given: ForeignKeys, path: Path) -> JsonObject:
    """model, adapter or start_from, and precision. Raises TaskError for an unsupported method."""
    name = given.text("model_name_or_path")
    if name is None:
        given.refuse("model_name_or_path", "nothing", expected="a model", remedy="Write a folder or a hub id.")
    kind = _type(given)
    if given.flag("trust_remote_code"):
        given.note_difference("trust_remote_code", NO_REMOTE_CODE)
    if given.flag("overwrite_output_dir"):
        sentence = "Nothing is overwritten: a second run needs another output_dir or --resume."
        given.note_difference("overwrite_output_dir", sentence)
    bits = _bits(given, kind)
    document: JsonObject = {"model": model_place(name, path)}
    start = given.names("adapter_name_or_path")
    given.any("create_new_adapter")  # without another adapter, one is created anyway
    if start:
        started = _started(stage, given, path, start, kind)
        document["start_from"] = started
        if bits is not None and not quantized_base(Path(started)):
            given.note_ignored("quantization_bit", NOT_IN_4_BITS)
    elif kind == "full":
        document |= {"adapter": "full"}
    else:
        document |= {"adapter": _adapter(stage, given, bits)}
    return document | {"precision": _precision(given, kind, bits)}


def _type(given: ForeignKeys) -> str:
    kind = str(given.any("finetuning_type", "lora")).strip()
    if kind in _OTHER_TYPES:
        near = "full trains all layers, lora all of them through adapters"
        given.refuse("finetuning_type", kind, expected=f"lora or full; {near}", remedy="Write finetuning_type: lora.")
    if kind == "qlora":
        remedy = "Write finetuning_type: lora and quantization_bit: 4."
        given.refuse("finetuning_type", '"qlora"', expected="lora or full", remedy=remedy)
    return given.choice("finetuning_type", _TYPES, "lora")


def model_place(name: str, path: Path) -> str:
    """The absolute path of a model or an adapter that is on disk, else the name as it is: embedded, or a hub id."""
    found = existing_path(name, path) if name != "embedded" else None
    return str(found or name)


def _bits(given: ForeignKeys, kind: str) -> int | None:
    bits = given.any("quantization_bit")
    method = str(given.any("quantization_method", "bnb")).lower()
    quantised = str(given.any("quantization_type", "nf4")).lower()
    twice = given.flag("double_quantization", True)
    if bits is None:
        return None
    if str(bits) != "4" or method not in ("bnb", "bitsandbytes") or kind == "full":
        beside = f" with finetuning_type: {kind}" if kind == "full" else f" by {method}"
        given.refuse(
            "quantization_bit",
            f"{bits} bits{beside}",
            expected="4 by bitsandbytes below an adapter, or none",
            remedy="Write quantization_bit: 4, or leave it out.",
        )
    if quantised != "nf4" or not twice:
        given.note_difference(
            "quantization_type" if quantised != "nf4" else "double_quantization",
            "The base is always held in NF4 with double quantisation here.",
        )
    return 4


def _adapter(stage: Stage, given: ForeignKeys, bits: int | None) -> JsonObject:
    rank = given.count("lora_rank", 8, least=1)
    # A scale of 0 counts as none there.
    alpha = given.number("lora_alpha", 0, NumberBounds(at_least=0)) or 2 * rank
    rslora, dora = given.flag("use_rslora"), given.flag("use_dora")
    target = given.names("lora_target") or ["all"]
    if dora and bits is not None:
        expected = "one of them, since DoRA needs an unquantised base here"
        given.refuse("use_dora", "it beside quantization_bit", expected=expected, remedy="Remove one.")
    kind = "dora" if dora else "qlora" if bits is not None else "rslora" if rslora else "lora"
    if rslora and kind != "rslora":
        alpha *= math.sqrt(rank)  # alpha / sqrt(r) as a scale of alpha' / r
    return {
        "kind": kind,
        "r": rank,
        "alpha": alpha,
        "target": "all-linear" if target == ["all"] else target,
        "dropout": lora_dropout(given, f"stage: {stage}" if stage in PREFERENCE_STAGES else None),
    }


def _started(stage: Stage, given: ForeignKeys, path: Path, names: list[str], kind: str) -> str:
    if len(names) > 1 or kind == "full" or given.flag("create_new_adapter"):
        given.refuse(
            "adapter_name_or_path",
            f"{len(names)} adapters" if len(names) > 1 else "an adapter that would be merged first",
            expected="one adapter, which is trained further",
            remedy="Merge the others with lastresort merge, and name the merged model.",
        )
    for key in _LORA_KEYS:
        if given.any(key) is not None:
            given.note_ignored(key, f"{key} is ignored: the adapter keeps its own, there too.")
    compared = (stage == "dpo" and given.any("pref_loss", "sigmoid") not in ("orpo", "simpo")) or stage == "kto"
    if compared and not reference_is_start(given):
        given.note_difference(
            "adapter_name_or_path",
            "The reference is the adapter's starting point here. In LLaMA-Factory it is the base without any adapter.",
        )
    return model_place(names[0], path)


def _precision(given: ForeignKeys, kind: str, bits: int | None) -> str:
    bf16, fp16, pure = (given.flag(key) for key in ("bf16", "fp16", "pure_bf16"))
    if fp16:
        given.note_difference(
            "fp16", "Nothing is trained in float16 here: precision is auto, what is fast on this machine."
        )
    if kind == "full":
        # Without pure_bf16 the trained weights are float32 there, as they are here.
        return "bfloat16" if pure else "auto"
    return "bfloat16" if (bf16 or pure) and bits is None else "auto"
