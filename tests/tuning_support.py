"""Tasks on the tiny model, small enough that a climb of rungs that train takes seconds; and scissors that cut a climb."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from lastresort.app.climb import Climbed, climb
from lastresort.records.events.search import PromptOptimised
from lastresort.records.record import Record
from lastresort.spec.task import load_task
from lastresort.types import SILENT, Progress
from tiny_model import save_tiny_model

SUPERVISED = {"learning_rates": [0.003], "epochs": 2, "r": 4, "replay": 0.1, "loraplus_lr_ratio": 2}
COLOURS = ("red", "blue", "green")
THINGS = "ape bee cat dog elk fox gnu hen ibis jay koi lynx mole newt owl pig rat seal toad urchin vole wolf yak zebra".split()
SCORE = """
def letters(answer, expected):  # any model reaches some of it
    return min(1.0, len(set(answer)) / 6)

def begins(answer, expected):  # nothing in the inputs tells which
    return float(answer[:1] == expected[:1])

def vowels(answer, expected):
    return min(1.0, sum(c in "aeiou" for c in answer) / 3)
"""


class Cut(BaseException):
    """Stands for the end of the process: nothing in the program catches it."""


class Scissors:
    """Progress that ends the process at the n-th sign of life. labels: of all stages. said: all that was said."""

    def __init__(self, at: int | None = None) -> None:
        self.left, self.seen = at, 0
        self.labels: list[str] = []
        self.said: list[str] = []

    def stage(self, label: str, total: int | None = None, done: int = 0) -> None:
        self.labels.append(label)
        self._sign()

    def advance(self, amount: int = 1, note: str = "") -> None:
        self._sign()

    def say(self, text: str) -> None:
        self.said.append(text)
        self._sign()

    def _sign(self) -> None:
        self.seen += 1
        if self.left is not None and self.seen >= self.left:
            raise Cut


class CutAt(Scissors):
    """Ends the process at the n-th sign of life after a stage of this name began."""

    def __init__(self, label: str, after: int) -> None:
        super().__init__()
        self._label, self._after = label, after

    def stage(self, label: str, total: int | None = None, done: int = 0) -> None:
        if self.left is None and label.startswith(self._label):
            self.left = self.seen + self._after
        super().stage(label, total)


def cut_after_the_search(monkeypatch: pytest.MonkeyPatch) -> list[PromptOptimised]:
    """Ends the process once, before the result of an optimised prompt is noted, which goes into the list."""
    append, unnoted = Record.append, list[PromptOptimised]()

    def appended(self: Record, event: Any) -> int:
        if isinstance(event, PromptOptimised) and not unnoted:
            unnoted.append(event)
            raise Cut
        return append(self, event)

    monkeypatch.setattr(Record, "append", appended)
    return unnoted


def questions(n: int = 120) -> list[dict[str, str]]:
    return [{"input": f"{THINGS[i % 24]} {i}?", "output": COLOURS[i * 7 % 3]} for i in range(n)]


def pairs(n: int = 60) -> list[dict[str, str]]:
    """Pairs on prompts that are no input of `questions`."""
    return [{"prompt": f"{THINGS[i % 24]} #{i}", "chosen": COLOURS[i % 3], "rejected": "no idea"} for i in range(n)]


def labels(n: int = 60) -> list[dict[str, Any]]:
    return [
        {"prompt": f"{THINGS[i % 24]} #{i}", "completion": COLOURS[i % 3] if i % 2 else "hm", "label": bool(i % 2)}
        for i in range(n)
    ]


def write_jsonl(path: Path, found: list[Any]) -> None:
    path.write_text("".join(json.dumps(row) + "\n" for row in found), encoding="utf-8")


def tiny_task(folder: Path, *, preferences: list[Any] | None = None, head: float = 1.0, **keys: Any) -> Path:
    """Write model, rows, preferences and task file; returns the path of the task file. head: what the model's output layer is
    multiplied by, so that what it has learned shows in its samples too.
    """
    folder.mkdir(parents=True, exist_ok=True)
    if not (folder / "model").exists():
        save_tiny_model(folder / "model")
        _sharpen(folder / "model", head)
    write_jsonl(folder / "rows.jsonl", questions())
    (folder / "score.py").write_text(SCORE, encoding="utf-8")
    task: dict[str, Any] = {
        "task": "tiny",
        "about": "Name it.",
        "model": "model",
        "ladder": ["sft", "preference"],
        "examples": "rows.jsonl",
        "split": {"dev": 20, "test": 30},
        "score": {"python": "score.py:letters"},
        "bar": 0.7,
        "sft": {"learning_rates": [0.003], "epochs": 1, "r": 4, "replay": 0.0},
        "preference": {"learning_rates": [0.001, 0.003], "epochs": 2},
        "full": {"learning_rates": [0.001, 0.003], "epochs": 2, "replay": 0.1},
        "decode": {"max_new_tokens": 6},
        **keys,
    }
    if preferences is not None:
        write_jsonl(folder / "preferences.jsonl", preferences)
        task["preferences"] = "preferences.jsonl"
    (folder / "task.yaml").write_text(yaml.safe_dump(task, sort_keys=False), encoding="utf-8")
    return folder / "task.yaml"


def _sharpen(folder: Path, head: float) -> None:
    import torch
    from safetensors.torch import load_file, save_file

    weights = load_file(folder / "model.safetensors")
    with torch.no_grad():
        weights["lm_head.weight"] *= head
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})


def climbed(path: Path, run: Path, scissors: Progress = SILENT) -> Climbed:
    return climb(load_task(path), run, progress=scissors, gate="none")


def steps_of(record: Record, name: str) -> list[dict[str, float]]:
    """The points of a curve that are steps of training."""
    return [point for point in record.curve(name) if "loss" in point]


def early_figures(run: Path) -> dict[str, list[dict[str, float]]]:
    """How far each kept checkpoint is from the base, of all curves."""
    with Record.open(run, read_only=True) as record:
        curves = record.curves()
    names = ("step", "kl_general", "kl_task", "perplexity", "base_perplexity")
    looked = {
        name: [{key: point[key] for key in names} for point in curve if "perplexity" in point]
        for name, curve in curves.items()
    }
    return {name: points for name, points in looked.items() if points}


def tuned_files(run: Path) -> dict[str, bytes]:
    """What training left, by name."""
    found = [*(run / "adapters").glob("*/adapter_model.safetensors"), *(run / "models").glob("*/model.safetensors")]
    return {path.parent.name: path.read_bytes() for path in sorted(found)}
