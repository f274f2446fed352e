"""What docs/engine.md says of tests, kernels and tolerances is so."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import torch

from lastresort.engine.kernel_choice import candidates
from lastresort.engine.support import TOLERANCES

ROOT = Path(__file__).parent.parent.parent
TEXT = (ROOT / "docs" / "engine.md").read_text(encoding="utf-8")
LINES = TEXT.splitlines()


def test_every_test_that_it_names_exists() -> None:
    named = set(re.findall(r"`(test_\w+)`", TEXT))
    tests = (ROOT / "tests" / "exact" / "test_engine_refusals.py").read_text(encoding="utf-8")
    assert named == set(re.findall(r"def (test_the_wrong_number_behind_\w+)", tests)) | {
        "test_a_model_that_is_not_what_it_seems_is_found_by_trying",
        "test_unknown_logits_are_taken_from_the_model",
    }
    assert all(f"def {name}(" in tests for name in named)


@pytest.mark.parametrize(
    ("line", "device", "dtypes"),
    [
        ("| cpu |", "cpu", (torch.float64, torch.float32, torch.bfloat16, torch.float16)),
        ("| cuda, bfloat16 and float16 |", "cuda", (torch.bfloat16, torch.float16)),
        ("| cuda, float32 |", "cuda", (torch.float32,)),
        ("| cuda, float64;", "cuda", (torch.float64,)),
        ("| cuda, float64;", "mps", (torch.float32, torch.bfloat16)),
    ],
)
def test_kernels(line: str, device: str, dtypes: tuple[torch.dtype, ...]) -> None:
    (row,) = (found for found in LINES if found.startswith(line))
    shown = re.findall(r"`(\w+)`", row)
    assert all([kernel.name for kernel in candidates(torch.device(device), dtype)] == shown for dtype in dtypes)


@pytest.mark.parametrize("dtype", TOLERANCES)
def test_tolerances_of_the_first_batch(dtype: torch.dtype) -> None:
    (row,) = (found for found in LINES if found.startswith(f"| first batch, {str(dtype).removeprefix('torch.')} |"))
    assert tuple(float(cell) for cell in row.strip("|").split("|")[1:]) == TOLERANCES[dtype][1:]
