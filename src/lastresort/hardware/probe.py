"""What this machine can do, measured in a fraction of a second."""

from __future__ import annotations

import time
from collections.abc import Callable


def matrix_flops_per_s(reduced: bool, clock: Callable[[], float] = time.perf_counter) -> float:
    """Rate of a matrix product on the device that would be used, in bfloat16 if `reduced`, else float32; best of five."""
    import torch

    device = "cuda" if torch.cuda.is_available() else "cpu"
    size = 4096 if device == "cuda" else 768
    a = torch.ones(size, size, dtype=torch.bfloat16 if reduced else torch.float32, device=device)
    best = float("inf")
    for _ in range(5):
        began = clock()
        (a @ a)[0, 0].item()
        best = min(best, clock() - began)
    return 2 * size**3 / best
