"""The size of a model, known before it is loaded."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from engine_support import tiny
from lastresort.hardware.find import computed_parameters_of, parameters_of
from lastresort.models.open import parameter_count

LLAMA = {
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "intermediate_size": 48,
    "vocab_size": 97,
}


@pytest.mark.parametrize("family", ["llama", "mistral", "gemma"])
@pytest.mark.parametrize("says_tied", [True, False])
def test_it_is_that_of_the_weights(family: str, says_tied: bool) -> None:
    model = tiny(family)
    config = {key: value for key, value in model.config.to_dict().items() if says_tied or key != "tie_word_embeddings"}
    assert parameters_of(config) == sum(p.numel() for p in model.parameters())


@pytest.mark.parametrize(
    "config",
    [
        {**LLAMA, "num_local_experts": 8},
        {**LLAMA, "num_experts": 128, "moe_intermediate_size": 16},
        {"text_config": LLAMA},
        {"hidden_size": 32, "vocab_size": 97, "state_size": 16},
        {},
    ],
)
def test_what_would_be_counted_wrongly_is_not_counted(config: dict[str, Any]) -> None:
    assert parameters_of(config) is None


def test_of_experts_all_have_weights_and_a_token_is_multiplied_with_those_that_it_takes() -> None:
    config = {
        **LLAMA,
        "model_type": "qwen3_moe",
        "num_experts": 8,
        "num_experts_per_tok": 2,
        "moe_intermediate_size": 16,
    }
    one_expert = 3 * 32 * 16
    assert parameters_of(config) - parameters_of({**config, "num_experts": 7}) == 2 * (one_expert + 32)  # type: ignore[operator]
    assert (
        computed_parameters_of(config) - computed_parameters_of({**config, "num_experts_per_tok": 1}) == 2 * one_expert
    )  # type: ignore[operator]


def test_the_name_tells_what_the_configuration_does_not(tmp_path: Path) -> None:
    for name in ("Qwen3-30B-A3B", "experts"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "config.json").write_text(json.dumps({**LLAMA, "num_experts": 128}), encoding="utf-8")
    assert parameter_count("Qwen3-30B-A3B", tmp_path) == 30_000_000_000
    assert parameter_count("experts", tmp_path) is None
