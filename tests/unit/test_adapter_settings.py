"""What an adapter's settings may hold: what PEFT writes, and nothing that takes any time or imports a module."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from lastresort.errors import DataError
from lastresort.models import adapter_settings as module
from lastresort.models.adapter_settings import adapter_settings, check_patterns

LAYERS = ["model.layers.0.self_attn.q_proj", "model.layers.0.mlp.down_proj"]


def write(folder: Path, **values: Any) -> Path:
    (folder / "adapter_config.json").write_text(json.dumps({"peft_type": "LORA", "r": 8, **values}))
    return folder


@pytest.mark.parametrize(
    "values",
    [
        {"target_modules": ["q_proj"], "rank_pattern": {"q_proj": 4}, "alpha_pattern": {r".*\.(q|k)_proj": 0.5}},
        {"target_modules": r".*\.self_attn\.(q|k|v|o)_proj", "layers_pattern": "layers", "layers_to_transform": [0]},
        {"layer_replication": [[0, 16], [8, 24]], "lora_alpha": 16.5, "modules_to_save": ["lm_head"]},
        {"peft_type": "ADALORA", "r": 8, "rank_pattern": {"q_proj": [True, False]}},
        {"peft_type": "IA3", "r": None, "exclude_modules": r"model\.layers\.0\..*"},
    ],
)
def test_what_peft_writes_is_read(tmp_path: Path, values: dict[str, Any]) -> None:
    found = adapter_settings(write(tmp_path, **values))
    assert {key: found[key] for key in values} == values
    check_patterns(found, LAYERS, tmp_path)


@pytest.mark.parametrize(
    ("values", "named"),
    [
        ({"r": "8"}, '"r"'),
        ({"r": 0}, '"r"'),
        ({"r": 10**9}, '"r"'),
        ({"r": True}, '"r"'),
        ({"lora_alpha": "16"}, '"lora_alpha"'),
        ({"rank_pattern": {"q_proj": 10**9}}, '"rank_pattern"'),
        ({"rank_pattern": ["q_proj"]}, '"rank_pattern"'),
        ({"alpha_pattern": {"q_proj": "1"}}, '"alpha_pattern"'),
        ({"target_modules": [1]}, '"target_modules"'),
        ({"layer_replication": [[0, 10**9]]}, '"layer_replication"'),
        ({"layer_replication": 5}, '"layer_replication"'),
        ({"megatron_config": {"a": 1}, "megatron_core": "antigravity"}, '"megatron_config"'),
    ],
)
def test_what_peft_cannot_have_written_is_named(tmp_path: Path, values: dict[str, Any], named: str) -> None:
    with pytest.raises(DataError, match=named):
        adapter_settings(write(tmp_path, **values))


@pytest.mark.sampled(5)
@pytest.mark.parametrize(
    "key", ["target_modules", "exclude_modules", "rank_pattern", "alpha_pattern", "modules_to_save"]
)
def test_a_pattern_that_takes_years_is_ended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, key: str) -> None:
    monkeypatch.setattr(module, "MATCHING_S", 0.5)
    slow = "(([a-z_.0-9]+)+)+!"
    value: Any = {slow: 4} if key.endswith("_pattern") else [slow] if key == "modules_to_save" else slow
    with pytest.raises(DataError, match="takes more than") as caught:
        check_patterns(adapter_settings(write(tmp_path, **{key: value})), LAYERS, tmp_path)
    assert key in str(caught.value)


def test_a_pattern_that_is_none_is_named(tmp_path: Path) -> None:
    for pattern in ("(", "a{99999999999999999999}", "(" * 100_000 + ")" * 100_000):
        with pytest.raises(DataError, match="no regular expression"):
            check_patterns(adapter_settings(write(tmp_path, target_modules=pattern)), LAYERS, tmp_path)
