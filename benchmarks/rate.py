"""How fast this machine multiplies matrices of the model's shapes: `python -m benchmarks.rate PRECISION` prints one JSON line."""

from __future__ import annotations

import json
import sys
import time

import torch

from benchmarks.material import embedded

TOKENS, SECONDS = 1024, 2.0


def linear_parameters(model: torch.nn.Module) -> int:
    """Weights that every computed token is multiplied with: all linear layers but the output layer."""
    head = model.get_output_embeddings()  # type: ignore[operator]
    return sum(m.weight.numel() for m in model.modules() if isinstance(m, torch.nn.Linear) and m is not head)


def flops_per_s(inputs: int, outputs: int, dtype: torch.dtype) -> float:
    x, weight = torch.randn(TOKENS, inputs).to(dtype), torch.randn(outputs, inputs).to(dtype)
    for _ in range(10):
        torch.nn.functional.linear(x, weight)
    began, n = time.perf_counter(), 0
    while time.perf_counter() - began < SECONDS:
        torch.nn.functional.linear(x, weight)
        n += 1
    return 2.0 * TOKENS * inputs * outputs * n / (time.perf_counter() - began)


def main(precision: str) -> dict[str, float]:
    loaded = embedded(precision)
    width, inner = loaded.model.config.hidden_size, loaded.model.config.intermediate_size
    rates = [flops_per_s(a, b, loaded.dtype) for a, b in ((width, width), (width, inner), (inner, width))]
    head = loaded.model.get_output_embeddings().weight.numel()
    return {
        "flops_per_s": sum(rates) / len(rates),
        "linear_parameters": linear_parameters(loaded.model),
        "head_parameters": head,
    }


if __name__ == "__main__":
    print(json.dumps(main(sys.argv[1])))
