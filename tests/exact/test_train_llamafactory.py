"""A LLaMA-Factory file trains as it is: to an adapter that loads, and to the same weights as our own file of the same meaning."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from safetensors.torch import load_file

from lastresort.train.adapters.folder import read_adapter
from llamafactory_support import data_set
from tiny_model import save_tiny_model
from train_support import ANIMALS, lastresort, training_file

COURSE = {
    "num_train_epochs": 1,
    "per_device_train_batch_size": 2,
    "gradient_accumulation_steps": 2,
    "learning_rate": 1e-3,
}
ENTRIES: dict[str, dict[str, Any]] = {
    "sft": {},
    "dpo": {"ranking": True, "columns": {"prompt": "instruction", "chosen": "output", "rejected": "worse"}},
    "kto": {"columns": {"prompt": "instruction", "response": "output", "kto_tag": "good"}},
    "pt": {"columns": {"prompt": "output"}},
}


def rows() -> list[dict[str, Any]]:
    return [
        {
            "instruction": f"Name animal {i}.",
            "input": "",
            "output": f"{name}!",
            "worse": f"not {name}",
            "good": i % 3 > 0,
        }
        for i, name in enumerate(ANIMALS)
    ]


def llamafactory_file(folder: Path, stage: str, **keys: Any) -> Path:
    model = save_tiny_model(folder / "model")
    named = data_set(folder, rows(), **ENTRIES[stage])
    known = {"model_name_or_path": str(model), "stage": stage, "do_train": True, **named, **COURSE, **keys}
    path = folder / "train.yaml"
    path.write_text(yaml.safe_dump(known | {"output_dir": str(folder / "saves")}))
    return path


@pytest.mark.sampled(8)
@pytest.mark.parametrize("template", [None, "chatml"])
@pytest.mark.parametrize("stage", ["sft", "dpo", "kto", "pt"])
def test_every_stage_trains_to_an_adapter(
    stage: str,
    template: str | None,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    path = llamafactory_file(tmp_path, stage, logging_steps=1, **({"template": template} if template else {}))
    assert lastresort(monkeypatch, "train", str(path), "--set", "lora_rank=4", "--json") == 0
    out, said = capsys.readouterr()
    assert json.loads(out)["file"]["adapter"]["r"] == 4
    assert "differs: logging_steps does not change the result" in said
    read_adapter(tmp_path / "saves" / "adapter")
    steps = json.loads((tmp_path / "saves" / "training.json").read_text())["trained"]["step"]
    assert steps == (1 if stage == "pt" else 3)


def test_the_weights_are_those_of_our_own_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    theirs = llamafactory_file(tmp_path, "sft", disable_gradient_checkpointing=True)
    ours = training_file(
        tmp_path / "ours",
        "sft",
        [{"messages": [{"role": "user", "content": row["instruction"]}, {"role": "assistant", "content": row["output"]}]}
         for row in rows()],
        model=str(tmp_path / "model"),
        adapter={"kind": "lora", "r": 8, "alpha": 16, "target": "all-linear"},
        epochs=1,
        batch_size=4,
        learning_rate=1e-3,
        warmup=0.0,
        seed=42,
        precision="auto",
        output="out",
    )  # fmt: skip
    assert lastresort(monkeypatch, "train", str(theirs)) == 0
    assert lastresort(monkeypatch, "train", str(ours)) == 0
    first, second = (
        load_file(folder / "adapter" / "adapter_model.safetensors")
        for folder in (tmp_path / "saves", tmp_path / "ours" / "out")
    )
    assert first.keys() == second.keys()
    assert all(first[name].equal(second[name]) for name in first)


def test_too_many_rows_held_out_are_refused_by_the_key_of_the_users_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    path = llamafactory_file(tmp_path, "sft", val_size=60)
    assert lastresort(monkeypatch, "train", str(path)) == 2
    assert 'train.yaml, key "val_size": found 60 of 12 different prompts to hold out' in capsys.readouterr().err


def test_an_origin_that_names_no_file_is_passed_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Anybody may write it; it decides nothing."""
    path = training_file(tmp_path, data={"train": "rows.jsonl", "eval": 60}, origin={"eval_key": "val_size"})
    assert lastresort(monkeypatch, "train", str(path)) == 2
    assert f'{path}, key "val_size": found 60 of' in capsys.readouterr().err


def test_a_held_out_part_of_one_prompt_is_refused_by_the_key_of_the_users_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    path = llamafactory_file(tmp_path, "kto", val_size=1)
    assert lastresort(monkeypatch, "train", str(path)) == 2
    assert "Raise val_size from 1, or leave it out: there may be too few rows" in capsys.readouterr().err


def test_strict_refuses_what_is_not_honoured(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    path = llamafactory_file(tmp_path, "sft", disable_shuffling=True)
    assert lastresort(monkeypatch, "train", str(path), "--strict") == 2
    assert "disable_shuffling is ignored" in capsys.readouterr().err
    assert not (tmp_path / "saves").exists()
