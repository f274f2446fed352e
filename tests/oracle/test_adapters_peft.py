"""Adapters against PEFT: what is saved is read by PEFT alone, and the merge formula is PEFT's."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from adapters_support import FAMILIES, KINDS, family_folder, family_model, logits, tuned
from lastresort.models.loading import load_local
from lastresort.train.adapters.adapters import attach_adapter, detach, save_adapter, save_trained
from lastresort.train.adapters.merge import merged_weight
from lastresort.train.settings import AdapterSettings

FLOAT64 = torch.float64


@pytest.mark.sampled(6, each="kind")
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("family", FAMILIES)
def test_saved_and_loaded_by_peft_gives_the_same_answers(family: str, kind: str, tmp_path: Path) -> None:
    from peft import PeftModel

    model = tuned(family_model(family, FLOAT64), kind)
    answers = logits(model)
    save_adapter(model, tmp_path / "a")
    again = PeftModel.from_pretrained(family_model(family, FLOAT64), str(tmp_path / "a")).eval()
    torch.testing.assert_close(logits(again), answers, rtol=0, atol=1e-9)
    assert (logits(family_model(family, FLOAT64)) - answers).abs().max() > 1e-2


@pytest.mark.sampled(3)
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("family", FAMILIES)
def test_a_disabled_or_detached_adapter_gives_the_base_back(family: str, kind: str) -> None:
    base = logits(family_model(family, FLOAT64))
    model = tuned(family_model(family, FLOAT64), kind)
    with model.disable_adapter():
        torch.testing.assert_close(logits(model), base, rtol=0, atol=0)
    torch.testing.assert_close(logits(detach(model)), base, rtol=0, atol=0)


@pytest.mark.parametrize("kind", KINDS)
def test_a_fresh_adapter_changes_nothing(kind: str) -> None:
    model = family_model("llama", FLOAT64)
    base = logits(model)
    fresh = attach_adapter(model, AdapterSettings(kind=kind, r=4), base_name="b").eval()  # type: ignore[arg-type]
    torch.testing.assert_close(logits(fresh), base, rtol=0, atol=1e-10)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("family", ["llama", "phi3", "gpt2"])
def test_the_merged_weight_is_that_of_peft(family: str, kind: str) -> None:
    from peft.tuners.lora import LoraLayer

    model = tuned(family_model(family, FLOAT64), kind)
    layers = {name: module for name, module in model.named_modules() if isinstance(module, LoraLayer)}
    ours = {}
    for name, layer in layers.items():
        weight = layer.get_base_layer().weight.data
        stored = weight.T if family == "gpt2" else weight
        magnitude = layer.lora_magnitude_vector["default"].weight.data if kind == "dora" else None
        a, b = layer.lora_A["default"].weight.data, layer.lora_B["default"].weight.data
        merged = merged_weight(stored, a, b, scaling=layer.scaling["default"], magnitude=magnitude)
        ours[name.removeprefix("base_model.model.")] = merged.T if family == "gpt2" else merged
    peft = model.merge_and_unload()
    for name, merged in ours.items():
        torch.testing.assert_close(merged, peft.get_submodule(name).weight.data, rtol=0, atol=1e-12)


def test_the_formula_by_hand() -> None:
    weight = torch.tensor([[1.0, 0.0], [0.0, 2.0]], dtype=FLOAT64)
    a, b = torch.tensor([[1.0, 2.0]], dtype=FLOAT64), torch.tensor([[1.0], [0.5]], dtype=FLOAT64)
    plain = merged_weight(weight, a, b, scaling=2.0)  # 2 B A = [[2, 4], [1, 2]]
    torch.testing.assert_close(plain, torch.tensor([[3.0, 4.0], [1.0, 4.0]], dtype=FLOAT64))
    half = merged_weight(weight, a, b, scaling=2.0, scale=0.5)
    torch.testing.assert_close(half, torch.tensor([[2.0, 2.0], [0.5, 3.0]], dtype=FLOAT64))
    magnitude = torch.tensor([10.0, 34.0**0.5], dtype=FLOAT64)  # directions (3, 4)/5 and (1, 4)/sqrt(17)
    dora = merged_weight(weight, a, b, scaling=2.0, magnitude=magnitude)
    root = 2.0**0.5
    torch.testing.assert_close(dora, torch.tensor([[6.0, 8.0], [root, 4 * root]], dtype=FLOAT64))


@pytest.mark.parametrize("kind", KINDS)
def test_the_configuration_says_what_a_server_needs(kind: str, tmp_path: Path) -> None:
    """The fields that vLLM's reader of adapters takes, of which it refuses bias, modules_to_save and DoRA."""
    save_adapter(tuned(family_model(), kind, base_name="org/base", target="attention"), tmp_path / "a")
    config = json.loads((tmp_path / "a/adapter_config.json").read_text())
    assert config["r"] == 4
    assert config["lora_alpha"] == 8
    assert sorted(config["target_modules"]) == ["k_proj", "o_proj", "q_proj", "v_proj"]
    assert (config["bias"], config["modules_to_save"], config["peft_type"]) == ("none", None, "LORA")
    assert (config["use_rslora"], config["use_dora"]) == (kind == "rslora", kind == "dora")
    assert config["base_model_name_or_path"] == "org/base"
    assert not (tmp_path / "a/trained_on.json").exists()


def test_a_fully_trained_model_is_saved_as_a_whole_folder(tmp_path: Path) -> None:
    loaded = load_local(family_folder(tmp_path / "base"), precision="float32")
    model = attach_adapter(loaded.model, AdapterSettings(kind="none"), base_name="b")
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.01)
    model.generation_config.top_p = 0.9  # what is as it was loaded is saved by newer transformers alone
    (tmp_path / "out").mkdir()
    (tmp_path / "out/older.txt").write_text("an earlier epoch")
    save_trained(model, loaded.tokenizer, tmp_path / "out")
    again = load_local(tmp_path / "out", precision="float32")
    torch.testing.assert_close(logits(again.model), logits(model), rtol=0, atol=0)
    assert again.tokenizer.chat_template == loaded.tokenizer.chat_template
    own = again.model.generation_config
    assert (own.temperature, own.top_k, own.top_p) == (0.3, 7, 0.9)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["base", "out"]
    assert not (tmp_path / "out/older.txt").exists()


def test_an_adapter_is_saved_as_an_adapter_and_in_place_of_an_older_one(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "a/older.txt").write_text("an earlier epoch")
    save_trained(tuned(family_model()), None, tmp_path / "a")
    assert {path.name for path in (tmp_path / "a").iterdir()} == {"adapter_config.json", "adapter_model.safetensors"}
    assert [path.name for path in tmp_path.iterdir()] == ["a"]
