"""Folders of adapters: settings, patterns of layers, weights, and notes about the base."""

from __future__ import annotations

from typing import Any

from cases_model import WEIGHTS
from corpus import Case
from model_files import TEXTS, VALUES, Change, cut, fifo, gone, keys, linked, merging, put, training

CONFIG = "adapter/adapter_config.json"


def settings(**values: Any) -> Change:
    return keys(CONFIG, **values)


NUMBERS = ("r", "lora_alpha", "lora_dropout")
OTHERS = (
    "target_modules",
    "rank_pattern",
    "alpha_pattern",
    "exclude_modules",
    "modules_to_save",
    "layers_to_transform",
    "layers_pattern",
    "peft_type",
    "base_model_name_or_path",
    "use_rslora",
    "use_dora",
    "bias",
    "init_lora_weights",
    "task_type",
    "fan_in_fan_out",
)
SLOW = "(([a-z_.0-9]+)+)+!"
PATTERNS = {
    "of nested repetition": SLOW,
    "without an end": "(",
    "with an unknown group": "(?P=nope)",
    "with a huge count": "a{99999999999999999999}",
    "of 100,000 brackets": "(" * 100_000 + ")" * 100_000,
    "that looks behind": "(?<=a+)b",
}
BROKEN = ("without an end", "with an unknown group", "with a huge count")

CASES: dict[str, Case] = {
    "as it is": Case(merging(), "accepted"),
    "a pattern of layers": Case(
        merging(settings(target_modules=r".*\.self_attn\.(q|k|v|o)_proj|.*\.mlp\..*_proj")), "accepted"
    ),
    **{f"the settings are {what}": Case(merging(put(CONFIG, text))) for what, text in TEXTS.items()},
    **{
        f"{key} is {what}": Case(merging(settings(**{key: VALUES[what]})), "either")
        for names, values in ((NUMBERS, ("text", "a list", "0", "-1", "10^18", "infinite")), (OTHERS, ("text", "-1")))
        for key in names
        for what in values
    },
    **{f"target_modules {what}": Case(merging(settings(target_modules=p))) for what, p in PATTERNS.items()},
    **{f"rank_pattern {what}": Case(merging(settings(rank_pattern={p: 4}))) for what, p in PATTERNS.items()},
    **{f"exclude_modules {w}": Case(merging(settings(exclude_modules=PATTERNS[w]))) for w in BROKEN},
    **{f"alpha_pattern {w}": Case(merging(settings(alpha_pattern={PATTERNS[w]: 4}))) for w in BROKEN},
    "a rank of text by layer": Case(merging(settings(rank_pattern={"q_proj": "4"}))),
    "a rank of 10^9 by layer": Case(merging(settings(rank_pattern={"q_proj": 10**9}))),
    "an endless scale by layer": Case(merging(settings(alpha_pattern={"q_proj": float("inf")}))),
    "layers that are copied a billion times": Case(merging(settings(layer_replication=[[0, 10**9]]))),
    "a module to import": Case(merging(settings(megatron_config={"a": 1}, megatron_core="antigravity"))),
    "a library to import": Case(
        merging(settings(auto_mapping={"parent_library": "antigravity", "base_model_class": "X"})), "either"
    ),
    "settings of Arrow": Case(merging(settings(arrow_config={"top_k": 1})), "either"),
    "settings of Arrow that are text": Case(merging(settings(arrow_config="x")), "either"),
    "settings of EVA": Case(merging(settings(eva_config={"rho": -1}, init_lora_weights="eva")), "either"),
    "settings of LoftQ": Case(merging(settings(loftq_config={"loftq_bits": 4}, init_lora_weights="loftq")), "either"),
    "an unknown key": Case(merging(settings(evil=1)), "either"),
    "no peft_type": Case(merging(settings(peft_type=None))),
    "an adapter of IA3": Case(merging(settings(peft_type="IA3"))),
    "a base that is a path out of here": Case(merging(settings(base_model_name_or_path="../../../etc")), "accepted"),
    "the settings are a device": Case(merging(linked(CONFIG, "/dev/zero"))),
    "the settings are a FIFO": Case(merging(fifo(CONFIG))),
    "the settings are the environment": Case(merging(linked(CONFIG, "/proc/self/environ"))),
    "no settings": Case(merging(gone(CONFIG))),
    **{
        f"weights: {what}": Case(merging(put("adapter/adapter_model.safetensors", data)))
        for what, data in WEIGHTS.items()
    },
    **{
        f"weights cut at {s:.0%}": Case(merging(cut("adapter/adapter_model.safetensors", s))) for s in (0.01, 0.5, 0.99)
    },
    "weights that are a FIFO": Case(merging(fifo("adapter/adapter_model.safetensors"))),
    "weights that are a device": Case(merging(linked("adapter/adapter_model.safetensors", "/dev/zero"))),
    "pickled weights alone": Case(
        merging(gone("adapter/adapter_model.safetensors"), put("adapter/adapter_model.bin", b"\x80\x02}q\x00."))
    ),
    **{
        f"trained_on.json is {what}": Case(merging(put("adapter/trained_on.json", text)))
        for what, text in TEXTS.items()
    },
    "a file as the adapter": Case(lambda folder: _file(folder)),
    "an adapter to start from that is none": Case(training(start_from="./model"), named="model"),
}


def _file(folder: Any) -> list[str]:
    merging()(folder)
    return ["merge", "adapter/adapter_config.json", "--base", "model", "--out", "merged"]
