"""Do a base with its adapter and the merged model give the same answers? Their logits on a few texts, compared."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from lastresort.errors import DataError

PROBES = (
    "The ticket says that the parcel arrived on Tuesday, two days late, and that the box was open.",
    "Question: What is 17 + 25?\nAnswer: 42\n\nQuestion: What is the capital of Portugal?\nAnswer:",
    '{"team": "billing", "urgent": false, "reason": "The invoice of March was paid twice."}',
    "def area(width, height):\n    return width * height\n\nÜber den Wolken, 東京, €20.",
)
PROBE_TOKENS = 48

# Relative difference of the logits that is still rounding. float32 and float64 round in other places of the same sum
# (rotary angles are float32 in both); bfloat16 rounds each merged weight by a relative 2^-9 and each layer's result again.
TOLERANCE = {torch.float64: 1e-6, torch.float32: 1e-4, torch.bfloat16: 0.06}


@dataclass(frozen=True, slots=True)
class MergeCheck:
    """How far the merged model is from the base with its adapter.

    texts, tokens: how many were compared. largest_difference: of any logit. relative_difference: root mean square of the
    differences, in units of the logits' own spread at a token. tolerance: what it may be. adapter_effect: the same distance
    between the base and the base with its adapter. same_tokens: share of tokens after which both would go on alike.
    """

    texts: int
    tokens: int
    largest_difference: float
    relative_difference: float
    tolerance: float
    adapter_effect: float
    same_tokens: float

    @property
    def drowned(self) -> bool:
        """Whether rounding is as large as what the adapter changes, so that merging loses it."""
        return self.relative_difference > 0.5 * self.adapter_effect > 0


def probe_ids(tokenizer: Any) -> list[list[int]]:
    return [tokenizer(text)["input_ids"][:PROBE_TOKENS] for text in PROBES]


def unmerged_logits(model: Any, probes: Sequence[Sequence[int]], scale: float) -> tuple[Tensor, Tensor]:
    """Logits [tokens, vocabulary] of the base with its adapter at `scale`, and of the base alone.

    A scale between is taken from outputs, not from weights, so that it checks the formula of the merge: a layer is linear,
    and its output at scale s is s times the adapted plus (1-s) times the base's.
    """
    with model.disable_adapter():
        base = logits_of(model, probes)
    with _scaled(model, scale) if scale != 1.0 else nullcontext():
        return logits_of(model, probes), base


def logits_of(model: Any, probes: Sequence[Sequence[int]]) -> Tensor:
    """Logits of all probes, one after the other, on the processor; float32 or wider."""
    found = []
    with torch.inference_mode():
        for ids in probes:
            logits = model(input_ids=torch.tensor([list(ids)], device=model.device), use_cache=False).logits[0]
            found.append(logits.to(torch.promote_types(logits.dtype, torch.float32)).cpu())
    return torch.cat(found)


def compare(merged: Tensor, unmerged: Tensor, base: Tensor, *, texts: int, tolerance: float) -> MergeCheck:
    """The figures of the check; all logits [tokens, vocabulary]."""
    same = merged.argmax(-1) == unmerged.argmax(-1)
    return MergeCheck(
        texts=texts,
        tokens=len(merged),
        largest_difference=float((merged - unmerged).abs().max()),
        relative_difference=_distance(merged, unmerged),
        tolerance=tolerance,
        adapter_effect=_distance(base, unmerged),
        same_tokens=float(same.double().mean()),
    )


def refuse_if_different(check: MergeCheck, where: str) -> None:
    """Raise DataError where the difference is more than rounding, or is not a number."""
    if check.relative_difference <= check.tolerance:
        return
    raise DataError(
        f"the merged model differs from the base with its adapter by {check.relative_difference:.2g} of the logits' spread",
        where=where,
        expected=f"at most {check.tolerance:g}",
        remedy="Serve the adapter unmerged, or merge in float32.",
    )


def _distance(a: Tensor, b: Tensor) -> float:
    """Root mean square of a - b over that of b, each token's logits taken from their mean, which changes no probability."""
    apart, spread = (x - x.mean(-1, keepdim=True) for x in (a - b, b))
    return float(apart.norm() / spread.norm().clamp_min(torch.finfo(b.dtype).tiny))


@contextmanager
def _scaled(model: Any, scale: float) -> Iterator[None]:
    from peft.tuners.lora import LoraLayer

    def between(module: Any, arguments: Any, output: Tensor) -> Tensor:
        without: Tensor = module.base_layer(*arguments)
        return without + scale * (output - without)

    hooks = [m.register_forward_hook(between) for m in model.modules() if isinstance(m, LoraLayer)]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()
