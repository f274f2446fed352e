"""Objectives: pure functions on log-probabilities that return unreduced losses. A new one is a function and a row of the table.

What other frameworks call them, for those that have them: `export.py` of trl, axolotl and llamafactory in `interop`.
"""

from dataclasses import dataclass
from typing import Literal

Need = Literal["completions", "text", "pairs", "labels", "groups"]
Reference = Literal["never", "always", "for_kl"]


@dataclass(frozen=True, slots=True)
class ObjectiveFacts:
    """path: `module:name` of its function. need: what rows it trains on. reference: when it needs log-probabilities of the
    reference; for_kl: only with a KL weight above 0. in_prose: its name in a sentence, where that is not the key in capitals."""

    path: str
    need: Need
    reference: Reference = "never"
    in_prose: str = ""


# text is sft with every token a target; the groups of dr_grpo share grpo's loss of a token and differ in
# `grpo.ADVANTAGE_SCALE` and `grpo.token_weights`.
OBJECTIVES: dict[str, ObjectiveFacts] = {
    "sft": ObjectiveFacts("lastresort.objectives.answers:sft", "completions"),
    "text": ObjectiveFacts("lastresort.objectives.answers:sft", "text"),
    "dpo": ObjectiveFacts("lastresort.objectives.answers:dpo", "pairs", "always"),
    "ipo": ObjectiveFacts("lastresort.objectives.answers:ipo", "pairs", "always"),
    "hinge": ObjectiveFacts("lastresort.objectives.answers:hinge", "pairs", "always", "hinge loss"),
    "simpo": ObjectiveFacts("lastresort.objectives.answers:simpo", "pairs", in_prose="SimPO"),
    "apo_zero": ObjectiveFacts("lastresort.objectives.answers:apo_zero", "pairs", "always", "APO-zero"),
    "orpo": ObjectiveFacts("lastresort.objectives.answers:orpo", "pairs"),
    "kto": ObjectiveFacts("lastresort.objectives.answers:kto", "labels", "always"),
    "grpo": ObjectiveFacts("lastresort.objectives.grpo:grpo", "groups", "for_kl"),
    "dr_grpo": ObjectiveFacts("lastresort.objectives.grpo:grpo", "groups", "for_kl", "Dr. GRPO"),
    "dapo": ObjectiveFacts("lastresort.objectives.grpo:dapo", "groups", "for_kl"),
}
