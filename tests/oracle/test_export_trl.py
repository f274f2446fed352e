"""The script that is written for TRL, run by TRL: it trains, its adapter loads, and its first loss is that of `lastresort train`.

The template of the tiny model writes nothing after an answer's end token here, so that both train the very same tokens.
"""

from __future__ import annotations

import json
import runpy
import sys
from pathlib import Path
from typing import Any

import pytest

from export_support import exported, grouped
from lastresort.spec.training import load_training
from lastresort.train.files.run import run_training
from lastresort.types import SilentProgress
from tiny_model import save_tiny_model
from train_support import data_for

WHOLE = {"batch_size": 12, "epochs": 1, "warmup": 0.0}  # one step of all rows, in three passes there


def model_without_a_line_break(folder: Path) -> Path:
    place = save_tiny_model(folder / "model")
    template = place / "chat_template.jinja"
    template.write_text(template.read_text(encoding="utf-8").replace("<|im_end|>\n", "<|im_end|>"), encoding="utf-8")
    return place


def run(folder: Path) -> dict[str, Any]:
    """Run the script in this process. Returns its log's first entry."""
    runpy.run_path(str(folder / "train.py"), run_name="__main__")
    [state] = (folder / "out").glob("checkpoint-*/trainer_state.json")
    first: dict[str, Any] = json.loads(state.read_text(encoding="utf-8"))["log_history"][0]
    return first


@pytest.mark.sampled(5)
@pytest.mark.parametrize(
    ("objective", "tolerance"),
    [
        ("sft", 1e-4),
        ({"simpo": {"beta": 1.5, "gamma": 0.4}}, 1e-4),
        ({"ipo": {"per_token": True}}, 1e-3),
        ("hinge", 1e-4),
        ({"kto": {"desirable_weight": 1.5}}, 1e-4),
    ],
)
def test_the_first_loss_is_ours(objective: Any, tolerance: float, tmp_path: Path) -> None:
    model_without_a_line_break(tmp_path)
    name = objective if isinstance(objective, str) else next(iter(objective))
    found = exported(tmp_path, "trl", objective, data_for(name), **WHOLE)
    theirs = run(found.folder)
    ours = run_training(load_training(tmp_path / "train.yaml"), resume=False, progress=SilentProgress()).as_json()
    assert theirs["loss"] == pytest.approx(ours["steps"][0]["loss"], abs=tolerance)


def test_its_adapter_is_loaded_by_peft_and_has_moved(tmp_path: Path) -> None:
    from peft import PeftModel
    from transformers import AutoModelForCausalLM

    found = exported(
        tmp_path,
        "trl",
        "dpo",
        epochs=2,
        data={"train": "rows.jsonl", "eval": 0.25},
        adapter={"r": 4, "target": ["q_proj"]},
    )
    runpy.run_path(str(found.folder / "train.py"), run_name="__main__")
    base = AutoModelForCausalLM.from_pretrained(tmp_path / "model")
    tuned = PeftModel.from_pretrained(base, found.folder / "out" / "adapter")
    moved = {name: float(weight.abs().sum()) for name, weight in tuned.named_parameters() if "lora_B" in name}
    assert len(moved) == 2
    assert all(total > 0 for total in moved.values())
    assert all("q_proj" in name for name in moved)


def test_its_trainer_takes_lora_plus_from_peft(tmp_path: Path) -> None:
    """One step of all rows: Adam's first moves every weight by its learning rate, so that B has moved by 4 times the other's."""
    from safetensors.torch import load_file

    course = WHOLE | {"learning_rate": 1e-3, "adapter": {"r": 4, "target": ["q_proj"]}}
    moved = []
    for ratio in (1, 4):
        folder = tmp_path / str(ratio)
        folder.mkdir()
        model_without_a_line_break(folder)
        found = exported(folder, "trl", "sft", data_for("sft"), loraplus_lr_ratio=ratio, **course)
        assert run(found.folder)["learning_rate"] == 1e-3
        weights = load_file(found.folder / "out" / "adapter" / "adapter_model.safetensors")
        moved.append(max(float(weight.abs().max()) for name, weight in weights.items() if "lora_B" in name))
    assert moved == pytest.approx([1e-3, 4e-3], rel=1e-3)


def test_rewards_are_called_by_its_grpo(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = grouped(tmp_path, "trl", "dapo", epochs=1)
    monkeypatch.syspath_prepend(str(found.folder))  # as where python starts a script
    monkeypatch.delitem(sys.modules, "rewards", raising=False)
    runpy.run_path(str(found.folder / "train.py"), run_name="__main__")
    [state] = (found.folder / "out").glob("checkpoint-*/trainer_state.json")
    history = json.loads(state.read_text(encoding="utf-8"))["log_history"]
    named = {key for entry in history for key in entry if key.startswith("rewards/") and key.endswith("/mean")}
    assert named == {"rewards/python_1/mean", "rewards/exact_2/mean"}
