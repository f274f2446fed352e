"""What the two importers read alike, so that one file of each says the same here."""

from __future__ import annotations

from typing import Any

from lastresort.neighbours.given import Given
from lastresort.spec.values import Number

NO_CLIPPING = 1e9
"""The norm of gradients for a file whose 0 clips nothing."""
PAGED_8BIT = "paged_adamw_8bit"
NO_REMOTE_CODE = "No code of a model is run here: a model that needs some is refused when it is loaded."


def few_bits(given: Given, key: str, name: str, *, full: bool) -> str:
    """Our optimizer for an AdamW that keeps its state in few bits, but not paged. full: whether all weights are trained."""
    if full:
        given.remark(key, "differs", f"{name} keeps its state in few bits; {PAGED_8BIT} does so here.")
        return PAGED_8BIT
    sentence = f"{name} keeps its state in few bits; that of an adapter is small, and torch's AdamW is taken here."
    given.remark(key, "differs", sentence)
    return "adamw"


def lora_plus(given: Given, *, full: bool) -> dict[str, Any]:
    """Our key for LoRA+, where it is asked for. full: whether all weights are trained."""
    key = "loraplus_lr_ratio"
    ratio = given.number(key, 1.0, Number(at_least=1))
    if ratio == 1:
        return {}
    if full:
        given.refuse(key, f"{ratio:g} beside a training of all weights", expected="an adapter", remedy="Remove it.")
    return {key: ratio}
