"""What torch, CUDA and Python say of memory becomes one sentence; what they say of anything else does not."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from lastresort.errors import InfrastructureError
from lastresort.spec.training import load_training
from lastresort.train.memory_error import memory_errors, what_to_lower
from lastresort.train.training_file import TrainingFile

CUDA = (
    "CUDA out of memory. Tried to allocate 2.50 GiB. GPU 0 has a total capacity of 79.11 GiB of which 1.2 GiB is free."
)


@pytest.mark.parametrize(
    ("error", "asked"),
    [
        (MemoryError(), ""),
        (torch.OutOfMemoryError(CUDA), " for 2.50 GiB more"),
        (RuntimeError("MPS backend out of memory (MPS allocated: 8 GB)"), ""),
        (RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"), ""),
        (
            RuntimeError(
                "[enforce fail] DefaultCPUAllocator: not enough memory: you tried to allocate 3221225472 bytes."
            ),
            " for 3.0 GiB more",
        ),
    ],
)
def test_out_of_memory_is_one_sentence(error: Exception, asked: str) -> None:
    with pytest.raises(InfrastructureError) as caught, memory_errors("Lower it."):
        raise error
    assert str(caught.value) == f"training: there is not enough memory{asked}, expected a pass that fits. Lower it."
    assert caught.value.exit_code == 4


def test_torch_itself_on_this_machine() -> None:
    with pytest.raises(InfrastructureError, match=r"for 4,194,304\.0 GiB more"), memory_errors("Lower it."):
        torch.empty(1 << 50)


def test_other_errors_stay_what_they_are() -> None:
    with pytest.raises(RuntimeError, match="shapes"), memory_errors("Lower it."):
        raise RuntimeError("shapes do not match")


def test_the_remedy_names_keys_that_the_file_has(tmp_path: Path) -> None:
    (tmp_path / "rows.jsonl").write_text('{"input": "a", "output": "b"}\n', encoding="utf-8")

    def remedy(text: str) -> str:
        path = tmp_path / "train.yaml"
        path.write_text(f"data: rows.jsonl\nmax_pass_tokens: 512\n{text}", encoding="utf-8")
        file: TrainingFile = load_training(path)
        assert what_to_lower(replace(file, checkpointing=True)) == what_to_lower(file).replace(
            ", or write checkpointing: true", ""
        )
        return what_to_lower(file)

    assert remedy("") == (
        "Lower max_pass_tokens (512), or write checkpointing: true, and go on with --resume from the last checkpoint; a new run "
        "may lower max_tokens."
    )
    assert remedy("adapter: full").endswith("may lower max_tokens or train an adapter in place of all weights.")
    groups = "objective: grpo\nreward: [exact]\nmax_new_tokens: 99\n"
    assert "rows_at_once (64)" in remedy(groups)
    assert remedy(groups).endswith("may lower max_new_tokens (99).")
    assert "rows_at_once" not in remedy(groups + "server: http://h/v1#m")
