"""What decides a training run, apart from its rows."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass
from typing import Literal

ATTENTION = ("q_proj", "k_proj", "v_proj", "o_proj")


@dataclass(frozen=True, slots=True)
class TrainSettings:
    """Settings of one run of SFT with LoRA.

    learning_rate: peak, after `warmup` (a share of all steps), then linear to zero. batch_size: rows an optimizer step,
    whatever number of passes they take. epochs: passes over the rows. r, alpha: LoRA rank and its scale alpha/r.
    target: which linear layers get adapters. max_pass_tokens: computed tokens in one forward and backward, the knob for
    memory; it changes no result. weight_decay applies to nothing by default, as in PEFT's LoRA examples.
    """

    learning_rate: float
    epochs: int = 3
    batch_size: int = 16
    r: int = 16
    alpha: int = 32
    target: Literal["attention", "all-linear"] = "attention"
    warmup: float = 0.05
    weight_decay: float = 0.0
    max_grad_norm: float = 1.0
    max_pass_tokens: int = 1024
    checkpointing: bool = False
    seed: int = 0

    def fingerprint(self) -> str:
        return hashlib.sha256(json.dumps(asdict(self), sort_keys=True).encode()).hexdigest()[:16]


def learning_rate_at(step: int, steps: int, settings: TrainSettings) -> float:
    """Learning rate of step `step` (0-based) of `steps`: linear warm-up, then linear decay that would reach 0 at `steps`."""
    warm = round(settings.warmup * steps)
    if step < warm:
        return settings.learning_rate * (step + 1) / warm
    return settings.learning_rate * max(0.0, (steps - step) / max(1, steps - warm))
