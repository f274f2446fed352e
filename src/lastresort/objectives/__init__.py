"""Objectives: pure functions on log-probabilities that return unreduced losses. Values are `module:name`."""

from typing import Literal

Need = Literal["completions", "text", "pairs", "labels", "groups"]

OBJECTIVES: dict[str, str] = {
    "sft": "lastresort.objectives.sft:sft",
    "text": "lastresort.objectives.sft:sft",
    "dpo": "lastresort.objectives.pairs:dpo",
    "ipo": "lastresort.objectives.pairs:ipo",
    "hinge": "lastresort.objectives.pairs:hinge",
    "simpo": "lastresort.objectives.pairs:simpo",
    "apo_zero": "lastresort.objectives.pairs:apo_zero",
    "orpo": "lastresort.objectives.pairs:orpo",
    "kto": "lastresort.objectives.kto:kto",
    "grpo": "lastresort.objectives.grpo:grpo",
    "dr_grpo": "lastresort.objectives.grpo:grpo",
    "dapo": "lastresort.objectives.grpo:dapo",
}

# What rows an objective trains on. text is sft with every token a target; the groups of dr_grpo share grpo's loss of a
# token and differ in `advantages.ADVANTAGE_SCALE` and `token_weights`.
NEEDS: dict[str, Need] = {
    "sft": "completions",
    "text": "text",
    "dpo": "pairs",
    "ipo": "pairs",
    "hinge": "pairs",
    "simpo": "pairs",
    "apo_zero": "pairs",
    "orpo": "pairs",
    "kto": "labels",
    "grpo": "groups",
    "dr_grpo": "groups",
    "dapo": "groups",
}

# What needs log-probabilities of the reference: always, and only with a KL weight above 0.
REFERENCE = frozenset({"dpo", "ipo", "hinge", "apo_zero", "kto"})
REFERENCE_FOR_KL = frozenset({"grpo", "dr_grpo", "dapo"})
