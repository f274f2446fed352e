"""`rl` and what belongs to it -> our objective."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from lastresort.interop.axolotl.keys import refuse_other_trainings
from lastresort.interop.axolotl.types import Family
from lastresort.interop.foreign_keys import ForeignKeys, note_kto_baseline
from lastresort.spec.values import NumberBounds
from lastresort.types import JsonObject

ABOVE_0 = NumberBounds(above=0)
RLS = ("dpo", "ipo", "orpo", "kto", "simpo", "grpo")
_NEAREST = {
    "gdpo": "grpo, which adds the rewards before it forms advantages",
    "ebft": "grpo with a reward of your own",
    "ppo": "grpo, which has no value model",
    "reward_trainer": "dpo or kto, which learn from the same preferences without a reward model",
}
_DPO_LOSSES = {"sigmoid": "dpo", "ipo": "ipo", "hinge": "hinge", "apo_zero": "apo_zero"}


@dataclass(frozen=True, slots=True)
class ObjectiveChoice:
    """value: of our key objective. family: of the rows that it needs. rl: as the file names it, "" for none."""

    rl: str
    family: Family | Literal["groups", "text"]
    value: Any


def chosen_objective(given: ForeignKeys, *, text: bool) -> ObjectiveChoice:
    """text: whether the rows are plain text. Raises TaskError for an objective that is not here, naming the nearest."""
    refuse_other_trainings(given)
    rl = given.text("rl") or ""
    if rl == "":
        return ObjectiveChoice("", "text", "text") if text else ObjectiveChoice("", "sft", "sft")
    if rl not in RLS:
        nearest = _NEAREST.get(rl, "one of these")
        given.refuse("rl", rl, expected=", ".join(RLS), remedy=f"The nearest thing here is {nearest}.")
    if rl in ("dpo", "ipo"):
        return _dpo(given, rl)
    if rl == "simpo":
        return _simpo(given)
    if rl == "orpo":
        given.note_difference(
            "rl", "orpo's likelihood counts the answer alone here, as in the paper. TRL's counts the prompt too."
        )
        return ObjectiveChoice(rl, "orpo", {"orpo": {"weight": beta(given)}})
    if rl == "kto":
        given.any("remove_unused_columns")
        note_kto_baseline(given)
        weights = {f"{side}_weight": _weight(given, f"kto_{side}_weight") for side in ("desirable", "undesirable")}
        return ObjectiveChoice(rl, "labels", {"kto": {"beta": beta(given), **weights}})
    return ObjectiveChoice(rl, "groups", "grpo")  # groups.py knows which of its kinds


def beta(given: ForeignKeys, default: float = 0.1, bounds: NumberBounds = ABOVE_0) -> float:
    """trl.beta, else rl_beta (dpo_beta by its older name), else orpo_alpha."""
    trl = given.any("trl")
    inner = ForeignKeys(trl, given.where("trl")) if isinstance(trl, Mapping) else None
    found = [given.number(key, default, bounds) for key in ("rl_beta", "dpo_beta", "orpo_alpha") if key in given]
    if inner is not None and "beta" in inner:
        return inner.number("beta", default, NumberBounds(at_least=0))
    return found[0] if found else default


def _dpo(given: ForeignKeys, rl: str) -> ObjectiveChoice:
    losses = given.names("dpo_loss_type")
    if losses and rl == "ipo":
        given.refuse("dpo_loss_type", "it beside rl: ipo", expected="it with rl: dpo alone", remedy="Write rl: dpo.")
    name = losses[0] if losses else {"dpo": "sigmoid", "ipo": "ipo"}[rl]
    if len(losses) > 1 or name not in _DPO_LOSSES:
        given.refuse(
            "dpo_loss_type",
            ", ".join(losses),
            expected=f"one of {', '.join(_DPO_LOSSES)}",
            remedy="Take one of them; losses are not mixed here.",
        )
    ours = _DPO_LOSSES[name]
    options: JsonObject = {"beta": beta(given)}
    smoothing = given.number("dpo_label_smoothing", 0.0, NumberBounds(at_least=0, below=0.5))
    if smoothing and ours != "dpo":
        given.note_ignored("dpo_label_smoothing", f"Label smoothing is for sigmoid only, not for {name}.")
    elif smoothing:
        options["label_smoothing"] = smoothing
    if ours == "ipo":
        options["per_token"] = True  # TRL compares the means of answers' tokens
    return ObjectiveChoice(rl, "pairs", {ours: options})


def _simpo(given: ForeignKeys) -> ObjectiveChoice:
    gamma = given.number("simpo_gamma", 0.5, NumberBounds(at_least=0))
    if "simpo_gamma" not in given:
        given.note_difference("simpo_gamma", "There simpo needs simpo_gamma. Here it is 0.5 by default, as in TRL.")
    alpha = given.number("cpo_alpha", 1.0, NumberBounds(at_least=0))
    if alpha:  # also where the file does not set it: another loss is trained there
        given.note_ignored(
            "cpo_alpha",
            f"There simpo adds {alpha:g} times the likelihood of the chosen answers unless cpo_alpha is 0. Here it is SimPO alone.",
        )
    return ObjectiveChoice("simpo", "pairs", {"simpo": {"beta": beta(given), "gamma": gamma}})


def _weight(given: ForeignKeys, key: str) -> float:
    """0 is read as 1 there."""
    weight = given.number(key, 1.0, NumberBounds(at_least=0))
    if weight == 0:
        given.note_trap(key, f"{key} of 0 is read as 1, there and here.")
    return weight or 1.0
