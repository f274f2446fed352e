"""Tiny random models of every family with a tokenizer, as folders, and adapters on them that change what they say."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch

from engine_support import tiny
from lastresort.train.adapters.adapters import attach_adapter
from lastresort.train.settings import AdapterSettings
from tiny_model import save_tiny_model

FAMILIES = ("llama", "qwen2", "qwen3", "mistral", "gemma", "phi", "phi3", "gpt2")
KINDS = ("lora", "rslora", "dora")
WORDS = ("Ġ", "t"), ("h", "e"), ("Ġt", "he"), ("1", "2")  # merges beyond single bytes
VOCABULARY = 259 + len(WORDS)
QWEN2 = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}"
    r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)


def some_ids(n: int = 24) -> torch.Tensor:
    return torch.randint(3, VOCABULARY, (1, n), generator=torch.Generator().manual_seed(7))


def family_model(family: str = "llama", dtype: torch.dtype = torch.float32, *, seed: int = 0, **changes: Any) -> Any:
    return tiny(family, dtype, seed=seed, vocab_size=VOCABULARY, **changes)


def family_folder(
    folder: Path, family: str = "llama", dtype: torch.dtype = torch.float32, *, seed: int = 0, **changes: Any
) -> Path:
    """The model of this family as an ordinary folder with a tokenizer and a generation_config.json of its own."""
    save_tiny_model(folder)
    (folder / "model.safetensors").unlink()
    _give_merges(folder / "tokenizer.json", as_qwen=family.startswith("qwen"))
    family_model(family, dtype, seed=seed, **changes).save_pretrained(str(folder))
    (folder / "generation_config.json").write_text('{"temperature": 0.3, "top_k": 7}\n', encoding="utf-8")
    return folder


def _give_merges(path: Path, *, as_qwen: bool) -> None:
    described = json.loads(path.read_text(encoding="utf-8"))
    described["model"]["merges"] = [list(pair) for pair in WORDS]
    described["model"]["vocab"] |= {left + right: 259 + i for i, (left, right) in enumerate(WORDS)}
    if as_qwen:
        split = {"type": "Split", "pattern": {"Regex": QWEN2}, "behavior": "Isolated", "invert": False}
        bytes_only = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": False}
        described["pre_tokenizer"] = {"type": "Sequence", "pretokenizers": [split, bytes_only]}
    path.write_text(json.dumps(described), encoding="utf-8")


def tuned(model: Any, kind: str = "lora", *, base_name: str = "tiny", seed: int = 1, **settings: Any) -> Any:
    """The model with an adapter of this kind whose every weight is drawn at random."""
    chosen = AdapterSettings(kind=kind, r=4, alpha=8, **{"target": "all-linear", **settings})  # type: ignore[arg-type]
    with_adapter = attach_adapter(model, chosen, base_name=base_name)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, parameter in with_adapter.named_parameters():
            if "lora_A" in name or "lora_B" in name:
                parameter.copy_(torch.randn(parameter.shape, generator=generator) * 0.15)
            elif "magnitude" in name:
                parameter.mul_(1 + 0.3 * torch.rand(parameter.shape, generator=generator))
    return with_adapter.eval()


def logits(model: Any, ids: torch.Tensor | None = None) -> torch.Tensor:
    with torch.no_grad():
        found: torch.Tensor = model(input_ids=some_ids() if ids is None else ids, use_cache=False).logits
    return found
