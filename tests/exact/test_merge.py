"""Merged = unmerged, for every family and kind; scale 0 is the base; what a merged folder holds."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from adapters_support import FAMILIES, family_folder, logits, tuned
from lastresort.models.loading import load_local
from lastresort.train.adapters.adapters import save_adapter
from lastresort.train.adapters.merge import merge_adapter


def pair(
    folder: Path, family: str = "llama", kind: str = "lora", dtype: torch.dtype = torch.float32, **changes: Any
) -> tuple[Path, Path]:
    """A base and an adapter of it, as folders."""
    base = family_folder(folder / "base", family, dtype, **changes)
    model = load_local(base, precision=str(dtype).removeprefix("torch.")).model
    save_adapter(tuned(model, kind, base_name=str(base)), folder / "adapter")
    return base, folder / "adapter"


def answers(folder: Path, precision: str, adapter: Path | None = None, **more: Any) -> torch.Tensor:
    return logits(load_local(folder, precision=precision, adapter=adapter, **more).model)


@pytest.mark.sampled(10, each="kind")
@pytest.mark.parametrize(
    ("family", "kind"), [(family, kind) for family in FAMILIES for kind in ("lora", "dora")] + [("llama", "rslora")]
)
def test_merged_is_unmerged(family: str, kind: str, tmp_path: Path) -> None:
    base, adapter = pair(tmp_path, family, kind, torch.float64)
    merged = merge_adapter(base, adapter, tmp_path / "out")
    torch.testing.assert_close(
        answers(tmp_path / "out", "float64"), answers(base, "float64", adapter), rtol=0, atol=1e-9
    )
    assert (merged.dtype, merged.into, merged.scale) == ("float64", "16bit", 1.0)
    assert merged.check.relative_difference < 1e-9
    assert merged.check.adapter_effect > 1e-2
    assert merged.check.same_tokens == 1.0
    assert not merged.check.drowned


@pytest.mark.parametrize("tied", [True, False])
def test_float32_with_and_without_tied_embeddings(tied: bool, tmp_path: Path) -> None:
    base, adapter = pair(tmp_path, tie_word_embeddings=tied)
    check = merge_adapter(base, adapter, tmp_path / "out").check
    assert check.relative_difference < 1e-5
    torch.testing.assert_close(
        answers(tmp_path / "out", "float32"), answers(base, "float32", adapter), rtol=0, atol=1e-4
    )
    model = load_local(tmp_path / "out", precision="float32").model
    assert (model.lm_head.weight.data_ptr() == model.model.embed_tokens.weight.data_ptr()) == tied


@pytest.mark.sampled(2)
@pytest.mark.parametrize("kind", ["rslora", "dora"])
def test_a_scale_between_moves_weights_and_answers_alike(kind: str, tmp_path: Path) -> None:
    base, adapter = pair(tmp_path, "llama", kind, torch.float64)
    merge_adapter(base, adapter, tmp_path / "none", scale=0.0)
    torch.testing.assert_close(answers(tmp_path / "none", "float64"), answers(base, "float64"), rtol=0, atol=1e-12)
    half = merge_adapter(base, adapter, tmp_path / "half", scale=0.5)
    assert half.check.relative_difference < 1e-9
    assert half.check.adapter_effect > 1e-2
    weights = [load_local(folder, precision="float64").model.state_dict() for folder in (base, tmp_path / "half")]
    whole = merge_adapter(base, adapter, tmp_path / "whole")
    full = load_local(whole.folder, precision="float64").model.state_dict()
    for name, value in weights[1].items():
        torch.testing.assert_close(value, (weights[0][name] + full[name]) / 2, rtol=0, atol=1e-12)


@pytest.mark.sampled(2)
@pytest.mark.parametrize("family", ["llama", "gpt2"])
def test_bfloat16_up_to_the_rounding_of_its_weights(family: str, tmp_path: Path) -> None:
    base, adapter = pair(tmp_path, family, "lora", torch.bfloat16)
    merged = merge_adapter(base, adapter, tmp_path / "out")
    assert merged.dtype == "bfloat16"
    assert 0 < merged.check.relative_difference <= merged.check.tolerance
    wide = merge_adapter(base, adapter, tmp_path / "wide", dtype="float32")
    assert wide.check.relative_difference < 1e-5


def test_a_float32_base_can_be_merged_into_bfloat16_with_one_rounding(tmp_path: Path) -> None:
    base, adapter = pair(tmp_path)
    merge_adapter(base, adapter, tmp_path / "out", dtype="bfloat16")
    exact = merge_adapter(base, adapter, tmp_path / "exact").folder
    wide = load_local(exact, precision="float32").model.state_dict()
    for name, value in load_local(tmp_path / "out", precision="bfloat16").model.state_dict().items():
        torch.testing.assert_close(value, wide[name].bfloat16(), rtol=0, atol=0)
    assert json.loads((tmp_path / "out/config.json").read_text())["dtype"] == "bfloat16"


@pytest.mark.sampled(5)
@pytest.mark.parametrize(
    ("family", "kind"), [("llama", "dora"), ("qwen3", "rslora"), ("phi3", "lora"), ("gpt2", "lora"), ("gpt2", "dora")]
)
def test_nf4_merged_is_nf4_unmerged(family: str, kind: str, tmp_path: Path) -> None:
    base = family_folder(tmp_path / "base", family)
    model = load_local(base, precision="float32", quantize="nf4").model
    save_adapter(tuned(model, kind, quantize="nf4", base_name=str(base)), tmp_path / "adapter")
    merged = merge_adapter(base, tmp_path / "adapter", tmp_path / "out")
    assert (merged.into, merged.dtype) == ("nf4", "float32")
    unmerged = answers(base, "auto", tmp_path / "adapter")
    torch.testing.assert_close(answers(tmp_path / "out", "float32"), unmerged, rtol=0, atol=1e-4)
    sixteen = merge_adapter(base, tmp_path / "adapter", tmp_path / "other", into="16bit")
    apart = (answers(tmp_path / "other", "float32") - unmerged).abs().max()
    assert apart > 1e-2, "the two kinds of merge must differ, or this test shows nothing"
    assert sixteen.into == "16bit"


def test_nf4_merge_takes_layers_without_an_adapter_through_nf4_too(tmp_path: Path) -> None:
    base = family_folder(tmp_path / "base")
    model = load_local(base, precision="bfloat16", quantize="nf4").model
    save_adapter(tuned(model, quantize="nf4", target=("q_proj",), base_name="tiny"), tmp_path / "adapter")
    merged = merge_adapter(base, tmp_path / "adapter", tmp_path / "out", dtype="float32")
    assert merged.layers == 2
    before, after = (load_local(f, precision="bfloat16").model.state_dict() for f in (base, merged.folder))
    changed = {name for name in before if not torch.equal(before[name], after[name])}
    assert len(changed) == 2 * 7
    assert not any("norm" in name or "embed" in name or "lm_head" in name for name in changed)


def test_an_nf4_base_keeps_its_output_layer_and_embeddings_and_measuring_does_not_change_it(tmp_path: Path) -> None:
    from bitsandbytes.nn import Linear4bit

    base = family_folder(tmp_path / "base", tie_word_embeddings=False)
    loaded = load_local(base, precision="bfloat16", quantize="nf4")
    kinds = {name: type(module) for name, module in loaded.model.named_modules()}
    assert kinds["lm_head"] is torch.nn.Linear
    assert kinds["model.embed_tokens"] is torch.nn.Embedding
    assert kinds["model.layers.1.mlp.down_proj"] is Linear4bit
    assert {p.dtype for name, p in loaded.model.named_parameters() if "norm" in name} == {torch.bfloat16}
    state = loaded.model.model.layers[0].mlp.down_proj.weight.quant_state
    assert (state.quant_type, state.nested, state.dtype) == ("nf4", True, torch.bfloat16)
    scales = state.absmax.clone()
    logits(loaded.model)
    assert torch.equal(loaded.model.model.layers[0].mlp.down_proj.weight.quant_state.absmax, scales)
    assert loaded.fingerprint != load_local(base, precision="bfloat16").fingerprint


def test_what_a_merged_folder_holds(tmp_path: Path) -> None:
    base, adapter = pair(tmp_path)
    merge_adapter(str(base), adapter, tmp_path / "deep/out")
    out = tmp_path / "deep/out"
    names = {path.name for path in out.iterdir()}
    assert {"config.json", "model.safetensors", "tokenizer.json", "chat_template.jinja"} <= names
    assert not any(name.startswith("adapter") for name in names)
    assert (out / "generation_config.json").read_bytes() == (base / "generation_config.json").read_bytes()
    assert [path.name for path in out.parent.iterdir()] == ["out"]
    plain, merged = load_local(base), load_local(out)
    assert merged.rendering == plain.rendering
    assert merged.tokenizer("Tag, 東京")["input_ids"] == plain.tokenizer("Tag, 東京")["input_ids"]
