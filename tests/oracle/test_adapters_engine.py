"""Every kind of adapter, on a 4-bit base too, trains through the packed form as through the model's own forward."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from adapters_support import family_folder, tuned
from engine_support import every_row, gradients, relative_difference
from lastresort.engine.logp import target_logps
from lastresort.models.loading import load_local


@pytest.mark.parametrize(
    ("family", "kind", "quantize"),
    [("llama", "lora", "nf4"), ("phi3", "dora", "nf4"), ("gpt2", "lora", "nf4"), ("gpt2", "dora", None)],
)
def test_packed_is_plain(family: str, kind: str, quantize: str | None, tmp_path: Path) -> None:
    base = family_folder(tmp_path / "base", family)
    loaded = load_local(base, precision="float32", quantize="nf4" if quantize else "no")
    model = tuned(loaded.model, kind, quantize=quantize).train()
    rows = every_row()[:8]
    packed, plain = target_logps(model, rows), target_logps(model, rows, plain=True)
    assert (packed.path, plain.path) == ("packed", "plain")
    torch.testing.assert_close(packed.per_token, plain.per_token, rtol=0, atol=1e-4)
    found, expected = gradients(model, packed.per_token), gradients(model, plain.per_token)
    assert all("lora_" in name for name in found)
    assert relative_difference(found, expected) < 1e-4
