"""Axolotl's keys of the objective (`rl` and what belongs to it) -> ours, and what is said of keys that nobody read (keys.yaml).

Also the values that exclude each other there, and so here.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import chain
from typing import Any, Literal

from lastresort.interop.axolotl.types import Family
from lastresort.interop.foreign_keys import NO_REMOTE_CODE, ForeignKeys, key_tables, note_kto_baseline, note_unread
from lastresort.spec.values import NumberBounds, nearest
from lastresort.types import JsonObject

_TABLES = key_tables("axolotl")
FILE, TRL = _TABLES["file"], _TABLES["trl"]
_FAST_PLUGINS = ("liger.", "cut_cross_entropy.", "kernels.")
_DIFFERS = {
    "chat_template": "No row is rendered by chat_template. There it is saved with the tokenizer; here the model keeps its own.",
    "trust_remote_code": NO_REMOTE_CODE,
    "eot_tokens": "The token with which the template ends a turn is trained, whatever eot_tokens names.",
}


def note_other_keys(given: ForeignKeys) -> None:
    """Remarks on the keys that nobody read, but for values that are off or the default."""
    for key in note_unread(given, FILE, is_off=_is_off, no_effect=_no_effect):
        if key in _DIFFERS:
            given.note_difference(key, _DIFFERS[key])
        elif key in FILE.honoured:
            given.note_ignored(key, f"{key} decides nothing beside the other keys.")
        elif key not in FILE.refused:
            close = nearest(key, FILE.honoured) or nearest(key, FILE.known())
            meant = f"; did you mean {close}?" if close else "."
            given.note_ignored(key, f"{key} is no key that this program knows{meant}")


def note_trl_keys(trl: ForeignKeys) -> None:
    """Remarks on the keys of `trl` that nobody read. Those without effect need no remark."""
    for key in chain(*TRL.no_effect.values()):
        trl.any(key)
    for key in note_unread(trl, TRL, is_off=_is_off, no_effect=lambda key, value: False):
        trl.note_ignored(key, f"{key} is no key of trl that this program knows.")


def refuse_other_trainings(given: ForeignKeys) -> None:
    """Raises TaskError for a key that makes it another training."""
    for key, why in FILE.refused.items():
        if key in given and given.any(key) not in (False, 0):
            given.refuse(key, "it", expected="a file without it", remedy=f"Remove it: {why}.")


def _no_effect(key: str, value: Any) -> bool:
    """Plugins of which all are kernels have none either."""
    if key != "plugins":
        return FILE.has_no_effect(key)
    names = value if isinstance(value, list) else [value]
    return all(any(part in str(name) for part in _FAST_PLUGINS) for name in names)


def _is_off(key: str, value: Any) -> bool:
    """Off or the default. So are special tokens that only pad, since there is no padding here."""
    if key == "shuffle_merged_datasets":
        return value is not False
    if key == "special_tokens" and isinstance(value, Mapping):
        return set(value) <= {"pad_token"}
    return value in (False, 0, "", [], {}) or value == {**FILE.defaults, **TRL.defaults}.get(key)


_EXCLUDE: tuple[tuple[str, str], ...] = (
    ("warmup_steps", "warmup_ratio"),
    ("saves_per_epoch", "save_steps"),
    ("evals_per_epoch", "eval_steps"),
    ("test_datasets", "val_set_size"),
    ("lr_groups", "loraplus_lr_ratio"),
    ("noisy_embedding_alpha", "neftune_noise_alpha"),
)


def check_contradictions(given: ForeignKeys) -> None:
    """Raises TaskError for the first pair of values that exclude each other there."""
    rl = given.text("rl")
    for one, other in _EXCLUDE:
        if _set(given, one) and _set(given, other):
            given.refuse(one, f"it beside {other}", expected="one of them", remedy="Remove one.")
    if rl and given.flag("sample_packing"):
        remedy = "Remove sample_packing; rows are packed here anyway, without a change of results."
        given.refuse("sample_packing", f"true beside rl: {rl}", expected="false", remedy=remedy)
    if rl == "kto" and given.any("remove_unused_columns") is not False:
        remedy = "Write remove_unused_columns: false, which kto needs there."
        given.refuse("remove_unused_columns", "no false beside rl: kto", expected="false", remedy=remedy)
    if rl == "simpo" and _set(given, "warmup_ratio"):
        given.refuse("warmup_ratio", "it beside rl: simpo", expected="warmup_steps", remedy="Write warmup_steps.")
    if rl != "dpo" and "dpo_loss_type" in given:
        given.refuse("dpo_loss_type", f"it beside rl: {rl or 'none'}", expected="it with rl: dpo", remedy="Remove it.")
    _check_evaluation(given)
    for key, steps in (("save_strategy", "save_steps"), ("eval_strategy", "eval_steps")):
        strategy = given.any(key)
        if strategy is not None and _set(given, steps) and strategy != "steps":
            given.refuse(key, f"{strategy} beside {steps}", expected="steps", remedy=f"Remove {steps}, or write steps.")


def _check_evaluation(given: ForeignKeys) -> None:
    asked = [key for key in ("eval_steps", "eval_strategy") if _set(given, key)]
    none_held_out = given.any("val_set_size") in (0, 0.0) and not given.any("test_datasets")
    if asked and none_held_out and given.any("eval_strategy") not in ("no", False):
        remedy = "Remove it, or hold rows out."
        given.refuse(asked[0], "it beside val_set_size: 0", expected="rows that are held out", remedy=remedy)


def _set(given: ForeignKeys, key: str) -> bool:
    return given.any(key) not in (None, 0, 0.0, False, "", [])


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
