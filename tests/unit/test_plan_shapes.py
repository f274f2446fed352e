"""Shapes from configurations have, number by number, what transformers builds from the same configuration."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from lastresort.errors import DataError, InputError
from lastresort.hardware.find import find_shape, known_models, shape_named
from lastresort.hardware.shape import DENSE, EXPERTS, ModelShape, shape_of

# Sizes that nothing else has by chance: a wrong width or a layer too many cannot cancel out.
ODD = {
    "hidden_size": 48, "intermediate_size": 112, "num_hidden_layers": 5, "num_attention_heads": 6, "num_key_value_heads": 2,
    "vocab_size": 211, "max_position_embeddings": 64, "pad_token_id": 0, "bos_token_id": None, "eos_token_id": None,
}  # fmt: skip
SPARSE = {"num_experts": 7, "num_experts_per_tok": 3, "moe_intermediate_size": 20}
LATENT = {
    "kv_lora_rank": 14, "q_lora_rank": 18, "qk_rope_head_dim": 4, "qk_nope_head_dim": 10, "v_head_dim": 12,
    "n_routed_experts": 8, "n_shared_experts": 2, "num_experts_per_tok": 3, "moe_intermediate_size": 20,
    "first_k_dense_replace": 2, "num_key_value_heads": 6, "n_group": 2, "topk_group": 1,
}  # fmt: skip
CONFIGS: dict[str, dict[str, Any]] = {
    "llama": {"attention_bias": True, "tie_word_embeddings": True},
    "mistral": {"head_dim": 12},
    "ministral": {"head_dim": 12},
    "qwen2": {"tie_word_embeddings": False},
    "qwen3": {"head_dim": 10, "attention_bias": True},
    "gemma": {"head_dim": 10},
    "gemma2": {"head_dim": 10},
    "gemma3_text": {"head_dim": 10, "tie_word_embeddings": True},
    "phi3": {"tie_word_embeddings": False},
    "smollm3": {"tie_word_embeddings": True},
    "mixtral": {"num_local_experts": 5, "num_experts_per_tok": 2},
    "qwen2_moe": {**SPARSE, "shared_expert_intermediate_size": 36, "mlp_only_layers": [1]},
    "qwen3_moe": {**SPARSE, "head_dim": 10, "decoder_sparse_step": 2},
    "deepseek_v2": {**LATENT, "q_lora_rank": None},
    "deepseek_v3": LATENT,
}


def built(config: dict[str, Any]) -> Any:
    """The model without its weights' memory."""
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    kind = config["model_type"]
    values = {key: value for key, value in config.items() if key != "model_type"}
    with torch.device("meta"):
        return AutoModelForCausalLM.from_config(AutoConfig.for_model(kind, **values))


def parameters_in(model: Any) -> int:
    """Each weight once, and the scores by which DeepSeek-V3 corrects its router, which are stored as a buffer."""
    scores = sum(buffer.numel() for name, buffer in model.named_buffers() if name.endswith("e_score_correction_bias"))
    return scores + sum(parameter.numel() for parameter in model.parameters())


@pytest.mark.parametrize("kind", sorted(DENSE | EXPERTS))
def test_each_family_has_the_parameters_that_transformers_builds(kind: str) -> None:
    config = {"model_type": kind, **ODD, **CONFIGS[kind]}
    shape, model = shape_of(config, kind), built(config)
    assert shape.parameters == parameters_in(model)
    assert Counter(_widths_of(shape)) == Counter(_widths_in(model))


def _widths_of(shape: ModelShape) -> list[tuple[int, int]]:
    """Inputs and outputs of every layer that gets an adapter when all do."""
    return [(linear.inputs, linear.outputs) for linear in shape.adapted("all-linear") for _ in range(linear.count)]


def _widths_in(model: Any) -> list[tuple[int, int]]:
    """transformers keeps experts as stacked parameters, and routers by the name of a gate."""
    from torch.nn import Linear

    return [
        (module.in_features, module.out_features)
        for name, module in model.named_modules()
        if isinstance(module, Linear) and name != "lm_head" and not name.endswith(("gate", "shared_expert_gate"))
    ]


@pytest.mark.parametrize("kind", ["gemma", "gemma2", "gemma3_text", "llama", "qwen2", "phi3"])
def test_the_output_layer_is_the_embedding_where_the_configuration_class_says_so(kind: str) -> None:
    config = {"model_type": kind, **ODD, **CONFIGS[kind]}
    config.pop("tie_word_embeddings", None)
    assert shape_of(config, kind).parameters == parameters_in(built(config))


