"""A tiny model over bytes, prompts for it and a reward function of its own: what the tests of GRPO share."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lastresort.train.adapters.adapters import attach_adapter
from lastresort.train.groups.groups import SampledGroups, groups_from
from lastresort.train.settings import AdapterSettings, GroupSettings
from lastresort.types import Example, Json, Message
from tiny_model import save_tiny_model

ADAPTER = AdapterSettings(r=4, alpha=8, target="all-linear")
SETTINGS = GroupSettings(group_size=4, max_new_tokens=6)
REWARDS = """
def spread(completion):
    return sum(map(ord, completion)) % 101 / 100

def letters(completion, **columns):
    return sum(c in "abcdefghijklmnopqrstuvwxyz" for c in completion) / 6
"""


@dataclass(frozen=True)
class RewardTerm:
    """A reward as a training file describes it."""

    name: str
    parameters: Mapping[str, Json]
    weight: float = 1.0


def tiny_and_tokenizer(folder: Path, *, dtype: str = "float32", head: float = 1.0) -> tuple[Any, Any]:
    """An adapter on a random model whose first draws are nearly uniform over bytes. head: what its output layer is
    multiplied by, so that an adapter below it can say something."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    source = folder / "tiny"
    if not source.exists():
        save_tiny_model(source)
    model = AutoModelForCausalLM.from_pretrained(source, dtype=getattr(torch, dtype)).eval()
    with torch.no_grad():
        model.get_output_embeddings().weight.mul_(head)
    return attach_adapter(model, ADAPTER, base_name="tiny"), AutoTokenizer.from_pretrained(source)


def examples(n: int = 6) -> list[Example]:
    return [Example(f"e{i}", (Message("user", f"{'say a letter please ' * 2}{i}"),), f"answer {i}") for i in range(n)]


def reward_file(folder: Path, text: str = REWARDS, name: str = "rewards.py") -> Path:
    path = folder / name
    path.write_text(text, encoding="utf-8")
    return path


def python_reward(path: Path, function: str = "spread", weight: float = 1.0) -> RewardTerm:
    return RewardTerm("python", {"file": str(path), "function": function}, weight)


def sampled_groups(folder: Path, tokenizer: Any, **changes: Any) -> SampledGroups:
    known: dict[str, Any] = {
        "objective": "grpo",
        "batch_size": 3,
        "seed": 5,
        "settings": SETTINGS,
        "log": folder / "completions.jsonl",
        **changes,
    }
    rewards = known.pop("rewards", None) or [python_reward(reward_file(folder))]
    return groups_from(known.pop("examples", None) or examples(), rewards, tokenizer=tokenizer, **known)
