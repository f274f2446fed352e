"""Axolotl's YAML -> a training in our words: the model, its adapter, the rows, the objective and how it is trained."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lastresort.interop.axolotl.data import TemplateModel, is_text, model_template, rendered_by, sources
from lastresort.interop.axolotl.groups import group_keys
from lastresort.interop.axolotl.keys import (
    FILE,
    ObjectiveChoice,
    check_contradictions,
    chosen_objective,
    note_other_keys,
)
from lastresort.interop.axolotl.trainer import batch_of, held_out_share, row_keys, text_row_tokens, trainer_keys
from lastresort.interop.foreign_keys import (
    NOT_IN_4_BITS,
    ForeignKeys,
    ImportedTraining,
    existing_path,
    lora_dropout,
    output_path,
    quantized_base,
)
from lastresort.spec.values import NumberBounds, listed, shortened
from lastresort.types import JsonObject

_LINEAR = "all-linear"
_WITHOUT_DROPOUT = ("dpo", "ipo", "kto", "orpo", "simpo")
LORA_KEYS = tuple(
    "lora_r lora_alpha lora_dropout lora_target_modules lora_target_linear peft_use_dora peft_use_rslora".split()
)


def adapter_keys(given: ForeignKeys, path: Path, *, rl: str) -> JsonObject:
    """{"adapter": …} or {"start_from": …}. Raises TaskError for what cannot be trained there either, and for other kinds."""
    kind = given.text("adapter")
    bits4, bits8 = given.flag("load_in_4bit"), given.flag("load_in_8bit")
    if kind is None:
        return _all_weights(given, bits4, bits8)
    if kind not in ("lora", "qlora"):
        given.refuse("adapter", kind, expected="lora or qlora", remedy="Take one of them, or leave it out.")
    _check_bits(given, kind, bits4, bits8)
    start = given.text("lora_model_dir")
    if start is not None:
        return _start(given, start, path, rl, four_bits=kind == "qlora")
    return {"adapter": _fresh(given, kind, rl)}


def _all_weights(given: ForeignKeys, bits4: bool, bits8: bool) -> JsonObject:
    if bits4 or bits8:
        remedy = "Write adapter: qlora beside load_in_4bit, or remove it."
        key = "load_in_4bit" if bits4 else "load_in_8bit"
        given.refuse(key, "it without an adapter", expected="an adapter to train", remedy=remedy)
    idle = [key for key in LORA_KEYS if given.any(key) not in (None, False, 0)]
    if given.text("lora_model_dir") is not None:
        idle.append("lora_model_dir")
    if idle:
        given.note_trap(
            ", ".join(idle), f"Without adapter, {listed(idle)} decide nothing, there either: all weights are trained."
        )
    return {"adapter": "full"}


def _check_bits(given: ForeignKeys, kind: str, bits4: bool, bits8: bool) -> None:
    if kind == "qlora" and bits8:
        given.refuse("load_in_8bit", "it beside qlora", expected="load_in_4bit", remedy="Remove it.")
    if kind == "qlora" and not bits4:
        given.refuse("load_in_4bit", "none beside qlora", expected="load_in_4bit: true", remedy="Add it.")
    if kind == "lora" and bits4:
        given.note_trap(
            "load_in_4bit",
            "adapter: lora with load_in_4bit loads the base in 16 bits, there and here. For 4 bits write adapter: qlora.",
        )
    if kind == "lora" and bits8:
        given.note_ignored("load_in_8bit", "A base is never held in 8 bits here: it is loaded in 16, twice the memory.")


def _start(given: ForeignKeys, start: str, path: Path, rl: str, *, four_bits: bool) -> JsonObject:
    found = existing_path(start, path)
    if found is None:
        given.refuse("lora_model_dir", f'no folder "{start}"', expected="an adapter", remedy="Correct the name.")
    for key in LORA_KEYS:
        given.any(key)  # the adapter's own decide, there too
    given.flag("rl_adapter_ref_model")  # which its schema drops (0.19.0)
    if rl in ("dpo", "ipo", "kto"):
        given.note_trap(
            "lora_model_dir",
            f"With rl: {rl} Axolotl ignores lora_model_dir and trains a fresh adapter. Here the adapter is trained further, and "
            "its starting point is the reference.",
        )
    if four_bits and not quantized_base(found):
        given.note_ignored("load_in_4bit", NOT_IN_4_BITS)
    return {"start_from": str(found)}


def _fresh(given: ForeignKeys, kind: str, rl: str) -> JsonObject:
    for key in ("lora_r", "lora_alpha"):
        if key not in given:
            found = f"nothing beside adapter: {kind}"
            given.refuse_missing(key, FILE, found=found, expected="a number", remedy=f"Write {key}: 16.")
    rank = given.count("lora_r", 16, least=1)
    alpha = given.number("lora_alpha", 16, NumberBounds(above=0))
    dora, rslora = given.flag("peft_use_dora"), given.flag("peft_use_rslora")
    if dora and (kind == "qlora" or rslora):
        beside = "a base in 4 bits" if kind == "qlora" else "peft_use_rslora"
        given.note_ignored("peft_use_dora", f"DoRA is not combined with {beside} here: LoRA is trained.")
        dora = False
    if rslora and kind == "qlora":
        alpha, rslora = alpha * math.sqrt(rank), False
        given.note_difference(
            "peft_use_rslora", f"On a base in 4 bits rsLoRA is LoRA with alpha {alpha:g}: the same scale."
        )
    ours = "qlora" if kind == "qlora" else "dora" if dora else "rslora" if rslora else "lora"
    dropout = lora_dropout(given, f"rl: {rl}" if rl in _WITHOUT_DROPOUT else None)
    return {"kind": ours, "r": rank, "alpha": alpha, "target": _target(given), "dropout": dropout}


def _target(given: ForeignKeys) -> Any:
    named = given.any("lora_target_modules")
    if given.flag("lora_target_linear") or named in (_LINEAR, [_LINEAR]):
        if isinstance(named, list) and named != [_LINEAR]:
            given.note_difference("lora_target_modules", "lora_target_linear wins: all linear layers get adapters.")
        return _LINEAR
    if isinstance(named, str) and re.search(r"[^\w.]", named):
        return _from_pattern(given, named)
    names = given.names("lora_target_modules")
    if not names:
        remedy = "Write lora_target_linear: true, or names of layers."
        given.refuse("lora_target_modules", "nothing", expected="layers that get adapters", remedy=remedy)
    return names


def _from_pattern(given: ForeignKeys, pattern: str) -> list[str]:
    """The names at the end of a pattern such as `layers.[\\d]+.mlp.(up|down)_proj`. Raises TaskError for another pattern."""
    match = re.fullmatch(r".*\.\(([\w|]+)\)(\w*)", pattern)
    if match is None:
        remedy = "Write names of layers, such as [q_proj, v_proj]."
        given.refuse(
            "lora_target_modules", f"the pattern {shortened(pattern)}", expected="names of layers", remedy=remedy
        )
    names = [f"{name}{match[2]}" for name in match[1].split("|")]
    given.note_difference(
        "lora_target_modules", f"Of the pattern only its end counts: all {listed(names)} get adapters."
    )
    return names


OUTPUT = "./model-out"


def read(values: Mapping[str, Any], path: Path) -> ImportedTraining:
    """values: the keys of the file at `path`, with --set applied. Raises TaskError for what cannot be trained, there or here."""
    given = ForeignKeys(values, str(path))
    _check_required(given)
    check_contradictions(ForeignKeys(values, str(path)))  # of its own, since what it reads is not honoured
    chosen = chosen_objective(given, text=is_text(given))
    name = str(given.text("base_model"))
    folder = existing_path(name, path) if name != "embedded" else None
    model = TemplateModel(name, model_template(name, folder))
    key = "datasets" if "datasets" in given else "pretraining_dataset"
    train = sources(given, key, chosen, model, path)
    kept_out = sources(given, "test_datasets", chosen, model, path)
    share = held_out_share(given)
    document = {
        "model": str(folder) if folder is not None else name,
        "objective": chosen.value,
        **adapter_keys(given, path, rl=chosen.rl),
        **_trainer_keys(given, chosen, path),
        "output": str(output_path(given.text("output_dir") or OUTPUT)),
    }
    if chosen.family == "groups" and (share or kept_out):
        given.note_ignored("val_set_size" if share else "test_datasets", "With grpo no prompts are held out.")
        share, kept_out = None, ()
    note_other_keys(given)
    return ImportedTraining(
        "axolotl", document, train, kept_out, share, tuple(given.remarks), rendered_by(given), "val_set_size"
    )


def _check_required(given: ForeignKeys) -> None:
    found = "nothing in what looks like an Axolotl file"
    if "base_model" not in given:
        remedy = "Write base_model: NAME."
        given.refuse_missing("base_model", FILE, found=found, expected="a folder or a hub id", remedy=remedy)
    if "datasets" not in given and "pretraining_dataset" not in given:
        remedy = "Write datasets: [{path: rows.jsonl, type: chat_template}]."
        given.refuse_missing("datasets", FILE, found=found, expected="the rows to train on", remedy=remedy)


def _trainer_keys(given: ForeignKeys, chosen: ObjectiveChoice, path: Path) -> JsonObject:
    batch, kind = batch_of(given), given.text("adapter")
    found = trainer_keys(given, full=kind is None, four_bits=kind == "qlora")
    if isinstance(kwargs := given.any("chat_template_kwargs"), Mapping) and kwargs:
        found["chat_template_kwargs"] = dict(kwargs)
    if chosen.family == "groups":
        return found | group_keys(given, path, batch)
    found["batch_size"] = batch
    if chosen.family == "text":
        given.flag("sample_packing")
        given.note_difference(
            "datasets", "Documents are one stream, cut into rows of sequence_len. There each document starts a row."
        )
        return found | {"max_tokens": text_row_tokens(given)}
    if given.flag("sample_packing"):
        given.note_difference(
            "sample_packing",
            f"A step there takes {batch} packed sequences, here {batch} rows, which are fewer tokens. Raise micro_batch_size to "
            "train on as many.",
        )
    return found | row_keys(given)