@pytest.mark.sampled(5)
@pytest.mark.parametrize("name", list(known_models()))
def test_each_model_of_the_catalogue_has_its_number_and_that_of_transformers(name: str) -> None:
    entry = known_models()[name]
    assert shape_named(name).parameters == entry.parameters == parameters_in(built(dict(entry.config)))


def test_of_experts_a_token_passes_those_that_it_takes() -> None:
    """Qwen3-30B-A3B: 3.3 billion of 30.5, less the embedding's look-up; DeepSeek-V3: 37 of 671."""
    assert shape_named("qwen3-30b-a3b").multiplied_parameters == pytest.approx(3.04e9, rel=0.01)
    assert shape_named("deepseek-v3").multiplied_parameters == pytest.approx(36.6e9, rel=0.01)


def test_adapters_have_what_their_layers_need() -> None:
    """Llama 3 8B, r 16: q and o 16 x 8,192, k and v 16 x 5,120 in 32 layers; all linear layers 41.9 million in all."""
    shape = shape_named("llama-3-8b")
    assert shape.adapter_parameters(16, "attention") == 32 * 16 * (2 * 8192 + 2 * 5120)
    assert shape.adapter_parameters(16, "all-linear") == 41_943_040


def test_text_of_a_model_that_also_sees_is_counted() -> None:
    text = dict(known_models()["gemma-3-4b"].config)
    assert (
        shape_of({"model_type": "gemma3", "text_config": text}, "g").parameters
        == known_models()["gemma-3-4b"].parameters
    )


def test_an_unknown_architecture_and_a_missing_size_say_what_would_do() -> None:
    with pytest.raises(InputError, match=r'm: model_type "mamba", expected one of .*llama.* Name a model'):
        shape_of({"model_type": "mamba"}, "m")
    with pytest.raises(InputError, match="m: a size is missing or no number"):
        shape_of({"model_type": "llama", "hidden_size": 8}, "m")


def test_a_gguf_has_the_shape_of_its_model() -> None:
    from lastresort.embedded import embedded_gguf

    found = find_shape(str(embedded_gguf()), Path())
    known = shape_named("embedded")
    assert (found.parameters, found.linears, found.tied) == (known.parameters, known.linears, True)
    assert found.context_tokens == known.context_tokens == 8192


def test_a_folder_goes_before_the_catalogue_and_the_cache_of_the_hub_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = {"model_type": "llama", **ODD}
    cached = tmp_path / "hub" / "models--Qwen--Qwen3-8B"
    for place in (tmp_path / "qwen3-8b", cached / "snapshots" / "abc"):
        place.mkdir(parents=True)
        (place / "config.json").write_text(json.dumps(config), encoding="utf-8")
    (cached / "refs").mkdir()
    (cached / "refs" / "main").write_text("abc", encoding="utf-8")
    assert find_shape("qwen3-8b", tmp_path).hidden == find_shape(str(tmp_path / "qwen3-8b"), Path()).hidden == 48
    assert find_shape("qwen3-8b", tmp_path / "hub").hidden == 4096
    assert find_shape("Qwen/Qwen3-8B", tmp_path / "hub").hidden == 4096
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    assert find_shape("Qwen/Qwen3-8B", tmp_path / "hub").hidden == 48


@pytest.mark.parametrize(
    ("written", "found"),
    [
        ("meta-llama/Meta-Llama-3-8B-Instruct", "llama-3-8b"),
        ("meta-llama/Llama-2-13b-chat-hf", "llama-2-13b"),
        ("Qwen/Qwen2.5-7B-Instruct", "qwen2.5-7b"),
        ("google/gemma-2-9b-it", "gemma-2-9b"),
        ("mistralai/Mistral-7B-Instruct-v0.3", "mistral-7b-v0.3"),
        ("microsoft/Phi-3-mini-4k-instruct", "phi-3-mini"),
        ("LLAMA-3.1-405B", "llama-3.1-405b"),
    ],
)
def test_usual_spellings_are_understood(written: str, found: str, tmp_path: Path) -> None:
    assert find_shape(written, tmp_path).name == found


def test_a_wrong_name_gets_the_nearest(tmp_path: Path) -> None:
    with pytest.raises(
        InputError, match=r'found "llama-3-9b", expected a name of the catalogue.* Did you mean llama-3-8b'
    ):
        find_shape("llama-3-9b", tmp_path)
    with pytest.raises(InputError, match="plan --list"):
        find_shape("zzz", tmp_path)
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match=r"there is no config\.json"):
        find_shape("empty", tmp_path)
    (tmp_path / "config.json").write_text("{", encoding="utf-8")
    with pytest.raises(DataError, match="invalid JSON"):
        find_shape(str(tmp_path), tmp_path)
