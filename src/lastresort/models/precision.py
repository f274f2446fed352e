"""The device and number format that a model uses on this machine."""

from __future__ import annotations

from typing import Literal

import torch

from lastresort.errors import TaskError
from lastresort.hardware.environment import made_by_amd

Precision = Literal["auto", "float32", "bfloat16", "float64"]

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float64": torch.float64}


def chosen_device() -> torch.device:
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def chosen_dtype(precision: str, device: torch.device) -> torch.dtype:
    """auto is bfloat16 if the GPU supports it or the processor is fast at it, else float32.

    Raises TaskError for an unknown precision.
    """
    if precision == "auto":
        fast = torch.cuda.is_bf16_supported() if device.type == "cuda" else processor_computes_bfloat16()
        return torch.bfloat16 if fast else torch.float32
    if precision not in DTYPES:
        raise TaskError(
            f'found "{precision}"', where="precision", expected=f"auto, {', '.join(DTYPES)}", remedy="Name one of them."
        )
    return DTYPES[precision]


def is_reduced(dtype: torch.dtype) -> bool:
    """Whether rounding is so coarse that an answer can depend on the rest of its batch."""
    return torch.finfo(dtype).eps > torch.finfo(torch.float32).eps


def processor_computes_bfloat16() -> bool:
    """Whether bfloat16 matrix products are faster here than float32. With AMX tiles they are, without any bfloat16 instruction
    never. AVX512-BF16 alone doubles the speed on AMD's Zen 4 and 5, and halves it on Intel Xeons whose tiles a virtual machine
    hides. Decided by the vendor, not by timing, so that all processes of a run agree.
    """
    return torch.cpu._is_amx_tile_supported() or (torch.cpu._is_avx512_bf16_supported() and made_by_amd())
