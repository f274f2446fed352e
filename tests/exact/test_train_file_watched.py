"""`lastresort train` looks at how far it is from its base at the ends of epochs: the same figures whether it is cut or not."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from lastresort.engine.forest import Row
from lastresort.spec.training import load_training
from lastresort.train.files.run import run_training
from lastresort.train.loop.batches import completions
from lastresort.train.watch.kept import look_every, task_prompts
from lastresort.types import SilentProgress
from tiny_model import save_tiny_model
from train_support import record, training_file
from tuning_support import Cut, Scissors

FIGURES = ("kl_general", "kl_task", "perplexity", "base_perplexity")


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_tiny_model(tmp_path_factory.mktemp("base") / "model")


def run(folder: Path, model: Path, adapter: Any, progress: Any = None, *, resume: bool = False) -> dict[str, Any]:
    path = training_file(folder, "sft", model=str(model), adapter=adapter, epochs=3, batch_size=4, learning_rate=0.01)
    return run_training(load_training(path), resume=resume, progress=progress or SilentProgress()).as_json()


def looked(found: dict[str, Any]) -> list[dict[str, float]]:
    return [{name: line[name] for name in ("step", *FIGURES)} for line in found["steps"] if "perplexity" in line]


@pytest.mark.sampled(2)
@pytest.mark.parametrize("adapter", [{"kind": "lora", "r": 4}, "full"])
def test_a_run_that_was_cut_has_the_same_figures(adapter: Any, model: Path, tmp_path: Path) -> None:
    scissors = Scissors()
    whole = run(tmp_path / "whole", model, adapter, scissors)
    ends = [epoch * len(whole["steps"]) // 3 for epoch in (1, 2, 3)]
    assert [point["step"] for point in looked(whole)] == ends
    assert looked(whole)[-1]["kl_task"] > 0
    assert "early_warning" in record(tmp_path / "whole" / "out")
    with pytest.raises(Cut):
        run(tmp_path / "cut", model, adapter, Scissors(scissors.seen * 2 // 3))
    resumed = run(tmp_path / "cut", model, adapter, resume=True)
    assert looked(resumed) == looked(whole)
    assert [line["loss"] for line in resumed["steps"]] == [line["loss"] for line in whole["steps"]]


def test_answers_that_are_gone_are_not_made_by_a_model_that_is_no_base_any_more(model: Path, tmp_path: Path) -> None:
    path = training_file(tmp_path, "sft", model=str(model), adapter="full", checkpoint_every_s=0)
    scissors = Scissors()
    run_training(load_training(path, {"output": str(tmp_path / "first")}), resume=False, progress=scissors)
    with pytest.raises(Cut):
        run_training(load_training(path), resume=False, progress=Scissors(scissors.seen - 2))
    (tmp_path / "out" / "base_answers.json").unlink()
    found = run_training(load_training(path), resume=True, progress=SilentProgress()).as_json()
    assert "perplexity" not in found["steps"][-1]
    kept = json.loads((tmp_path / "first" / "base_answers.json").read_text(encoding="utf-8"))
    assert {name: len(rows) for name, rows in kept["watched"].items()}["general"] >= 4


def test_prompts_are_what_stands_before_the_answers() -> None:
    rows = [
        Row((5, 6, 7, 8), (False, False, True, True)),
        Row((5, 6, 9), (False, False, True)),
        Row((1, 2), (False, True)),
    ]
    assert task_prompts(completions(rows)) == [(5, 6)]


def test_long_trainings_are_looked_at_eight_times() -> None:
    assert [look_every(epochs) for epochs in (1, 8, 9, 100)] == [1, 1, 2, 13]
