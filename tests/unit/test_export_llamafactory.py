"""Trainings written for LLaMA-Factory: its YAML, its dataset_info.json, and what it has no counterpart of."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from export_support import configuration, conversation, exported, grouped, rows_in, saved_adapter
from lastresort.errors import DataError, InputError
from lastresort.interop.exporting.export import ExportedFolder
from train_support import pairs

CONFIG = "llamafactory.yaml"
LABELLED = [{"prompt": f"{n}?", "completion": "Yes.", "label": n % 2 == 0} for n in range(6)]


def info(found: ExportedFolder) -> dict[str, Any]:
    read: dict[str, Any] = json.loads((found.folder / "dataset_info.json").read_text(encoding="utf-8"))
    return read


def test_the_course_of_a_training_is_said_key_by_key(tmp_path: Path) -> None:
    found = configuration(
        exported(
            tmp_path, "llamafactory", learning_rate=2e-4, epochs=3, batch_size=8, schedule="cosine", warmup=5, weight_decay=0.02,
            max_grad_norm=0.5, seed=7, checkpointing=True, max_tokens=512, max_steps=4, adapter={"r": 8, "dropout": 0.1},
            optimizer="paged_adamw_8bit", data={"train": "rows.jsonl", "eval": 0.25},
        ),
        CONFIG,
    )  # fmt: skip
    said = {
        "stage": "sft",
        "finetuning_type": "lora",
        "lora_rank": 8,
        "lora_alpha": 16,
        "lora_dropout": 0.1,
        "lora_target": "q_proj,k_proj,v_proj,o_proj",
        "model_name_or_path": "../model",
        "dataset_dir": ".",
        "dataset": "train",
        "eval_dataset": "eval",
        "eval_strategy": "epoch",
        "cutoff_len": 512,
        "learning_rate": 2e-4,
        "num_train_epochs": 3,
        "per_device_train_batch_size": 4,
        "gradient_accumulation_steps": 2,
        "lr_scheduler_type": "cosine",
        "warmup_steps": 5,
        "weight_decay": 0.02,
        "max_grad_norm": 0.5,
        "seed": 7,
        "disable_gradient_checkpointing": False,
        "max_steps": 4,
        "optim": "paged_adamw_8bit",
        "bf16": False,
    }
    assert {key: found.get(key) for key in said} == said
    assert "warmup_ratio" not in found


@pytest.mark.parametrize(
    ("adapter", "said"),
    [
        ("qlora", {"quantization_bit": 4, "quantization_method": "bnb", "finetuning_type": "lora"}),
        ("rslora", {"use_rslora": True}),
        ("dora", {"use_dora": True}),
        ("full", {"finetuning_type": "full", "bf16": False}),
        ({"target": "all-linear"}, {"lora_target": "all"}),
    ],
)
def test_the_adapter(adapter: Any, said: dict[str, Any], tmp_path: Path) -> None:
    found = configuration(exported(tmp_path, "llamafactory", adapter=adapter, precision=None), CONFIG)
    assert {key: found.get(key) for key in said} == said


@pytest.mark.parametrize(
    ("objective", "said"),
    [
        (
            {"dpo": {"beta": 0.3, "label_smoothing": 0.1}},
            {"pref_loss": "sigmoid", "pref_beta": 0.3, "dpo_label_smoothing": 0.1},
        ),
        ("ipo", {"pref_loss": "ipo", "pref_beta": 0.1}),
        ("hinge", {"pref_loss": "hinge", "pref_beta": 0.1}),
        ({"simpo": {"gamma": 0.7}}, {"pref_loss": "simpo", "pref_beta": 2.0, "simpo_gamma": 0.7}),
        ({"orpo": {"weight": 0.2}}, {"pref_loss": "orpo", "pref_beta": 0.2}),
    ],
)
def test_the_losses_on_pairs(objective: Any, said: dict[str, Any], tmp_path: Path) -> None:
    found = exported(tmp_path, "llamafactory", objective, pairs())
    config = configuration(found, CONFIG)
    assert {key: config.get(key) for key in ("stage", *said)} == {"stage": "dpo", **said}
    assert info(found)["train"]["ranking"] is True
    assert rows_in(found)[0] == {
        "messages": [{"role": "user", "content": "Name animal 0 of 12."}],
        "chosen": {"role": "assistant", "content": "ape!"},
        "rejected": {"role": "assistant", "content": "not ape"},
    }


@pytest.mark.parametrize(("objective", "named"), [("ipo", True), ("hinge", True), ("dpo", False)])
def test_the_losses_that_it_computes_as_sigmoid_with_newer_trl_are_named(
    objective: str, named: bool, tmp_path: Path
) -> None:
    found = exported(tmp_path, "llamafactory", objective)
    assert any(f"{objective} is computed as sigmoid" in note for note in found.notes) == named
    assert ("'trl<0.20'" in (found.folder / "README.md").read_text(encoding="utf-8")) == named


def test_kto_with_its_tag_and_a_pass_of_the_whole_batch(tmp_path: Path) -> None:
    found = exported(tmp_path, "llamafactory", {"kto": {"undesirable_weight": 0.5}}, LABELLED)
    config = configuration(found, CONFIG)
    assert (config["stage"], config["kto_chosen_weight"], config["kto_rejected_weight"]) == ("kto", 1.0, 0.5)
    assert (config["per_device_train_batch_size"], config["gradient_accumulation_steps"]) == (4, 1)
    assert info(found)["train"]["columns"] == {"messages": "messages", "kto_tag": "label"}


def test_text_is_its_pretraining(tmp_path: Path) -> None:
    found = exported(tmp_path, "llamafactory", "text")
    config = configuration(found, CONFIG)
    assert (config["stage"], config["packing"], config["cutoff_len"]) == ("pt", True, 1024)
    assert info(found) == {"train": {"file_name": "train.jsonl", "columns": {"prompt": "text"}}}


def test_the_last_turn_alone(tmp_path: Path) -> None:
    found = exported(tmp_path, "llamafactory", "sft", [conversation("a", "b", "c", "d")], trained_turns="last")
    assert configuration(found, CONFIG)["mask_history"] is True


def test_the_reference_of_a_training_that_goes_on_is_the_adapter(tmp_path: Path) -> None:
    found = exported(tmp_path, "llamafactory", "dpo", adapter=None, start_from=str(saved_adapter(tmp_path)))
    config = configuration(found, CONFIG)
    assert (config["adapter_name_or_path"], config["create_new_adapter"]) == ("start", False)
    assert (config["ref_model"], config["ref_model_adapters"]) == ("../model", "start")
    assert "lora_rank" not in config  # the adapter has its own


@pytest.mark.parametrize("objective", ["apo_zero", "grpo"])
def test_what_has_no_counterpart_is_one_sentence(objective: str, tmp_path: Path) -> None:
    make = grouped if objective == "grpo" else exported
    with pytest.raises(InputError, match=f"LLaMA-Factory has no counterpart of objective: {objective}"):
        make(tmp_path, "llamafactory", objective)
    assert not (tmp_path / "export-llamafactory").exists()


def test_a_row_that_it_would_leave_out_is_refused(tmp_path: Path) -> None:
    talk = conversation("a", "b")["messages"]
    rows = [{"messages": talk}, {"messages": [talk[0], *talk]}]
    with pytest.raises(DataError, match=r"row 2 of those to export.*turns of user, user, assistant"):
        exported(tmp_path, "llamafactory", "sft", rows)
