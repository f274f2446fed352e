"""LLaMA-Factory's keys of a training: its stage and loss, what is trained of which model, and those that are not honoured.

Not honoured (keys.yaml): each is refused, or named with the reason. Refused: what would make it another training, such as another
method, loss or model. Ignored: a detail of the optimizer, of evaluation or of loading. Without effect: what only decides speed,
memory, logs and files.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any, Literal

from lastresort.interop.foreign_keys import (
    NO_REMOTE_CODE,
    NOT_IN_4_BITS,
    ForeignKeys,
    existing_path,
    key_tables,
    lora_dropout,
    note_kto_baseline,
    note_unread,
    quantized_base,
)
from lastresort.spec.values import NumberBounds, nearest
from lastresort.types import JsonObject

FILE = key_tables("llamafactory")["file"]
NOTHING = "nothing in what looks like a LLaMA-Factory file"
_OFF = (False, "", "none", "no", "auto", "default")


def refuse_other_trainings(given: ForeignKeys) -> None:
    """Raises TaskError for a key that makes it another training."""
    for key, expected in FILE.refused.items():
        value = given.any(key)
        if key.startswith("ref_model") and reference_is_start(given):
            continue
        if value is not None and value not in _OFF and value != 0:
            given.refuse(
                key, f"{key}: {str(value).lower()}", expected=expected, remedy="Remove it, or train with LLaMA-Factory."
            )


def reference_is_start(given: ForeignKeys) -> bool:
    """Whether the reference is the model with the very adapter that is trained further, as it is here anyway."""
    start, reference = given.any("adapter_name_or_path"), given.any("ref_model_adapters")
    return reference is not None and (given.any("ref_model"), reference) == (given.any("model_name_or_path"), start)


def note_other_keys(given: ForeignKeys) -> None:
    """Remarks on the keys that nobody read, but for values that are off or the default.

    Raises TaskError for a key that is nearly one that is honoured.
    """
    for key in note_unread(given, FILE, is_off=_is_off, no_effect=_no_effect):
        if (meant := nearest(key, given.read_keys(), likeness=0.85)) is not None:
            given.refuse(key, "an unknown key", expected=meant, remedy=f'Write "{meant}", or remove the key.')
        given.note_ignored(key, f"{key} is ignored: it is no key that this program knows.")


def _no_effect(key: str, value: Any) -> bool:
    return FILE.has_no_effect(key) and not _is_off(key, value)


def _is_off(key: str, value: Any) -> bool:
    if key in FILE.defaults:
        return bool(value == FILE.defaults[key])
    return value is False or (isinstance(value, str) and value.strip().lower() in _OFF)


Stage = Literal["sft", "pt", "dpo", "kto"]
PREFERENCE_STAGES = frozenset({"dpo", "kto"})
_STAGES = ("sft", "pt", "dpo", "kto", "ppo", "rm")
_LOSSES = ("sigmoid", "hinge", "ipo", "kto_pair", "orpo", "simpo")
_POSITIVE, _NOT_NEGATIVE = NumberBounds(above=0), NumberBounds(at_least=0)
_NEAREST = {
    "ppo": (
        "sft, pt, dpo or kto; there is no value model here, and no reward model: the nearest is GRPO, which compares the "
        "answers of a group, with scorers or a function as the reward",
        "Write a training file with objective: grpo and reward (docs/train.md).",
    ),
    "rm": (
        "sft, pt, dpo or kto; no reward model is trained here: the nearest is to train the model itself on the same pairs",
        "Write stage: dpo.",
    ),
}
# Parts of a loss that the objectives here lack: without them it would be another training.
_FOREIGN_PARTS = {
    "pref_ftx": "no likelihood of the chosen answer is added to a preference loss; orpo has one of its own",
    "pref_bco_weight": "there is no BCO term",
    "ld_alpha": "the tokens of a longer answer are not weighted",
}


def read_stage(given: ForeignKeys) -> Stage:
    """Raises TaskError for ppo and rm, with the nearest that there is."""
    stage = given.choice("stage", _STAGES, "sft")
    if stage in _NEAREST:
        expected, remedy = _NEAREST[stage]
        given.refuse("stage", stage, expected=expected, remedy=remedy)
    return stage  # type: ignore[return-value]


def objective_of(stage: Stage, given: ForeignKeys) -> Any:
    """The value of `objective`, with every option written out. Raises TaskError for an unsupported loss."""
    if stage in PREFERENCE_STAGES:
        _refuse_foreign_parts(given)
    if stage == "dpo":
        return _pairs(given)
    if stage == "kto":
        note_kto_baseline(given)
        return {
            "kto": {
                "beta": given.number("pref_beta", 0.1, _POSITIVE),
                "desirable_weight": given.number("kto_chosen_weight", 1.0, _NOT_NEGATIVE),
                "undesirable_weight": given.number("kto_rejected_weight", 1.0, _NOT_NEGATIVE),
            }
        }
    return "text" if stage == "pt" else "sft"


def _pairs(given: ForeignKeys) -> dict[str, JsonObject]:
    loss = given.choice("pref_loss", _LOSSES, "sigmoid")
    beta = given.number("pref_beta", 0.1, _POSITIVE)
    smoothing = given.number("dpo_label_smoothing", 0.0, NumberBounds(at_least=0, below=0.5))
    if smoothing and loss != "sigmoid":
        given.refuse(
            "dpo_label_smoothing", f"it beside {loss}", expected="it only with pref_loss: sigmoid", remedy="Remove it."
        )
    if loss == "kto_pair":
        remedy = "The nearest is stage: kto, on answers with labels."
        given.refuse("pref_loss", loss, expected="sigmoid, hinge, ipo, orpo or simpo", remedy=remedy)
    if loss == "sigmoid":
        return {"dpo": {"beta": beta, "label_smoothing": smoothing}}
    if loss in ("ipo", "hinge"):
        given.note_trap(
            "pref_loss",
            f"With TRL from 0.20 on, which LLaMA-Factory 0.9.5 accepts, {loss} is computed as sigmoid there. Here it is {loss}.",
        )
    if loss == "ipo":
        return {"ipo": {"beta": beta, "per_token": True}}  # its log-probabilities are means over the answer there
    if loss == "orpo":
        return {"orpo": {"weight": beta}}
    if loss == "simpo":
        return {"simpo": {"beta": beta, "gamma": given.number("simpo_gamma", 0.5, _NOT_NEGATIVE)}}
    return {"hinge": {"beta": beta}}


def _refuse_foreign_parts(given: ForeignKeys) -> None:
    for key, why in _FOREIGN_PARTS.items():
        value = given.any(key)
        if value:
            given.refuse(key, str(value), expected=f"it left out: {why}", remedy="Remove it.")


_TYPES = ("lora", "full")
_OTHER_TYPES = ("oft", "freeze")
_LORA_KEYS = ("lora_rank", "lora_alpha", "lora_dropout", "lora_target", "use_rslora", "use_dora")


def model_keys(stage: Stage, given: ForeignKeys, path: Path) -> JsonObject:
    """model, adapter or start_from, and precision. Raises TaskError for an unsupported method."""
    name = given.text("model_name_or_path")
    if name is None:
        remedy = "Write a folder or a hub id."
        given.refuse_missing("model_name_or_path", FILE, found=NOTHING, expected="a model", remedy=remedy)
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
