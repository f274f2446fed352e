"""Seconds and peak memory of this process, on the processor or on a GPU, which is waited for before the clock is read."""

from __future__ import annotations

import resource
import time
from typing import Any

import torch


def now(device: Any) -> float:
    """Seconds, once the device has done what it was given."""
    if torch.device(device).type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter()


def forget_peak(device: Any) -> None:
    """Of a GPU: what a model's making took does not count."""
    if torch.device(device).type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)


def peak_bytes(device: Any) -> int:
    """The most that tensors held on a GPU since `forget_peak`; on the processor the most that the process held."""
    if torch.device(device).type == "cuda":
        return int(torch.cuda.max_memory_allocated(device))
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def reserved_bytes(device: Any) -> int | None:
    """The most that torch's allocator took of a GPU, its gaps among it."""
    return int(torch.cuda.max_memory_reserved(device)) if torch.device(device).type == "cuda" else None
