"""How long, how fast and in what batches: the keys of transformers' Trainer that decide a training here too.

How long a training lasts: whole or broken epochs, or a number of steps, in epochs and steps of our own.

What is held out, and when it is looked at: val_size, eval_dataset, eval_strategy.
"""

from __future__ import annotations

import math

from lastresort.interop.given import NO_CLIPPING, PAGED_8BIT, ForeignKeys, few_bits, lora_plus
from lastresort.interop.llamafactory.stage import Stage
from lastresort.spec.values import NumberBounds, listed
from lastresort.types import JsonObject


def length_of(given: ForeignKeys, stage: Stage, rows: int, batch_size: int) -> JsonObject:
    """epochs, and max_steps where it ends within them. rows: that are trained on; of plain text the steps are not known yet.

    max_steps goes before num_train_epochs, and repeats the data as often as it needs.
    """
    epochs = given.number("num_train_epochs", 3.0, NumberBounds(above=0))
    steps = int(given.number("max_steps", -1, NumberBounds(whole=True)))
    an_epoch = math.ceil(rows / batch_size)
    if steps > 0:
        # An epoch of text has at least one step.
        return {"max_steps": steps, "epochs": steps if stage == "pt" else math.ceil(steps / an_epoch)}
    if epochs.is_integer():
        return {"epochs": int(epochs)}
    if stage == "pt":
        given.refuse(
            "num_train_epochs",
            f"{epochs:g}",
            expected="a whole number, since the steps of plain text are counted only once it is in tokens",
            remedy="Write a whole number, or max_steps.",
        )
    return {"epochs": math.ceil(epochs), "max_steps": math.ceil(epochs * an_epoch)}


_RATE, _DECAY = NumberBounds(above=0, at_most=1), NumberBounds(at_least=0, below=1)
_SCHEDULES = {
    "linear": "linear",
    "cosine": "cosine",
    "constant": "constant",
    "constant_with_warmup": "constant",
    "cosine_with_restarts": "cosine",
    "polynomial": "linear",
}
_ADAMW = ("adamw_torch", "adamw_torch_fused", "adamw_hf", "adamw_apex_fused", "paged_adamw", "paged_adamw_32bit")
_ADAMW_8BIT = ("adamw_8bit", "adamw_bnb_8bit")
_TRACKERS = ("tensorboard", "wandb", "mlflow", "trackio")


def course_of(given: ForeignKeys, *, full: bool) -> JsonObject:
    """full: whether all weights are trained. All but epochs and max_steps, which need the number of rows."""
    schedule = _schedule(given)
    return {
        "learning_rate": given.number("learning_rate", 5e-5, _RATE),
        "batch_size": given.count("per_device_train_batch_size", 8, least=1)
        * given.count("gradient_accumulation_steps", 1, least=1),
        "schedule": _SCHEDULES[schedule],
        "warmup": _warmup(given, schedule),
        "weight_decay": given.number("weight_decay", 0.0, _DECAY),
        # 0 leaves the gradients as they are there.
        "max_grad_norm": given.number("max_grad_norm", 1.0, NumberBounds(at_least=0)) or NO_CLIPPING,
        **lora_plus(given, full=full),
        "optimizer": _optimizer(given, full),
        "checkpointing": _checkpointing(given),
        "seed": given.count("seed", 42),
    } | _track(given)


def _schedule(given: ForeignKeys) -> str:
    schedule = given.choice("lr_scheduler_type", tuple(_SCHEDULES), "linear")
    if schedule == "polynomial":
        given.remark(
            "lr_scheduler_type", "differs", "lr_scheduler_type: polynomial is linear to 0 here; there it ends at 1e-7."
        )
    return schedule


def _warmup(given: ForeignKeys, schedule: str) -> float | int:
    """warmup_steps goes before warmup_ratio, and below 1 is a share."""
    steps = given.number("warmup_steps", 0, NumberBounds(at_least=0))
    share = given.number("warmup_ratio", 0.0, NumberBounds(at_least=0, below=1))
    if schedule == "constant" and (steps or share):
        given.remark(
            "warmup_steps" if steps else "warmup_ratio",
            "trap",
            "lr_scheduler_type: constant has no warm-up in LLaMA-Factory, and none here; constant_with_warmup has one.",
        )
        return 0
    if steps >= 1:
        return math.ceil(steps)
    return steps or share


def _optimizer(given: ForeignKeys, full: bool) -> str:
    name = str(given.any("optim", "adamw_torch")).strip()
    if name in _ADAMW:
        return "adamw"
    if name == PAGED_8BIT:
        return PAGED_8BIT
    if name in _ADAMW_8BIT:
        return few_bits(given, "optim", name, full=full)
    return given.refuse(
        "optim", f'"{name}"', expected="AdamW in one of its forms, or paged_adamw_8bit", remedy="Write adamw_torch."
    )


def _checkpointing(given: ForeignKeys) -> bool:
    off = given.flag("disable_gradient_checkpointing")
    asked = given.any("gradient_checkpointing")
    if asked is False and not off:
        given.remark(
            "gradient_checkpointing",
            "trap",
            "gradient_checkpointing: false switches nothing off in LLaMA-Factory, nor here; "
            "disable_gradient_checkpointing: true does.",
        )
    return not off


def _track(given: ForeignKeys) -> JsonObject:
    asked = [name for name in given.names("report_to") if name != "none"]
    others = [name for name in asked if name not in _TRACKERS]
    if others:
        given.remark(
            "report_to", "ignored", f"report_to is not honoured for {listed(others)}: nothing is written there."
        )
    ours = [name for name in asked if name in _TRACKERS]
    return {"track": ours} if ours else {}


def held_out_share(given: ForeignKeys) -> float | int | None:
    """val_size as a share or a count, None without. Raises TaskError beside eval_dataset."""
    size = given.number("val_size", 0.0, NumberBounds(at_least=0))
    if size and given.any("eval_dataset") is not None:
        given.refuse("val_size", f"{size:g} beside eval_dataset", expected="one of them", remedy="Remove one.")
    return (int(size) if size >= 1 else size) or None


def name_evaluation(given: ForeignKeys, held_out: bool) -> None:
    """Says where what is held out is looked at otherwise than there, or never."""
    old = given.any("evaluation_strategy", "no")
    strategy = str(given.any("eval_strategy", old)).lower()
    key = "val_size" if "val_size" in given else "eval_dataset"
    if not held_out:
        if strategy not in ("no", "false") or given.flag("do_eval"):
            given.refuse(
                "eval_strategy" if strategy not in ("no", "false") else "do_eval",
                f"{strategy} without rows to evaluate"
                if strategy not in ("no", "false")
                else "true without rows to evaluate",
                expected="val_size or eval_dataset beside it",
                remedy="Add one, or remove it.",
            )
        return
    at_the_end = given.flag("do_eval")
    if strategy in ("no", "false") and not at_the_end:
        given.remark(
            key,
            "trap",
            "Without eval_strategy LLaMA-Factory never looks at what is held out; here it is evaluated at the end of each epoch.",
        )
    elif strategy != "epoch":
        given.remark(
            "eval_strategy" if strategy == "steps" else "do_eval",
            "differs",
            "What is held out is evaluated at the end of each epoch here.",
        )
    if key == "val_size":
        given.remark(key, "differs", "All rows with one prompt are held out together here, from another random stream.")
