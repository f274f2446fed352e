"""Short names choose the same layers in every family, and never the output layer or the embeddings."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from adapters_support import FAMILIES, family_model
from lastresort.errors import ContractError, DataError, InputError
from lastresort.records.events.training import TrainingFacts
from lastresort.records.record import Record
from lastresort.records.training import AdaptedLayers
from lastresort.rungs.tuning import TuningRun, report_reach
from lastresort.train.adapters.adapters import (
    adapted,
    adapted_layers,
    attach_adapter,
    coverage,
    coverage_warning,
    detach,
    save_adapter,
    target_names,
    trainable,
)
from lastresort.train.settings import AdapterSettings, TrainSettings
from report_support import training_reached

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


def adapted_names(model: torch.nn.Module) -> set[str]:
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
    found = adapted_names(model)
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
    assert all("mlp" in name for name in adapted_names(model))


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


HYBRID = {
    "num_hidden_layers": 8,
    "attn_layer_period": 8,
    "attn_layer_offset": 4,
    "num_experts": 2,
    "mamba_d_state": 8,
    "mamba_dt_rank": 4,
}
"""Jamba's shape: of eight layers one with attention, the others with Mamba."""


def test_attention_of_a_hybrid_is_one_layer_of_eight_and_that_is_said() -> None:
    base = family_model("jamba", **HYBRID)
    model = attach_adapter(base, AdapterSettings(r=2), base_name="b")
    found = adapted(model)
    trained = sum(parameter.numel() for _, parameter in trainable(model))
    assert found == AdaptedLayers(layers=1, all_layers=8, parameters=trained)
    assert coverage(found) == f"adapters in 1 of 8 layers, {found.parameters:,} parameters"
    assert coverage_warning(found, "adapter.target", "attention") == (
        "the adapters reach only 1 of 8 layers, and the others learn nothing. Set adapter.target to all-linear."
    )
    model = attach_adapter(detach(model), AdapterSettings(r=2, target="all-linear"), base_name="b")
    found = adapted(model)
    assert found is not None
    assert (found.layers, found.all_layers) == (8, 8)
    assert coverage_warning(found, "adapter.target", "all-linear") is None


def test_a_climb_says_it_before_the_first_training_of_a_rung(tmp_path: Path) -> None:
    settings = AdapterSettings(r=2)
    model = attach_adapter(family_model("jamba", **HYBRID), settings, base_name="b")
    loaded: Any = None  # it has nothing to say here
    run = TuningRun(
        "sft", "lr0.001", "learning rate 0.001", loaded, TrainSettings(1e-3, adapter=settings), TrainingFacts(rows=1)
    )
    said: list[str] = []
    with Record.create(tmp_path / "run") as record:
        bench: Any = SimpleNamespace(record=record, progress=SimpleNamespace(say=said.append))
        report_reach(bench, run, model)
        assert [line.partition(",")[0] for line in said] == [
            "sft: adapters in 1 of 8 layers",
            "sft: the adapters reach only 1 of 8 layers",
        ]
        assert said[1].endswith(" Set sft.target to all-linear.")
        record.append(training_reached("sft", "lr0.003"))
        report_reach(bench, run, model)
    assert len(said) == 2


@pytest.mark.parametrize("family", FAMILIES)
def test_attention_is_in_every_layer_of_other_families(family: str) -> None:
    found = adapted(attach_adapter(family_model(family), AdapterSettings(r=2), base_name="b"))
    assert found is not None
    assert (found.layers, found.all_layers, coverage_warning(found, "adapter.target", "attention")) == (2, 2, None)


def test_no_adapter_reaches_nothing() -> None:
    assert adapted(attach_adapter(family_model(), AdapterSettings(kind="none"), base_name="b")) is None


def test_layers_are_counted_by_the_names_of_modules() -> None:
    towers = [f"vision.blocks.{i}.attn.proj" for i in range(9)] + ["projector.0", "projector.1"]
    layers = [f"m.layers.{i}.mixer.experts.{j}.up" for i in range(4) for j in range(10)]
    assert adapted_layers([*towers, *layers, "m.layers", "m.norm"]) == (0, 0)
    on = [f"m.layers.{i}.mixer.experts.7.up.lora_A.default" for i in (1, 3)]
    assert adapted_layers([*towers, *layers, *on]) == (2, 4)
    assert adapted_layers([*towers, *layers, *on, "vision.blocks.2.attn.proj.lora_A"]) == (3, 13)


@pytest.mark.parametrize(
    ("target", "told"),
    [
        ("attention", "Set sft.target to all-linear."),
        (("q_proj",), "Name layers of the others in sft.target too, or set it to all-linear."),
        ("all-linear", "The others hold no linear layer: train all weights where that is not enough."),
        (None, "Start from the base, or from an adapter that reaches more of them."),
    ],
)
def test_a_warning_below_half_says_what_to_set(target: str | tuple[str, ...] | None, told: str) -> None:
    warned = coverage_warning(AdaptedLayers(layers=3, all_layers=8, parameters=100), "sft.target", target)
    assert warned == f"the adapters reach only 3 of 8 layers, and the others learn nothing. {told}"
    assert coverage_warning(AdaptedLayers(layers=4, all_layers=8, parameters=100), "sft.target", target) is None


def test_all_linear_leaves_out_what_peft_refuses() -> None:
    shape = {"mamba_n_heads": 4, "mamba_d_head": 16, "mamba_d_ssm": 64, "mamba_d_state": 8, "mamba_n_groups": 1}
    base = family_model("falcon_h1", **shape)
    model = attach_adapter(base, AdapterSettings(r=2, target="all-linear"), base_name="b")
    assert not any("out_proj" in name for name in adapted_names(model))
    assert any("mamba.in_proj" in name for name in adapted_names(model))


def test_many_cards_are_seeded_without_a_warning(
    monkeypatch: pytest.MonkeyPatch, recwarn: pytest.WarningsRecorder
) -> None:
    """torch warns of slowness where the cards whose random numbers are kept are not named; in each process of a training."""
    state, restored = torch.get_rng_state(), list[int]()
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 3)
    monkeypatch.setattr(torch.cuda, "get_rng_state", lambda device: state)
    monkeypatch.setattr(torch.cuda, "set_rng_state", lambda state, device: restored.append(device))
    monkeypatch.setattr(torch.random, "_fork_rng_warned_already", False)
    attach_adapter(family_model(), AdapterSettings(r=2), base_name="b")
    assert restored == [0, 1, 2]
    assert not recwarn.list
