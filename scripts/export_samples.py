"""Trainings on a tiny model, one of every kind that can be exported: what `check_exports.py` hands to the other frameworks."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))
from adapters_support import tuned
from tiny_model import save_tiny_model

ANIMALS = "ape bee cat dog elk fox gnu hen ibis jay koi lynx".split()
PAIRS = [
    {"prompt": f"Name animal {n}.", "chosen": f"{name}!", "rejected": f"not {name}"} for n, name in enumerate(ANIMALS)
]
TALK = [
    {
        "messages": [
            {"role": "system", "content": "Be brief."},
            {"role": "user", "content": f"Animal {n}?"},
            {"role": "assistant", "content": name},
            {"role": "user", "content": "Again."},
            {"role": "assistant", "content": f"{name}!"},
        ]
    }
    for n, name in enumerate(ANIMALS)
]
ANSWERS = [{"prompt": row["prompt"], "completion": row["chosen"]} for row in PAIRS]
LABELS = [
    {"prompt": row["prompt"], "completion": row["chosen" if n % 3 else "rejected"], "label": bool(n % 3)}
    for n, row in enumerate(PAIRS)
]
TEXTS = [
    {"text": f"A {name} lives in the wood beyond the hill, and nobody has seen it since number {n}."}
    for n, name in enumerate(ANIMALS)
]
SEGMENTS = [
    {"segments": [{"text": f"Q: {n}\nA:"}, {"text": f" {name}", "train": True, "end": True}]}
    for n, name in enumerate(ANIMALS)
]
PROMPTS = [{"prompt": f"Say {name}.", "completion": name} for name in ANIMALS]
GROUPS = {
    "reward": [{"exact": {}, "weight": 1.0}, {"regex": "^[a-z]+$", "weight": 0.5}],
    "group_size": 4,
    "max_new_tokens": 8,
    "batch_size": 2,
    "epochs": 1,
}
# Of several answers TRL learns what a template marks as the assistant's; it knows how to mark the usual models' own.
MARKED = (
    "{% for m in messages %}<|im_start|>{{ m['role'] }}\n{% if m['role'] == 'assistant' %}{% generation %}{{ m['content'] }}"
    "<|im_end|>{% endgeneration %}{% else %}{{ m['content'] }}<|im_end|>{% endif %}\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
HELD = {"data": {"train": "rows.jsonl", "eval": 0.25}}

# name -> rows, keys of the training file
SAMPLES: dict[str, tuple[list[Any], dict[str, Any]]] = {
    "sft": (ANSWERS, {"objective": "sft", **HELD}),
    "sft-turns": (TALK, {"objective": "sft", "model": "../marked"}),
    "sft-last-turn": (TALK, {"objective": "sft", "trained_turns": "last"}),
    "sft-segments": (SEGMENTS, {"objective": "sft"}),
    "sft-qlora": (
        ANSWERS,
        {"objective": "sft", "adapter": "qlora", "precision": "auto", "optimizer": "paged_adamw_8bit"},
    ),
    "sft-rslora": (
        ANSWERS,
        {"objective": "sft", "adapter": {"kind": "rslora", "target": "all-linear"}, "schedule": "cosine"},
    ),
    "sft-loraplus": (ANSWERS, {"objective": "sft", "loraplus_lr_ratio": 8.0}),
    "sft-dora": (ANSWERS, {"objective": "sft", "adapter": {"kind": "dora", "dropout": 0.1}, "schedule": "constant"}),
    "sft-full": (ANSWERS, {"objective": "sft", "adapter": "full", "warmup": 2, "max_steps": 4}),
    "text": (TEXTS, {"objective": "text", "max_tokens": 64}),
    "dpo": (PAIRS, {"objective": {"dpo": {"beta": 0.2, "label_smoothing": 0.1}}, **HELD}),
    "dpo-goes-on": (PAIRS, {"objective": "dpo", "start_from": "../adapter", "adapter": None}),
    "ipo": (PAIRS, {"objective": {"ipo": {"per_token": True}}}),
    "hinge": (PAIRS, {"objective": "hinge"}),
    "simpo": (PAIRS, {"objective": "simpo"}),
    "apo_zero": (PAIRS, {"objective": "apo_zero"}),
    "orpo": (PAIRS, {"objective": "orpo"}),
    "kto": (LABELS, {"objective": {"kto": {"desirable_weight": 1.5}}}),
    "grpo": (PROMPTS, {"objective": {"grpo": {"kl_weight": 0.02}}, **GROUPS}),
    "dr_grpo": (PROMPTS, {"objective": "dr_grpo", **GROUPS}),
    "dapo": (PROMPTS, {"objective": "dapo", **GROUPS}),
}


def samples(folder: Path) -> Iterator[tuple[str, Path]]:
    """Write model, adapter and training files; name and training file of each."""
    from transformers import AutoModelForCausalLM

    save_tiny_model(folder / "model")
    (save_tiny_model(folder / "marked") / "chat_template.jinja").write_text(MARKED, encoding="utf-8")
    adapter = tuned(AutoModelForCausalLM.from_pretrained(folder / "model"), base_name=str(folder / "model"))
    adapter.save_pretrained(str(folder / "adapter"))
    for name, (rows, keys) in SAMPLES.items():
        place = folder / name
        place.mkdir()
        text = "".join(json.dumps(row) + "\n" for row in rows)
        (place / "rows.jsonl").write_text(text, encoding="utf-8")
        known = {
            "model": "../model",
            "data": "rows.jsonl",
            "batch_size": 6,
            "epochs": 2,
            "precision": "float32",
            "seed": 3,
        }
        document = {key: value for key, value in {**known, **keys}.items() if value is not None}
        (place / "train.yaml").write_text(yaml.safe_dump(document, sort_keys=False), encoding="utf-8")
        yield name, place / "train.yaml"
