"""The GGUF that is handed over, read back by transformers, is the model that was measured: base, adapter and rendering."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from adapters_support import family_folder, family_model, logits, tuned
from handoff_support import handed, run_of, system
from lastresort.libraries import quiet_transformers
from lastresort.models.loading import load_local

# transformers reads no head size of a Qwen3 from a GGUF and takes 128, that of every published one
SHAPES: dict[str, dict[str, Any]] = {"llama": {}, "qwen2": {}, "qwen3": {"head_dim": 128, "num_attention_heads": 2}}


def run_with_adapter(
    folder: Path, family: str, precision: str, dtype: torch.dtype = torch.float32, **changes: Any
) -> Path:
    """A run whose winner is an adapter on a tiny model of this family."""
    base = family_folder(folder / "base", family, dtype, **SHAPES[family], **changes)
    tuned(family_model(family, dtype, **SHAPES[family], **changes), base_name=str(base)).save_pretrained(
        folder / "adapter"
    )
    winner = system(base, adapter=folder / "adapter", precision=precision, template_kwargs={"mode": "terse"})
    return run_of(folder / "tickets", winner, kind="adapter")


def read_back(file: Path) -> tuple[Any, Any]:
    from transformers import AutoModelForCausalLM, AutoTokenizer

    with quiet_transformers():
        model = AutoModelForCausalLM.from_pretrained(file.parent, gguf_file=file.name, dtype=torch.float32).eval()
        return model, AutoTokenizer.from_pretrained(file.parent, gguf_file=file.name)


@pytest.mark.sampled(5)
@pytest.mark.parametrize("to", ["llamacpp", "ollama"])
@pytest.mark.parametrize("family", SHAPES)
def test_float32_is_the_measured_model(family: str, to: str, tmp_path: Path) -> None:
    run = run_with_adapter(tmp_path, family, "float32", tie_word_embeddings=family == "llama")
    found = handed(run, to)
    model, tokenizer = read_back(found.folder / "tickets-F32.gguf")
    own = load_local(tmp_path / "base", precision="float32", adapter=run / "winner" / "adapter")
    torch.testing.assert_close(logits(model), logits(own.model), rtol=0, atol=1e-4)
    alone = logits(load_local(tmp_path / "base", precision="float32").model)
    assert (logits(model) - alone).abs().max() > 0.1  # it is not the base
    talk = [{"role": "user", "content": "Hi"}]
    rendered = tokenizer.apply_chat_template(talk, add_generation_prompt=True)["input_ids"]
    assert rendered == own.tokenizer.apply_chat_template(talk, add_generation_prompt=True, mode="terse")["input_ids"]
    assert tokenizer.chat_template.startswith('{% set mode = "terse" %}')


def test_what_computed_in_bfloat16_is_written_in_it(tmp_path: Path) -> None:
    """Each weight of the base without an adapter is then the one that answered."""
    base = family_folder(tmp_path / "base", "qwen2", tie_word_embeddings=False)
    found = handed(run_of(tmp_path / "tickets", system(base, precision="bfloat16")), "llamacpp")
    model, _ = read_back(found.folder / "tickets-BF16.gguf")
    own = load_local(base, precision="bfloat16").model.state_dict()
    stored = load_local(base, precision="float32").model.state_dict()
    for name, value in model.state_dict().items():
        expected = own[name].float() if own[name].ndim > 1 else stored[name]
        torch.testing.assert_close(value, expected, rtol=0, atol=0)
