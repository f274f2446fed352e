"""`lastresort export`: what it takes, what it says, and how it refuses."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from export_support import configuration, rows_in
from lastresort.interop.exporting.export import export
from lastresort.interop.exporting.job import ExportableTraining
from lastresort.interop.exporting.trained import training_from_file
from tiny_model import save_tiny_model
from train_support import lastresort, training_file, write_rows

Patch = pytest.MonkeyPatch
Out = pytest.CaptureFixture[str]
ROWS = ({"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]},)


def test_a_finished_training_is_exported_as_it_was_trained(tmp_path: Path, monkeypatch: Patch, capsys: Out) -> None:
    path = training_file(
        tmp_path, "sft", data={"train": "rows.jsonl", "eval": 0.25}, adapter={"r": 4, "target": ["q_proj"]}
    )
    assert lastresort(monkeypatch, "train", str(path)) == 0
    path.unlink()  # its record is enough
    capsys.readouterr()
    assert lastresort(monkeypatch, "export", str(tmp_path / "out"), "--to", "axolotl", "--json") == 0
    said = capsys.readouterr()
    found = json.loads(said.out)
    assert (found["rows"], found["held_out"], found["to"]) == (9, 3, "axolotl")
    assert Path(found["folder"]) == tmp_path / "out" / "export-axolotl"
    assert found["notes"] == said.err.splitlines()
    config = yaml.safe_load((tmp_path / "out" / "export-axolotl" / "axolotl.yaml").read_text(encoding="utf-8"))
    assert (config["base_model"], config["lora_target_modules"], config["sequence_len"]) == (
        "../../model",
        ["q_proj"],
        2048,
    )


def test_a_training_file_is_exported_beside_it_and_once_more(tmp_path: Path, monkeypatch: Patch, capsys: Out) -> None:
    path = training_file(tmp_path, "dpo")
    for _ in range(2):
        assert lastresort(monkeypatch, "export", str(path), "--to", "trl") == 0
    said = capsys.readouterr().out
    assert f"written: {tmp_path / 'export-trl'} (README.md, train.jsonl, train.py; 12 rows)" in said
    assert "run: python train.py" in said
    assert sorted(one.name for one in tmp_path.iterdir()) == ["export-trl", "model", "rows.jsonl", "train.yaml"]


def test_a_file_of_axolotls_becomes_one_of_llamafactorys(tmp_path: Path, monkeypatch: Patch, capsys: Out) -> None:
    save_tiny_model(tmp_path / "model")
    write_rows(tmp_path / "pairs.jsonl", [{"question": "A?", "chosen": "B", "rejected": "C", "system": ""}])
    config = {
        "base_model": "model", "adapter": "lora", "lora_r": 4, "lora_alpha": 8, "lora_target_modules": ["q_proj"], "rl": "dpo",
        "datasets": [{"path": "pairs.jsonl", "type": "chat_template.default", "field_messages": "question"}],
        "learning_rate": 1e-5, "micro_batch_size": 2, "gradient_accumulation_steps": 4, "sequence_len": 256,
    }  # fmt: skip
    (tmp_path / "config.yml").write_text(yaml.safe_dump(config), encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    assert lastresort(monkeypatch, "export", "config.yml", "--to", "llamafactory") == 0, capsys.readouterr().err
    written = yaml.safe_load((tmp_path / "export-llamafactory" / "llamafactory.yaml").read_text(encoding="utf-8"))
    batch = written["per_device_train_batch_size"] * written["gradient_accumulation_steps"]
    assert (written["stage"], written["pref_loss"], batch, written["cutoff_len"]) == ("dpo", "sigmoid", 8, 256)


def test_what_was_imported_and_trained_is_exported_from_its_output_folder(
    tmp_path: Path, monkeypatch: Patch, capsys: Out
) -> None:
    save_tiny_model(tmp_path / "model")
    rows = [
        {"messages": [{"role": "user", "content": f"{n}?"}, {"role": "assistant", "content": "b"}]} for n in range(4)
    ]
    write_rows(tmp_path / "talk.jsonl", rows)
    config = {
        "base_model": "model", "adapter": "lora", "lora_r": 4, "lora_alpha": 8, "lora_target_modules": ["q_proj"],
        "datasets": [{"path": "talk.jsonl", "type": "chat_template"}], "learning_rate": 1e-3, "micro_batch_size": 2,
        "sequence_len": 256, "output_dir": "trained", "seed": 5, "neftune_noise_alpha": 3, "val_set_size": 1,
    }  # fmt: skip
    (tmp_path / "config.yml").write_text(yaml.safe_dump(config), encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    assert lastresort(monkeypatch, "train", "config.yml") == 0, capsys.readouterr().err
    capsys.readouterr()
    assert lastresort(monkeypatch, "export", "trained", "--to", "llamafactory") == 0, capsys.readouterr().err
    top = (tmp_path / "trained/export-llamafactory/llamafactory.yaml").read_text(encoding="utf-8")
    readme = (tmp_path / "trained/export-llamafactory/README.md").read_text(encoding="utf-8")
    for text in (capsys.readouterr().err, top, readme):
        assert "neftune_noise_alpha is ignored" in text
        assert "val_set_size: No key sets when to evaluate" in text  # a trap
    written = yaml.safe_load(top)
    assert (written["seed"], written["cutoff_len"], written["lora_target"]) == (5, 256, "q_proj")
    assert written["model_name_or_path"] == "../../model"


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["train.yaml"], "--to is missing, expected --to axolotl|llamafactory|trl|unsloth|skypilot. Name one of them."),
        (
            ["train.yaml", "--to", "keras"],
            'found "keras", expected axolotl, llamafactory, trl, unsloth, skypilot',
        ),
        (["begun", "--to", "trl"], "begun: this training has not finished, expected one that ran to its end"),
        (["model", "--to", "trl"], "found a folder without training.json or record.sqlite"),
        (["train.yaml", "--to", "trl", "--rung", "sft"], "--rung for a source that is not a climb"),
        (["train.yaml", "--to", "trl", "--task", "task.yaml"], "--task for a source that is not a climb"),
        (["train.yaml", "--to", "trl", "--gpu", "l4"], "--gpu with --to trl"),
        (["train.yaml", "--to", "trl", "--base", "a/b", "--with-base"], "--base with --with-base"),
        (["train.yaml", "--to", "trl", "--out", "model"], "the folder holds something else"),
        (["train.yaml", "--to", "skypilot", "--gpu", "2xl4"], "found 2 GPUs"),
    ],
)
def test_what_it_refuses_is_one_sentence(
    arguments: list[str], sentence: str, tmp_path: Path, monkeypatch: Patch, capsys: Out
) -> None:
    training_file(tmp_path, "sft")
    (tmp_path / "begun").mkdir()
    (tmp_path / "begun" / "begun.json").write_text("{}", encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    before = sorted(tmp_path.rglob("*"))
    capsys.readouterr()
    assert lastresort(monkeypatch, "export", *arguments) == 2
    said = capsys.readouterr().err.strip()
    assert sentence in said
    assert "\n" not in said
    assert sorted(tmp_path.rglob("*")) == before


def written_for(folder: Path, model: str, **keys: Any) -> Any:
    return export(
        ExportableTraining("tiny", {"model": model, "objective": "sft"}, ROWS, ()), "trl", folder / "out", **keys
    )


def test_the_embedded_model_goes_by_its_hub_id_and_says_so(tmp_path: Path) -> None:
    found = written_for(tmp_path, "embedded")
    assert found.base == "HuggingFaceTB/SmolLM2-135M-Instruct"
    assert any("4-bit quantisation" in note for note in found.notes)
    assert "4-bit quantisation" in (found.folder / "train.py").read_text(encoding="utf-8")


def test_the_base_goes_along_where_it_is_asked_for(tmp_path: Path) -> None:
    model = save_tiny_model(tmp_path / "model")
    found = written_for(tmp_path, str(model), with_base=True)
    assert found.base == "base"
    assert (found.folder / "base" / "model.safetensors").read_bytes() == (model / "model.safetensors").read_bytes()
    assert 'HERE / "base"' in (found.folder / "train.py").read_text(encoding="utf-8")


def test_a_base_that_is_named_is_taken_as_it_is(tmp_path: Path) -> None:
    assert written_for(tmp_path / "a", "embedded", base="someone/model").base == "someone/model"
    model = save_tiny_model(tmp_path / "model")
    assert written_for(tmp_path / "b", "embedded", base=str(model)).base == "../../model"


def test_a_gguf_needs_an_ordinary_model(tmp_path: Path) -> None:
    from lastresort.errors import InputError

    (tmp_path / "small.gguf").write_bytes(b"GGUF")
    with pytest.raises(InputError, match=r"found a GGUF, which other frameworks do not train.*--with-base"):
        written_for(tmp_path, str(tmp_path / "small.gguf"))


def test_a_model_that_is_nowhere_here_goes_by_its_name_with_what_is_assumed(tmp_path: Path) -> None:
    found = export(
        ExportableTraining("tiny", {"model": "someone/else", "objective": "sft"}, ROWS, ()), "axolotl", tmp_path / "out"
    )
    config = configuration(found, "axolotl.yaml")
    assert (config["base_model"], config["sequence_len"]) == ("someone/else", 2048)
    assert config["lora_target_modules"] == ["q_proj", "k_proj", "v_proj", "o_proj"]
    assert any("is assumed to have 2,048 tokens" in note for note in found.notes)
    assert any("target: attention is written as q_proj" in note for note in found.notes)


def test_a_system_turn_that_the_template_refuses_stands_where_it_was_trained(tmp_path: Path) -> None:
    place = save_tiny_model(tmp_path / "model") / "chat_template.jinja"
    refuses = "{% if messages[0]['role'] == 'system' %}{{ raise_exception('no system turn') }}{% endif %}"
    place.write_text(refuses + place.read_text(encoding="utf-8"), encoding="utf-8")
    rows = [{"messages": [{"role": "system", "content": "Be brief."}, *ROWS[0]["messages"]]}]
    found = export(training_from_file(training_file(tmp_path, "sft", rows)), "llamafactory", tmp_path / "out2")
    assert [turn["role"] for turn in rows_in(found)[0]["messages"]] == ["user", "assistant"]
    assert rows_in(found)[0]["messages"][0]["content"].startswith("Be brief.")


def test_pairs_as_labels_are_labels_already(tmp_path: Path) -> None:
    from lastresort.spec.training import load_training
    from lastresort.train.files.items import read_units
    from train_support import pairs

    path = training_file(tmp_path, "kto", pairs(), pairs_as_labels=True)
    found = export(training_from_file(path), "skypilot", tmp_path / "out2", gpu="l4")
    assert len(rows_in(found)) == 24
    written = load_training(found.folder / "training.yaml")
    assert [unit.label for unit in read_units(written, written.data.train)] == [True, False] * 12


def test_a_call_of_a_tool_is_refused_where_it_would_be_lost(tmp_path: Path) -> None:
    from lastresort.errors import DataError

    call = {
        "role": "assistant",
        "content": "",
        "tool_calls": [{"type": "function", "function": {"name": "f", "arguments": {}}}],
    }
    asked, answer = ROWS[0]["messages"]
    path = training_file(tmp_path, "sft", [{"messages": [asked, call, {"role": "tool", "content": "1"}, answer]}])
    with pytest.raises(DataError, match="found a call of a tool"):
        export(training_from_file(path), "llamafactory", tmp_path / "out2")


def test_the_same_training_gives_the_same_bytes(tmp_path: Path) -> None:
    path = training_file(tmp_path, "sft", data={"train": "rows.jsonl", "eval": 0.25})
    texts = []
    for _ in range(2):
        found = export(training_from_file(path), "llamafactory", tmp_path / "out2")
        texts.append({name: (found.folder / name).read_bytes() for name in found.files})
    assert texts[0] == texts[1]
    assert len(rows_in(found)) == 9
