"""Where the rounding noise of a preference pair's margin comes from in bf16, part by part.

    python -m scripts.preference_noise --data ../shared/data

The embedded model with its weights rounded to bf16 computes in float32; single kinds of values are rounded to bf16 as a bf16 model
rounds them: the inputs and outputs of matrix products, the residual stream, the logits. The gain of an answer is its summed
log-probability with an adapter above that without, as DPO takes it; its noise is what rounding changes of it.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import Any

import torch
from benchmarks.material import embedded
from scripts.preference_precision import read_sides
from torch import Tensor, nn

from lastresort.engine.forest import Row
from lastresort.engine.logp import row_sums
from lastresort.engine.parts import take_apart
from lastresort.engine.plain import plain_logps
from lastresort.train.adapters.adapters import attach_adapter
from lastresort.train.settings import AdapterSettings


@dataclass(frozen=True, slots=True)
class Rounding:
    """What is rounded. layers: of the residual stream, only behind these layers; None for all."""

    products: bool = False
    residual: bool = False
    logits: bool = False
    layers: range | None = None


CASES = {
    "all, as a bf16 model": Rounding(True, True, True),
    "all but the logits": Rounding(True, True, False),
    "all but the residual stream": Rounding(True, False, True),
    "products alone": Rounding(True, False, False),
    "residual stream alone": Rounding(False, True, False),
    "logits alone": Rounding(False, False, True),
    "residual stream, layers 1 to 10": Rounding(residual=True, layers=range(10)),
    "residual stream, layers 11 to 20": Rounding(residual=True, layers=range(10, 20)),
    "residual stream, layers 21 to 30": Rounding(residual=True, layers=range(20, 30)),
}


def rounded(values: Tensor) -> Tensor:
    return values.bfloat16().float()


@contextmanager
def rounding(model: Any, asked: Rounding) -> Iterator[None]:
    """Hooks that round. The residual stream is rounded in place, since what is added to next is the same tensor."""
    with ExitStack() as stack:
        causal = model.get_base_model()
        head = causal.get_output_embeddings()
        for module in causal.modules():
            if asked.products and isinstance(module, nn.Linear):
                stack.callback(module.register_forward_pre_hook(lambda _, given: (rounded(given[0]),)).remove)
            if isinstance(module, nn.Linear) and (asked.logits if module is head else asked.products):
                stack.callback(module.register_forward_hook(lambda _, __, found: rounded(found)).remove)
        for number, layer in enumerate(causal.model.layers):
            if asked.residual and (asked.layers is None or number in asked.layers):
                for norm in (layer.input_layernorm, layer.post_attention_layernorm):
                    stack.callback(norm.register_forward_pre_hook(_in_place).remove)
        yield


def _in_place(_: nn.Module, given: tuple[Tensor, ...]) -> None:
    given[0].copy_(rounded(given[0]))


@torch.no_grad()
def sums(model: Any, rows: Sequence[Row], asked: Rounding) -> Tensor:
    """Summed log-probability of each row's targets, in nats, float64."""
    found = []
    for start in range(0, len(rows), 8):
        part = rows[start : start + 8]
        owner = torch.tensor([number for number, row in enumerate(part) for _ in range(sum(row.targets))])
        with rounding(model, asked):
            per_token = plain_logps(take_apart(model), part, head=None, equal_lengths=False)
        found.append(row_sums(per_token, owner, len(part)))
    return torch.cat(found)


def gains(model: Any, rows: Sequence[Row], asked: Rounding) -> Tensor:
    with model.disable_adapter():
        before = sums(model, rows, asked)
    return sums(model, rows, asked) - before


def moved(model: Any, size: float) -> None:
    """Adapters whose B is drawn, as after some steps of Adam at a rate of `size`."""
    draws = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if ".lora_B." in name:
                parameter.copy_(torch.randint(0, 2, parameter.shape, generator=draws) * 2.0 - 1.0).mul_(size)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=Path("..") / "shared" / "data")
    parser.add_argument("--pairs", type=int, default=8)
    parser.add_argument("--moved", type=float, default=1e-3, help="size of the weights of B")
    asked = parser.parse_args()
    loaded = embedded("float32")
    with torch.no_grad():
        for parameter in loaded.model.parameters():
            parameter.copy_(rounded(parameter))
    model = attach_adapter(loaded.model, AdapterSettings(), base_name="embedded", seed=0).eval()
    moved(model, asked.moved)
    held_out = read_sides(asked.data, loaded.tokenizer).held_out
    rows = [row for both in zip(held_out.chosen, held_out.rejected, strict=True) for row in both][: 2 * asked.pairs]
    exact = gains(model, rows, Rounding())
    print(
        f"{len(rows)} answers of {fmean(sum(row.targets) for row in rows):.0f} tokens; a margin's spread "
        f"{_spread(exact[::2] - exact[1::2]):.4f} nats without rounding",
        flush=True,
    )
    for name, case in CASES.items():
        off = gains(model, rows, case) - exact
        print(f"| {name} | {_spread(off):.4f} | {_spread(off[::2] - off[1::2]):.4f} |", flush=True)


def _spread(values: Tensor) -> float:
    """Root mean square."""
    return float(values.square().mean().sqrt())


if __name__ == "__main__":
    main()
