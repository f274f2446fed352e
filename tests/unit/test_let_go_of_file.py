"""What of a 4-bit base stays in 16 bits is no view of the weights' file, which would keep all of it in memory."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file

from lastresort.models.quantized import unmap_weights

MAPPED = Path("/proc/self/maps")


def mapped(file: Path) -> bool:
    return str(file) in MAPPED.read_text(encoding="utf-8", errors="replace")


@pytest.mark.skipif(not MAPPED.is_file(), reason="this system does not tell what is mapped")
def test_the_file_is_no_longer_mapped_and_nothing_has_changed(tmp_path: Path) -> None:
    file, model = tmp_path / "model.safetensors", torch.nn.Module()
    save_file({"norm": torch.arange(4096.0), "codes": torch.arange(64, dtype=torch.uint8)}, file)
    with safe_open(file, "pt") as weights:
        model.norm = torch.nn.Parameter(weights.get_tensor("norm"))
        model.codes = torch.nn.Parameter(weights.get_tensor("codes").clone(), requires_grad=False)
    del weights
    assert mapped(file), "safetensors gives views"
    codes = model.codes.data_ptr()
    unmap_weights(model)
    assert not mapped(file)
    assert torch.equal(model.norm, torch.arange(4096.0))
    assert model.codes.data_ptr() == codes, "what is in 4 bits is its own already"
