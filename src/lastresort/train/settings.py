"""What decides a training run, apart from its rows.

Whether an objective takes the numbers that it is given: it is asked before anything is loaded.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

import torch

from lastresort.errors import ContractError, InputError
from lastresort.objectives.pairs import PairLogps
from lastresort.train.loop.objective import Objective


def refused_options(objective: Objective) -> ContractError | None:
    """What the objective says of its options, by a call on one row; None where it takes them."""
    one, count = torch.full((1,), -1.0), torch.ones(1, dtype=torch.long)
    arguments: tuple[Any, ...] = (one,)
    more: dict[str, Any] = {}
    if objective.need == "pairs":
        arguments = (PairLogps(one, one, one, one, count, count),)
    elif objective.need == "labels":
        arguments = (one, one, torch.ones(1, dtype=torch.bool), torch.zeros(()))
    elif objective.need == "groups":
        arguments, more = (one, one, one), {"per_token_ref_logps": one}
    try:
        objective.function()(*arguments, **more, **dict(objective.options))
    except ContractError as error:
        return error
    return None


AdapterKind = Literal["lora", "rslora", "dora", "none"]
Optimizer = Literal["adamw", "paged_adamw_8bit"]
Schedule = Literal["linear", "cosine", "constant"]
MEMORY = frozenset({"max_pass_tokens", "checkpointing"})


@dataclass(frozen=True, slots=True)
class AdapterSettings:
    """What is trained beside, or instead of, the base's weights.

    kind: LoRA (Hu et al. 2021), scaled by alpha/r; rsLoRA (Kalajdzievski 2023), scaled by alpha/sqrt(r); DoRA (Liu et al.
    2024), which also trains each output's magnitude; none: all weights of the base. target: the linear layers that get
    adapters, by short name ("q_proj") where they are named; never the output layer or the embeddings. quantize: nf4 is
    QLoRA, on a base that was loaded so. Raises InputError for settings that contradict each other.
    """

    kind: AdapterKind = "lora"
    r: int = 16
    alpha: float = 32
    target: Literal["attention", "all-linear"] | tuple[str, ...] = "attention"
    dropout: float = 0.0
    quantize: Literal["nf4"] | None = None

    def __post_init__(self) -> None:
        if self.kind == "none" and self.quantize is not None:
            raise InputError(
                "full fine-tuning of a 4-bit base",
                where="adapter",
                expected="weights that can be trained",
                remedy="Choose an adapter, or leave the quantisation out.",
            )
        if self.r < 1 or self.alpha <= 0 or not 0 <= self.dropout < 1:
            raise InputError(
                f"found r {self.r}, alpha {self.alpha:g}, dropout {self.dropout:g}",
                where="adapter",
                expected="r at least 1, alpha above 0, dropout in [0, 1)",
            )


@dataclass(frozen=True, slots=True)
class TrainSettings:
    """Settings of one training run.

    learning_rate: peak, after `warmup` (a share of all steps, or from 1 on a count); then by `schedule`. batch_size: items
    (rows, pairs, prompts of a group) an optimizer step, whatever number of passes they take. epochs: passes over the items.
    max_steps: stop the schedule there, None for all epochs. max_pass_tokens: computed tokens in one forward and backward,
    the knob for memory; it changes no result. weight_decay applies to nothing by default, as in PEFT's LoRA examples.
    loraplus_lr_ratio: how many times `learning_rate` the B of an adapter, and DoRA's magnitudes, learn at (LoRA+, Hayou et al.
    2024), as in PEFT. Raises InputError for a ratio beside no adapter.
    """

    learning_rate: float
    epochs: int = 3
    batch_size: int = 16
    adapter: AdapterSettings = AdapterSettings()
    objective: Objective = field(default_factory=Objective)
    optimizer: Optimizer = "adamw"
    schedule: Schedule = "linear"
    warmup: float = 0.05
    weight_decay: float = 0.0
    max_grad_norm: float = 1.0
    max_steps: int | None = None
    max_pass_tokens: int = 1536
    checkpointing: bool = False
    seed: int = 0
    loraplus_lr_ratio: float = 1.0

    def __post_init__(self) -> None:
        if self.loraplus_lr_ratio != 1 and self.adapter.kind == "none":
            raise InputError(
                f"found {self.loraplus_lr_ratio:g} beside a training of all weights",
                where="loraplus_lr_ratio",
                expected="an adapter, whose B it speeds up",
                remedy="Choose an adapter, or leave the ratio out.",
            )

    def fingerprint(self) -> str:
        """Of all that decides the result, but for its rounding: a run may go on with less memory."""
        decides = {name: value for name, value in asdict(self).items() if name not in MEMORY}
        if self.loraplus_lr_ratio == 1:  # the same training as before there was the setting
            del decides["loraplus_lr_ratio"]
        return hashlib.sha256(json.dumps(decides, sort_keys=True).encode()).hexdigest()[:16]
