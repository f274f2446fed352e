"""Trainings on the tiny model as they are exported."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import yaml

from lastresort.interop.exporting.export import ExportedFolder, export
from lastresort.interop.exporting.trained import training_from_file
from train_support import training_file

REWARDS = "def score(prompts, completions, **columns):\n    return [float(len(one)) for one in completions]\n"


def exported(
    folder: Path, to: str, objective: Any = "sft", rows: list[Any] | None = None, **keys: Any
) -> ExportedFolder:
    """Write a training file and export it."""
    path = training_file(folder, objective, rows, **keys)
    details = {"gpu": "l4"} if to == "skypilot" else {}
    return export(training_from_file(path), to, folder / f"export-{to}", **details)


def grouped(folder: Path, to: str, objective: Any = "grpo", **keys: Any) -> ExportedFolder:
    """A training with two rewards, one of them the user's own."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "mine.py").write_text(REWARDS, encoding="utf-8")
    rows = [{"prompt": f"Say {word}.", "completion": word, "hint": word[0]} for word in ("ape", "bee", "cat", "dog")]
    known: dict[str, Any] = {
        "reward": [{"python": "mine.py:score", "weight": 0.5}, {"exact": {}}],
        "group_size": 4,
        "max_new_tokens": 8,
        "batch_size": 2,
    }
    return exported(folder, to, objective, rows, **{**known, **keys})


def configuration(found: ExportedFolder, name: str) -> dict[str, Any]:
    read: dict[str, Any] = yaml.safe_load((found.folder / name).read_text(encoding="utf-8"))
    return read


def rows_in(found: ExportedFolder, name: str = "train.jsonl") -> list[dict[str, Any]]:
    return [json.loads(line) for line in (found.folder / name).read_text(encoding="utf-8").splitlines()]


def conversation(*turns: str) -> dict[str, Any]:
    """user and assistant in turn; a first turn that begins with "system:" is the system's."""
    told = list(turns)
    system = [{"role": "system", "content": told.pop(0)[7:]}] if told[0].startswith("system:") else []
    return {
        "messages": [
            *system,
            *({"role": ("user", "assistant")[n % 2], "content": text} for n, text in enumerate(told)),
        ]
    }


def saved_adapter(folder: Path) -> Path:
    """A LoRA adapter with weights on the tiny model in folder/model."""
    from transformers import AutoModelForCausalLM

    from adapters_support import tuned
    from tiny_model import save_tiny_model

    if not (folder / "model").exists():
        save_tiny_model(folder / "model")
    model = tuned(AutoModelForCausalLM.from_pretrained(folder / "model"), base_name=str(folder / "model"))
    model.save_pretrained(str(folder / "adapter"))
    return folder / "adapter"
