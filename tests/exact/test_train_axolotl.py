"""`lastresort train` with a YAML of Axolotl: the file as it is, its adapter, its record, and how it goes on."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from axolotl_sample import FILE
from lastresort.spec.training import load_training
from lastresort.train.files.run_folder import identity
from tiny_model import save_tiny_model
from train_support import ANIMALS, lastresort, record, write_rows


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """With a model, pairs and the file; the current one."""
    save_tiny_model(tmp_path / "model")
    pairs = [
        {"system": "Be brief.", "question": f"Is {name} one?", "chosen": "yes", "rejected": "no"}
        for name in ANIMALS[:4]
    ]
    write_rows(tmp_path / "my_preference_dataset.jsonl", pairs)
    (tmp_path / "config.yml").write_text(FILE, encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def run(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> int:
    return lastresort(monkeypatch, "train", "config.yml", "--set", "base_model=./model", *arguments)


def test_the_file_trains_an_adapter_that_peft_loads(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from peft import PeftModel
    from transformers import AutoModelForCausalLM

    assert run(monkeypatch, "--set", "max_steps=3") == 0
    told = capsys.readouterr().err
    assert told.index("differs: Rows longer than sequence_len, 512 tokens") < told.index("loading the model")
    base = AutoModelForCausalLM.from_pretrained(folder / "model", dtype=torch.float32)
    ids = torch.tensor([[5, 6, 7]])
    before = base(ids).logits
    adapted = PeftModel.from_pretrained(base, folder / "model-out" / "adapter")
    settings = adapted.peft_config["default"]
    assert (settings.r, settings.lora_alpha) == (16, 32)
    assert set(settings.target_modules) == {"q_proj", "k_proj", "v_proj", "o_proj"}
    assert not torch.equal(adapted(ids).logits, before)


def test_the_record_names_where_its_training_came_from(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert run(monkeypatch, "--set", "max_steps=1") == 0
    found = record(folder / "model-out")
    assert found["file"]["origin"]["framework"] == "axolotl"
    assert found["file"]["origin"]["file"] == "config.yml"
    keys = {remark["key"]: remark["kind"] for remark in found["file"]["origin"]["remarks"]}
    assert keys == {"num_epochs": "differs", "sequence_len": "differs", "model_type, tokenizer_type": "differs"}
    assert found["file"]["adapter"]["kind"] == "qlora"
    assert found["steps"][0]["loss"] == pytest.approx(0.6931, abs=1e-3)


@pytest.mark.usefixtures("folder")
def test_too_many_rows_held_out_are_refused_by_the_key_of_the_users_file(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(monkeypatch, "--set", "val_set_size=60") == 2
    assert 'config.yml, key "val_set_size": found 60 of 4 different prompts to hold out' in capsys.readouterr().err


def test_a_run_goes_on_with_the_same_file_and_data(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(monkeypatch, "--set", "max_steps=1") == 0
    written = {path.name: path.read_bytes() for path in (folder / "model-out" / "imported").iterdir()}
    assert set(written) == {"training.yaml", "train.jsonl"}
    assert run(monkeypatch, "--set", "max_steps=1", "--resume") == 0
    assert "finished" in capsys.readouterr().err
    assert run(monkeypatch, "--set", "max_steps=1") == 2
    assert "is not empty" in capsys.readouterr().err
    assert written == {path.name: path.read_bytes() for path in (folder / "model-out" / "imported").iterdir()}
    assert run(monkeypatch, "--set", "max_steps=2", "--resume") == 2
    assert "max_steps was 1 when this run began" in capsys.readouterr().err
    write_rows(folder / "my_preference_dataset.jsonl", [{"question": "q", "chosen": "a", "rejected": "b"}])
    assert run(monkeypatch, "--set", "max_steps=1", "--resume") == 2
    assert "the rows of train.jsonl have changed since this run began" in capsys.readouterr().err


def test_nothing_is_written_into_a_folder_that_holds_something_else(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (folder / "model-out").mkdir()
    (folder / "model-out" / "notes.txt").write_text("mine", encoding="utf-8")
    assert run(monkeypatch, "--set", "max_steps=1") == 2
    assert "is not empty" in capsys.readouterr().err
    assert [path.name for path in (folder / "model-out").iterdir()] == ["notes.txt"]


def test_a_run_that_was_cut_goes_on_to_the_same_end(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    keys = ("--set", "max_steps=2")
    assert run(monkeypatch, *keys, "--set", "output_dir=whole") == 0
    assert run(monkeypatch, *keys) == 0
    (folder / "model-out" / "training.json").unlink()  # by which a finished run is known
    assert run(monkeypatch, *keys, "--resume") == 0
    cut, whole = record(folder / "model-out"), record(folder / "whole")
    assert [step["loss"] for step in cut["steps"]] == [step["loss"] for step in whole["steps"]]
    assert cut["file"]["origin"] == whole["file"]["origin"]


@pytest.mark.slow
def test_what_was_refused_may_be_corrected_in_the_same_folder(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(monkeypatch, "--set", "sequence_len=4") == 2
    assert "no row of train can be trained on: 4 left out, longer than 4 tokens" in capsys.readouterr().err
    assert run(monkeypatch, "--set", "max_steps=1") == 0


def test_what_is_written_runs_by_itself_and_is_the_same_run(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert run(monkeypatch, "--set", "max_steps=1", "--set", "output_dir=one") == 0
    assert run(monkeypatch, "--set", "max_steps=1", "--set", "output_dir=two") == 0
    one, two = (load_training(folder / name / "imported" / "training.yaml") for name in ("one", "two"))
    assert identity(one) == identity(two)
    assert one.output == folder / "one"
    alone = str(folder / "one" / "imported" / "training.yaml")
    assert lastresort(monkeypatch, "train", alone, "--set", "output=../../three") == 0
    assert record(folder / "three")["steps"][0]["loss"] == record(folder / "one")["steps"][0]["loss"]
    assert record(folder / "three")["file"]["origin"] == record(folder / "one")["file"]["origin"]


def test_strict_refuses_what_is_not_honoured(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(monkeypatch, "--set", "neftune_noise_alpha=5", "--strict") == 2
    assert "neftune_noise_alpha is ignored" in capsys.readouterr().err
    assert not (folder / "model-out").exists()


SHORT: dict[str, Any] = {"base_model": "./model", "learning_rate": 1e-3, "micro_batch_size": 4, "adapter": "lora"}
SHORT |= {"lora_r": 4, "lora_alpha": 8, "lora_target_linear": True, "max_steps": 2, "bf16": False}


def trained(folder: Path, monkeypatch: pytest.MonkeyPatch, rows: list[Any], kind: Any, **keys: Any) -> dict[str, Any]:
    write_rows(folder / "rows.jsonl", rows)
    config = {**SHORT, "datasets": [{"path": "rows.jsonl", "type": kind}], **keys}
    (folder / "short.yml").write_text(yaml.safe_dump(config), encoding="utf-8")
    assert lastresort(monkeypatch, "train", "short.yml") == 0
    return record(folder / "model-out")


def test_instructions_are_trained_with_their_end_token(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = [{"instruction": f"Say {name}.", "input": "", "output": name} for name in ANIMALS]
    found = trained(folder, monkeypatch, rows, "alpaca", val_set_size=3, eval_strategy="epoch")
    assert found["data"]["items"] == 9
    assert found["data"]["eval_items"] == 3
    assert found["trained"]["path"] == "packed"
    row = json.loads((folder / "model-out" / "imported" / "train.jsonl").read_text().splitlines()[0])
    assert row["segments"][1] == {"text": "ape", "train": True, "end": True}


def test_what_dropout_costs_is_said_before_it_trains(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = [{"instruction": f"Say {name}.", "input": "", "output": name} for name in ANIMALS]
    found = trained(folder, monkeypatch, rows, "alpaca", lora_dropout=0.05)
    said = capsys.readouterr().err
    assert "dropout is on" in found["trained"]["reason"]
    assert said.index("dropout 0.05 rules out the packed form") < said.index("loading the model")
    assert "--set lora_dropout=0\n" in said
    ours = ("train", "model-out/imported/training.yaml", "--set", "output=../../two")
    assert lastresort(monkeypatch, *ours) == 0
    assert "--set adapter.dropout=0\n" in capsys.readouterr().err
    assert lastresort(monkeypatch, *ours, "--resume") == 0
    assert "--set" not in capsys.readouterr().err, "a run that goes on cannot change it"
    assert lastresort(monkeypatch, "train", "short.yml", "--set", "lora_dropout=0", "--set", "output_dir=three") == 0
    assert "dropout" not in capsys.readouterr().err


@pytest.mark.slow
def test_conversations_text_and_labels_are_trained(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    turns = [[{"from": "human", "value": f"Say {name}."}, {"from": "gpt", "value": name}] for name in ANIMALS]
    (folder / "a").mkdir()
    monkeypatch.chdir(folder / "a")
    entry = {
        "path": "chats.jsonl",
        "type": "chat_template",
        "field_messages": "conversations",
        "message_property_mappings": {"role": "from", "content": "value"},
    }
    write_rows(folder / "a" / "chats.jsonl", [{"conversations": one} for one in turns])
    base = {"base_model": str(folder / "model")}
    chats = trained(folder / "a", monkeypatch, [], None, datasets=[entry], **base)
    assert chats["data"]["items"] == 12
    for name, rows, kind, keys in (
        ("b", [{"text": f"A {name} lives here."} for name in ANIMALS], "completion", {"sequence_len": 64}),
        (
            "c",
            [
                {"question": name, "completion": "yes" if n % 2 else "no", "label": bool(n % 2)}
                for n, name in enumerate(ANIMALS)
            ],
            "chatml.intel",
            {"rl": "kto", "remove_unused_columns": False},
        ),
    ):
        (folder / name).mkdir()
        monkeypatch.chdir(folder / name)
        found = trained(folder / name, monkeypatch, rows, kind, **keys, **base)
        assert found["trained"]["steps"] == 2


def test_groups_are_sampled_and_rewarded(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (folder / "rewards.py").write_text(
        "def length(prompts, completions, **kwargs):\n    return [float(len(text)) for text in completions]\n"
    )
    rows = [{"prompt": [{"role": "user", "content": f"Say {name}."}], "animal": name} for name in ANIMALS]
    trl = {"reward_funcs": ["rewards.length"], "num_generations": 4, "max_completion_length": 8}
    found = trained(folder, monkeypatch, rows, None, rl="grpo", trl=trl, micro_batch_size=8)
    assert found["trained"]["steps"] == 2
    assert (folder / "model-out" / "completions.jsonl").is_file()
