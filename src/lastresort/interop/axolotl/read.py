"""Axolotl's YAML -> a training in our words.

`adapter`, `lora_*` and `load_in_*` -> our adapter, or an adapter to go on from.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lastresort.interop.axolotl import keys as contradictions
from lastresort.interop.axolotl.course import batch_of, course_keys, held_out, length_keys, text_row
from lastresort.interop.axolotl.data import TemplateModel, is_text, own_template, rendered_by, sources
from lastresort.interop.axolotl.groups import group_keys
from lastresort.interop.axolotl.keys import of_other_keys
from lastresort.interop.axolotl.objective import ObjectiveChoice, chosen_objective
from lastresort.interop.given import NOT_IN_4_BITS, ForeignKeys, found_place, new_place, says_its_base
from lastresort.interop.imported import ImportedTraining
from lastresort.spec.values import NumberBounds
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
        return _whole(given, bits4 or bits8)
    if kind not in ("lora", "qlora"):
        given.refuse("adapter", kind, expected="lora or qlora", remedy="Take one of them, or leave it out.")
    _check_bits(given, kind, bits4, bits8)
    start = given.text("lora_model_dir")
    if start is not None:
        return _start(given, start, path, rl, four_bits=kind == "qlora")
    return {"adapter": _fresh(given, kind, rl)}


def _whole(given: ForeignKeys, quantised: bool) -> JsonObject:
    if quantised:
        key = "load_in_4bit" if given.flag("load_in_4bit") else "load_in_8bit"
        remedy = "Write adapter: qlora beside load_in_4bit, or remove it."
        given.refuse(key, "it without an adapter", expected="an adapter to train", remedy=remedy)
    if told := [key for key in LORA_KEYS if given.any(key) not in (None, False, 0)]:
        given.remark(
            told[0], "trap", f"{', '.join(told)} without adapter decide nothing, there either: all weights are trained."
        )
    if given.text("lora_model_dir") is not None:
        given.remark("lora_model_dir", "trap", "lora_model_dir without adapter decides nothing, there either.")
    return {"adapter": "full"}


def _check_bits(given: ForeignKeys, kind: str, bits4: bool, bits8: bool) -> None:
    if kind == "qlora" and bits8:
        given.refuse("load_in_8bit", "it beside qlora", expected="load_in_4bit", remedy="Remove it.")
    if kind == "qlora" and not bits4:
        given.refuse("load_in_4bit", "none beside qlora", expected="load_in_4bit: true", remedy="Add it.")
    if kind == "lora" and bits4:
        sentence = (
            "adapter: lora with load_in_4bit loads the base in 16 bits there, and so it does here; qlora is 4 bits."
        )
        given.remark("load_in_4bit", "trap", sentence)
    if kind == "lora" and bits8:
        sentence = "A base in 8 bits is not here: it is loaded in 16 bits, which takes twice the memory."
        given.remark("load_in_8bit", "ignored", sentence)


def _start(given: ForeignKeys, start: str, path: Path, rl: str, *, four_bits: bool) -> JsonObject:
    found = found_place(start, path)
    if found is None:
        given.refuse("lora_model_dir", f'no folder "{start}"', expected="an adapter", remedy="Correct the name.")
    for key in LORA_KEYS:
        given.any(key)  # its own decide, there too
    given.flag("rl_adapter_ref_model")  # which its schema drops (0.19.0)
    if rl in ("dpo", "ipo", "kto"):
        given.remark(
            "lora_model_dir",
            "trap",
            f"Axolotl does not look at lora_model_dir beside rl: {rl} and trains a fresh adapter; here the adapter is trained "
            "further, and as it stood it is the reference.",
        )
    if four_bits and not says_its_base(found):
        given.remark("load_in_4bit", "ignored", NOT_IN_4_BITS)
    return {"start_from": str(found)}


def _fresh(given: ForeignKeys, kind: str, rl: str) -> JsonObject:
    for key in ("lora_r", "lora_alpha"):
        if key not in given:
            given.refuse(key, f"nothing beside adapter: {kind}", expected="a number", remedy=f"Write {key}: 16.")
    rank = given.count("lora_r", 16, least=1)
    alpha = given.number("lora_alpha", 16, NumberBounds(above=0))
    dora, rslora = given.flag("peft_use_dora"), given.flag("peft_use_rslora")
    if dora and (kind == "qlora" or rslora):
        beside = "a base in 4 bits" if kind == "qlora" else "peft_use_rslora"
        given.remark("peft_use_dora", "ignored", f"DoRA beside {beside} is not here: LoRA is trained.")
        dora = False
    if rslora and kind == "qlora":
        alpha, rslora = alpha * math.sqrt(rank), False
        sentence = f"rsLoRA on a base in 4 bits is written as LoRA with alpha {alpha:g}, which is scaled the same."
        given.remark("peft_use_rslora", "differs", sentence)
    ours = "qlora" if kind == "qlora" else "dora" if dora else "rslora" if rslora else "lora"
    return {
        "kind": ours,
        "r": rank,
        "alpha": alpha,
        "target": _target(given),
        "dropout": _dropout(given, rl),
    }


def _dropout(given: ForeignKeys, rl: str) -> float:
    """TRL turns every dropout off beside a loss on preferences, and Axolotl does not tell it otherwise."""
    dropout = given.number("lora_dropout", 0.0, NumberBounds(at_least=0, below=1))
    if dropout and rl in _WITHOUT_DROPOUT:
        sentence = (
            f"Every dropout is switched off there beside rl: {rl}, so {dropout:g} had no effect; here it is 0 too."
        )
        given.remark("lora_dropout", "trap", sentence)
        return 0.0
    return dropout


def _target(given: ForeignKeys) -> Any:
    named = given.any("lora_target_modules")
    if given.flag("lora_target_linear") or named in (_LINEAR, [_LINEAR]):
        if isinstance(named, list) and named != [_LINEAR]:
            given.remark(
                "lora_target_modules", "differs", "All linear layers have adapters, which lora_target_linear says."
            )
        return _LINEAR
    if isinstance(named, str) and re.search(r"[^\w.]", named):
        return _of_pattern(given, named)
    names = given.names("lora_target_modules")
    if not names:
        remedy = "Write lora_target_linear: true, or names of layers."
        given.refuse("lora_target_modules", "nothing", expected="layers that get adapters", remedy=remedy)
    return names


def _of_pattern(given: ForeignKeys, pattern: str) -> list[str]:
    """The names at the end of a pattern such as `layers.[\\d]+.mlp.(up|down)_proj`. Raises TaskError for another pattern."""
    match = re.fullmatch(r".*\.\(([\w|]+)\)(\w*)", pattern)
    if match is None:
        remedy = "Write names of layers, such as [q_proj, v_proj]."
        given.refuse("lora_target_modules", f"the pattern {pattern}", expected="names of layers", remedy=remedy)
    names = [f"{name}{match[2]}" for name in match[1].split("|")]
    sentence = f"Of the pattern the names at its end are taken: every layer named {', '.join(names)} gets an adapter."
    given.remark("lora_target_modules", "differs", sentence)
    return names


OUTPUT = "./model-out"


def read(values: Mapping[str, Any], path: Path) -> ImportedTraining:
    """values: of the file, with what was set from outside. path: of the file; relative names start from the current folder, and
    else from its own.

    Raises TaskError for what cannot be trained, there or here.
    """
    given = ForeignKeys(values, str(path))
    contradictions.check(ForeignKeys(values, str(path)))  # whose looking does not count as reading
    chosen = chosen_objective(given, text=is_text(given))
    name = given.text("base_model") or ""
    folder = found_place(name, path) if name != "embedded" else None
    model = TemplateModel(name, own_template(name, folder))
    key = "datasets" if "datasets" in given else "pretraining_dataset"
    train = sources(given, key, chosen, model, path)
    kept_out = sources(given, "test_datasets", chosen, model, path)
    share = held_out(given)
    document = {
        "model": str(folder) if folder is not None else name,
        "objective": chosen.value,
        **adapter_keys(given, path, rl=chosen.rl),
        **_course(given, chosen, path),
        "output": str(new_place(given.text("output_dir") or OUTPUT)),
    }
    if chosen.family == "groups" and (share or kept_out):
        given.remark("val_set_size" if share else "test_datasets", "ignored", "Prompts of grpo are all trained on.")
        share, kept_out = None, ()
    by = rendered_by(given)
    return ImportedTraining("axolotl", document, train, kept_out, share, (*given.remarks, *of_other_keys(given)), by)


def _course(given: ForeignKeys, chosen: ObjectiveChoice, path: Path) -> JsonObject:
    batch, kind = batch_of(given), given.text("adapter")
    found = course_keys(given, full=kind is None, four_bits=kind == "qlora")
    if isinstance(kwargs := given.any("chat_template_kwargs"), Mapping) and kwargs:
        found["chat_template_kwargs"] = dict(kwargs)
    if chosen.family == "groups":
        return found | group_keys(given, path, batch)
    found["batch_size"] = batch
    if chosen.family == "text":
        given.flag("sample_packing")
        sentence = "Documents are one stream, cut into rows of sequence_len; there a document begins a row of its own."
        given.remark("datasets", "differs", sentence)
        return found | {"max_tokens": text_row(given)}
    if given.flag("sample_packing"):
        given.remark(
            "sample_packing",
            "differs",
            f"A step there takes {batch} packed sequences of sequence_len, here {batch} rows, which are fewer tokens: raise "
            "micro_batch_size to train as many.",
        )
    return found | length_keys(given)
