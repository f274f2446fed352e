"""Training files on the tiny model, with data of every kind, run through the command line in this process."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml

from lastresort.cli.border import guarded
from lastresort.cli.main import app
from lastresort.train.files.run_folder import StepLog
from tiny_model import save_tiny_model

ANIMALS = "ape bee cat dog elk fox gnu hen ibis jay koi lynx".split()


def lastresort(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> int:
    monkeypatch.setattr(sys, "argv", ["lastresort", *arguments])
    return guarded(app)


def pairs(n: int = 12) -> list[dict[str, Any]]:
    return [
        {"prompt": f"Name animal {i} of {n}.", "chosen": f"{name}!", "rejected": f"not {name}"}
        for i, name in enumerate(ANIMALS[:n])
    ]


def data_for(objective: str) -> list[dict[str, Any]]:
    """Rows that the objective trains on."""
    if objective == "sft":
        return [{"input": pair["prompt"], "output": pair["chosen"]} for pair in pairs()]
    if objective == "text":
        return [{"text": f"A {name} lives here, and it is number {i}."} for i, name in enumerate(ANIMALS)]
    if objective == "kto":
        return [
            {"prompt": pair["prompt"], "completion": pair["chosen" if i % 3 else "rejected"], "label": bool(i % 3)}
            for i, pair in enumerate(pairs())
        ]
    return pairs()


def write_rows(path: Path, rows: list[Any]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def training_file(folder: Path, objective: str = "dpo", rows: list[Any] | None = None, **keys: Any) -> Path:
    """Write rows, model (unless one is named) and training file; returns the path of the file."""
    folder.mkdir(parents=True, exist_ok=True)
    if "model" not in keys and not (folder / "model").exists():
        save_tiny_model(folder / "model")
    write_rows(folder / "rows.jsonl", data_for(objective) if rows is None else rows)
    known: dict[str, Any] = {
        "model": "./model",
        "objective": objective,
        "data": "rows.jsonl",
        "adapter": {"r": 4},
        "learning_rate": 0.003,
        "epochs": 2,
        "batch_size": 4,
        "precision": "float32",
        "output": "out",
    }
    kept = {key: value for key, value in {**known, **keys}.items() if value is not None}
    path = folder / "train.yaml"
    path.write_text(yaml.safe_dump(kept, sort_keys=False), encoding="utf-8")
    return path


def after_step(monkeypatch: pytest.MonkeyPatch, step: int, act: Callable[[], None]) -> None:
    add = StepLog.add

    def add_and_act(log: StepLog, line: Mapping[str, Any]) -> None:
        add(log, line)
        if line["step"] == step:
            act()

    monkeypatch.setattr(StepLog, "add", add_and_act)


def record(folder: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((folder / "training.json").read_text(encoding="utf-8"))
    return found
