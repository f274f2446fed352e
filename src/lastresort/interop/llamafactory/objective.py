"""`stage` and the keys of its loss -> our objective with its options."""

from __future__ import annotations

from typing import Any, Literal

from lastresort.interop.foreign_keys import ForeignKeys, note_kto_baseline
from lastresort.spec.values import NumberBounds
from lastresort.types import JsonObject

Stage = Literal["sft", "pt", "dpo", "kto"]
PREFERENCE_STAGES = frozenset({"dpo", "kto"})
_STAGES = ("sft", "pt", "dpo", "kto", "ppo", "rm")
_LOSSES = ("sigmoid", "hinge", "ipo", "kto_pair", "orpo", "simpo")
_POSITIVE, _NOT_NEGATIVE = NumberBounds(above=0), NumberBounds(at_least=0)
_NEAREST = {
    "ppo": (
        "sft, pt, dpo or kto; there is no value model here, and no reward model: the nearest is GRPO, which compares the "
        "answers of a group, with scorers or a function as the reward",
        "Write a training file with objective: grpo and reward (docs/train.md).",
    ),
    "rm": (
        "sft, pt, dpo or kto; no reward model is trained here: the nearest is to train the model itself on the same pairs",
        "Write stage: dpo.",
    ),
}
# Parts of a loss that the objectives here lack: without them it would be another training.
_FOREIGN_PARTS = {
    "pref_ftx": "no likelihood of the chosen answer is added to a preference loss; orpo has one of its own",
    "pref_bco_weight": "there is no BCO term",
    "ld_alpha": "the tokens of a longer answer are not weighted",
}


def read_stage(given: ForeignKeys) -> Stage:
    """Raises TaskError for ppo and rm, with the nearest that there is."""
    stage = given.choice("stage", _STAGES, "sft")
    if stage in _NEAREST:
        expected, remedy = _NEAREST[stage]
        given.refuse("stage", stage, expected=expected, remedy=remedy)
    return stage  # type: ignore[return-value]


def objective_of(stage: Stage, given: ForeignKeys) -> Any:
    """The value of `objective`, with every option written out. Raises TaskError for an unsupported loss."""
    if stage in PREFERENCE_STAGES:
        _refuse_foreign_parts(given)
    if stage == "dpo":
        return _pairs(given)
    if stage == "kto":
        note_kto_baseline(given)
        return {
            "kto": {
                "beta": given.number("pref_beta", 0.1, _POSITIVE),
                "desirable_weight": given.number("kto_chosen_weight", 1.0, _NOT_NEGATIVE),
                "undesirable_weight": given.number("kto_rejected_weight", 1.0, _NOT_NEGATIVE),
            }
        }
    return "text" if stage == "pt" else "sft"


def _pairs(given: ForeignKeys) -> dict[str, JsonObject]:
    loss = given.choice("pref_loss", _LOSSES, "sigmoid")
    beta = given.number("pref_beta", 0.1, _POSITIVE)
    smoothing = given.number("dpo_label_smoothing", 0.0, NumberBounds(at_least=0, below=0.5))
    if smoothing and loss != "sigmoid":
        given.refuse(
            "dpo_label_smoothing", f"it beside {loss}", expected="it only with pref_loss: sigmoid", remedy="Remove it."
        )
    if loss == "kto_pair":
        remedy = "The nearest is stage: kto, on answers with labels."
        given.refuse("pref_loss", loss, expected="sigmoid, hinge, ipo, orpo or simpo", remedy=remedy)
    if loss == "sigmoid":
        return {"dpo": {"beta": beta, "label_smoothing": smoothing}}
    if loss in ("ipo", "hinge"):
        given.note_trap(
            "pref_loss",
            f"With TRL from 0.20 on, which LLaMA-Factory 0.9.5 accepts, {loss} is computed as sigmoid there. Here it is {loss}.",
        )
    if loss == "ipo":
        return {"ipo": {"beta": beta, "per_token": True}}  # its log-probabilities are means over the answer there
    if loss == "orpo":
        return {"orpo": {"weight": beta}}
    if loss == "simpo":
        return {"simpo": {"beta": beta, "gamma": given.number("simpo_gamma", 0.5, _NOT_NEGATIVE)}}
    return {"hinge": {"beta": beta}}


def _refuse_foreign_parts(given: ForeignKeys) -> None:
    for key, why in _FOREIGN_PARTS.items():
        value = given.any(key)
        if value:
            given.refuse(key, str(value), expected=f"it left out: {why}", remedy="Remove it.")
