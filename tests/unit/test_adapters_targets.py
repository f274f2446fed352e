"""Short names choose the same layers in every family, and never the output layer or the embeddings."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from adapters_support import FAMILIES, family_model
from lastresort.errors import ContractError, DataError, InputError
from lastresort.train.adapters import attach_adapter, detach, save_adapter, trainable
from lastresort.train.settings import AdapterSettings, TrainSettings
from lastresort.train.targets import target_names

QKVO = {"q_proj", "k_proj", "v_proj", "o_proj"}
GATED = {"gate_proj", "up_proj", "down_proj"}
ATTENTION = dict.fromkeys(("llama", "qwen2", "qwen3", "mistral", "gemma"), QKVO) | {
    "phi": {"q_proj", "k_proj", "v_proj", "dense"},
    "phi3": {"qkv_proj", "o_proj"},
    "gpt2": {"c_attn", "attn.c_proj"},
}
ALL_LINEAR = dict.fromkeys(("llama", "qwen2", "qwen3", "mistral", "gemma"), QKVO | GATED) | {
    "phi": ATTENTION["phi"] | {"fc1", "fc2"},
    "phi3": {"qkv_proj", "o_proj", "gate_up_proj", "down_proj"},
    "gpt2": {"c_attn", "c_proj", "c_fc"},
}


def adapted(model: torch.nn.Module) -> set[str]:
    return {name.split(".lora_A")[0] for name, _ in model.named_parameters() if ".lora_A." in name}


@pytest.mark.parametrize("family", FAMILIES)
def test_names_of_every_family(family: str) -> None:
    model = family_model(family)
    assert set(target_names(model, "attention")) == ATTENTION[family]
    assert set(target_names(model, "all-linear")) == ALL_LINEAR[family]


@pytest.mark.parametrize("target", ["attention", "all-linear"])
@pytest.mark.parametrize("family", FAMILIES)
def test_what_gets_an_adapter(family: str, target: str) -> None:
    model = attach_adapter(family_model(family), AdapterSettings(r=2, target=target), base_name="b")  # type: ignore[arg-type]
    found = adapted(model)
    per_layer = len((ATTENTION if target == "attention" else ALL_LINEAR)[family])
    if family == "gpt2" and target == "all-linear":
        per_layer += 1  # c_proj stands for two
    assert len(found) == 2 * per_layer
    assert not any(part in name for name in found for part in ("lm_head", "embed", "wte", "wpe"))
    if target == "attention":
        assert not any("mlp" in name for name in found)
    assert all("lora" in name for name, _ in trainable(model))


def test_names_that_are_not_there_say_what_is() -> None:
    with pytest.raises(DataError, match=r'"query" names no linear layer.*q_proj, k_proj'):
        attach_adapter(family_model(), AdapterSettings(target=("q_proj", "query")), base_name="b")
    with pytest.raises(DataError, match="no layer is named"):
        target_names(family_model(), ())


@pytest.mark.parametrize("name", ["lm_head", "embed_tokens", "model.norm", "lora_A"])
def test_the_output_layer_and_what_is_not_linear_are_refused_by_name(name: str) -> None:
    with pytest.raises(DataError, match=f'"{name}"'):
        target_names(family_model(), (name,))


def test_a_longer_name_chooses_one_of_two() -> None:
    assert target_names(family_model("gpt2"), ("mlp.c_proj",)) == ["mlp.c_proj"]
    model = attach_adapter(family_model("gpt2"), AdapterSettings(target=("mlp.c_proj",)), base_name="b")
    assert all("mlp" in name for name in adapted(model))


def test_none_trains_every_weight_and_has_no_base_left() -> None:
    model = attach_adapter(family_model().requires_grad_(False), AdapterSettings(kind="none"), base_name="b")
    assert {name for name, _ in trainable(model)} == {name for name, _ in model.named_parameters()}
    with pytest.raises(ContractError, match="without an adapter"):
        detach(model)


def test_a_base_must_be_loaded_as_the_settings_say() -> None:
    with pytest.raises(ContractError, match="nf4"):
        attach_adapter(family_model(), AdapterSettings(quantize="nf4"), base_name="b")


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"kind": "none", "quantize": "nf4"}, "4-bit"),
        ({"r": 0}, "r 0"),
        ({"alpha": 0}, "alpha 0"),
        ({"dropout": 1.0}, "dropout 1"),
    ],
)
def test_settings_that_cannot_be(changes: dict[str, object], told: str) -> None:
    with pytest.raises(InputError, match=told):
        AdapterSettings(**changes)  # type: ignore[arg-type]


def test_the_adapter_is_part_of_what_a_checkpoint_belongs_to() -> None:
    kinds = [TrainSettings(1e-3, adapter=AdapterSettings(kind=kind)) for kind in ("lora", "rslora", "dora", "none")]
    kinds.append(TrainSettings(1e-3, adapter=AdapterSettings(target=("q_proj",))))
    assert len({settings.fingerprint() for settings in kinds}) == len(kinds)


def test_the_same_seed_draws_the_same_adapter_and_leaves_the_callers_numbers_alone() -> None:
    def draw(seed: int) -> list[torch.Tensor]:
        model = attach_adapter(family_model(), AdapterSettings(r=2), base_name="b", seed=seed)
        return [parameter.detach() for _, parameter in trainable(model)]

    first, again, other = draw(3), draw(3), draw(4)
    model = family_model()
    state = torch.get_rng_state()
    attach_adapter(model, AdapterSettings(r=2), base_name="b", seed=9)
    assert torch.equal(state, torch.get_rng_state())
    assert all(torch.equal(a, b) for a, b in zip(first, again, strict=True))
    assert not all(torch.equal(a, b) for a, b in zip(first, other, strict=True))


def test_a_saved_adapter_has_the_same_bytes_in_every_process(tmp_path: Path) -> None:
    """PEFT keeps the names of the layers in a set."""
    save_adapter(attach_adapter(family_model(), AdapterSettings(target="all-linear"), base_name="b"), tmp_path)
    names = json.loads((tmp_path / "adapter_config.json").read_text(encoding="utf-8"))["target_modules"]
    assert len(names) == 7
    assert names == sorted(names)
