"""Read from LLaMA-Factory, written for it, and read again: every key that is honoured says the same."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from lastresort.interop import reading
from lastresort.interop.foreign_keys import ImportedTraining
from llamafactory_support import ROWS, data_set, rows_of
from tiny_model import save_tiny_model
from train_support import lastresort

PAIRED = {"ranking": True, "columns": {"prompt": "instruction", "chosen": "output", "rejected": "worse"}}
LABELLED = {"columns": {"prompt": "instruction", "response": "output", "kto_tag": "good"}}


@pytest.mark.parametrize(
    ("entry", "keys"),
    [
        (
            {},
            {
                "stage": "sft",
                "per_device_train_batch_size": 2,
                "max_steps": 7,
                "warmup_steps": 3,
                "lora_dropout": 0.05,
                "use_rslora": True,
            },
        ),
        (
            {},
            {
                "stage": "sft",
                "finetuning_type": "full",
                "mask_history": True,
                "weight_decay": 0.1,
                "max_grad_norm": 0.5,
            },
        ),
        ({}, {"stage": "sft", "quantization_bit": 4, "lora_target": "q_proj,v_proj", "cutoff_len": 512, "seed": 7}),
        (PAIRED, {"stage": "dpo", "pref_beta": 0.3, "dpo_label_smoothing": 0.1, "lr_scheduler_type": "cosine"}),
        (PAIRED, {"stage": "dpo", "pref_loss": "ipo", "use_dora": True}),
        (PAIRED, {"stage": "dpo", "pref_loss": "orpo", "warmup_ratio": 0.1}),
        (PAIRED, {"stage": "dpo", "pref_loss": "simpo", "simpo_gamma": 1.5, "pref_beta": 2.0}),
        (LABELLED, {"stage": "kto", "kto_chosen_weight": 1.3, "disable_gradient_checkpointing": True}),
        ({"columns": {"prompt": "output"}}, {"stage": "pt", "learning_rate": 1e-4, "num_train_epochs": 2}),
    ],
)
def test_honoured_keys_and_rows_stay(
    entry: dict[str, Any], keys: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = [row | {"worse": "No.", "good": number % 2 == 0} for number, row in enumerate(ROWS)]
    named = data_set(tmp_path, rows, **entry)
    path = tmp_path / "train.yaml"
    model = str(save_tiny_model(tmp_path / "model"))
    path.write_text(
        yaml.safe_dump(
            {"model_name_or_path": model, "do_train": True, "bf16": True, "output_dir": "out", **named, **keys}
        )
    )
    first = reading.read(path)
    own = reading.write_imported(first, tmp_path / "out", path)
    assert lastresort(monkeypatch, "export", str(own), "--to", "llamafactory", "--out", str(tmp_path / "there")) == 0
    second = reading.read(tmp_path / "there" / "llamafactory.yaml")
    assert _without_output(second) == _without_output(first)
    assert rows_of(second) == rows_of(first)


def _without_output(found: ImportedTraining) -> dict[str, Any]:
    return {key: value for key, value in found.document.items() if key != "output"}


def test_a_template_that_was_written_out_is_named_as_what_cannot_be_exported(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "train.yaml"
    keys = {"model_name_or_path": "nobody/nothing", "do_train": True, "stage": "sft", "template": "llama3"}
    path.write_text(yaml.safe_dump(keys | data_set(tmp_path)))
    assert lastresort(monkeypatch, "export", str(path), "--to", "llamafactory") != 0
    said = capsys.readouterr().err
    assert "no counterpart of rows rendered by template: llama3" in said
    assert "Leave template out" in said
