"""Scaled: 1 is what was trained, 0 the base, and between them the change of every weight is a share of itself."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from adapters_support import family_folder, family_model, logits, tuned
from lastresort.errors import CandidateError
from lastresort.models.loading import load_local
from lastresort.train.adapters.adapters import save_adapter, scale_adapter, scale_weights


def saved(folder: Path, kind: str) -> tuple[Path, Path]:
    """A base in float64 and an adapter of it, as folders."""
    base = family_folder(folder / "base", "llama", torch.float64)
    model = load_local(base, precision="float64").model
    save_adapter(tuned(model, kind, base_name=str(base)), folder / "adapter")
    return base, folder / "adapter"


def answers(base: Path, adapter: Path | None = None) -> torch.Tensor:
    return logits(load_local(base, precision="float64", adapter=adapter).model)


def changes(base: Path, adapter: Path) -> dict[str, torch.Tensor]:
    """What the adapter adds to each weight."""
    merged = load_local(base, precision="float64", adapter=adapter).model.merge_and_unload()
    before = dict(load_local(base, precision="float64").model.named_parameters())
    return {name: weight - before[name] for name, weight in merged.named_parameters()}


@pytest.mark.sampled(2)
@pytest.mark.parametrize("kind", ["lora", "rslora"])
def test_an_adapter_at_a_scale_adds_that_share_of_what_it_adds(kind: str, tmp_path: Path) -> None:
    base, adapter = saved(tmp_path, kind)
    for scale in (0.0, 0.5, 0.75, 1.0):
        scale_adapter(adapter, scale, tmp_path / f"{scale}")
    whole, half = changes(base, adapter), changes(base, tmp_path / "0.5")
    assert max(change.abs().max() for change in whole.values()) > 1e-2
    for name, change in whole.items():
        torch.testing.assert_close(half[name], change / 2, rtol=0, atol=1e-12)
    torch.testing.assert_close(answers(base, tmp_path / "1.0"), answers(base, adapter), rtol=0, atol=0)
    torch.testing.assert_close(answers(base, tmp_path / "0.0"), answers(base), rtol=0, atol=0)
    assert (answers(base, tmp_path / "0.75") - answers(base, adapter)).abs().max() > 1e-3


def test_the_weights_of_a_scaled_adapter_and_its_other_settings_are_as_they_were(tmp_path: Path) -> None:
    _, adapter = saved(tmp_path, "lora")
    config = json.loads((adapter / "adapter_config.json").read_text("utf-8"))
    config["alpha_pattern"] = {"q_proj": 6}
    (adapter / "adapter_config.json").write_text(json.dumps(config), encoding="utf-8")
    scale_adapter(adapter, 0.25, tmp_path / "quarter")
    found = json.loads((tmp_path / "quarter" / "adapter_config.json").read_text("utf-8"))
    assert (found["lora_alpha"], found["alpha_pattern"]) == (2, {"q_proj": 1.5})
    assert found | {"lora_alpha": 8, "alpha_pattern": {"q_proj": 6}} == config
    weights = "adapter_model.safetensors"
    assert (tmp_path / "quarter" / weights).read_bytes() == (adapter / weights).read_bytes()


def test_an_adapter_whose_strength_is_no_number_is_no_candidate(tmp_path: Path) -> None:
    _, adapter = saved(tmp_path, "dora")
    with pytest.raises(CandidateError, match="plain LoRA"):
        scale_adapter(adapter, 0.5, tmp_path / "half")
    assert not (tmp_path / "half").exists()


@pytest.mark.parametrize(
    ("key", "value"), [("bias", "lora_only"), ("trainable_token_indices", [3]), ("modules_to_save", ["lm_head"])]
)
def test_what_alpha_does_not_reach_makes_no_candidate(key: str, value: object, tmp_path: Path) -> None:
    _, adapter = saved(tmp_path, "lora")
    config = json.loads((adapter / "adapter_config.json").read_text("utf-8"))
    (adapter / "adapter_config.json").write_text(json.dumps(config | {key: value}), encoding="utf-8")
    with pytest.raises(CandidateError, match="plain LoRA"):
        scale_adapter(adapter, 0.5, tmp_path / "half")


@pytest.mark.parametrize("tied", [True, False])
def test_all_weights_at_a_scale_lie_between_base_and_trained(tied: bool) -> None:
    def weights(seed: int) -> dict[str, torch.Tensor]:
        return dict(family_model(seed=seed, tie_word_embeddings=tied).named_parameters())

    before, after = weights(0), weights(1)
    for scale in (0.0, 0.5, 1.0):
        trained = family_model(seed=1, tie_word_embeddings=tied)
        scale_weights(family_model(seed=0, tie_word_embeddings=tied), trained, scale)
        for name, weight in trained.named_parameters():
            between = before[name] + scale * (after[name] - before[name])
            exact = {0.0: before[name], 1.0: after[name]}.get(scale)
            torch.testing.assert_close(weight.data, between.data, rtol=0, atol=1e-6)
            assert exact is None or torch.equal(weight, exact)
    assert any(not torch.equal(before[name], after[name]) for name in before)
