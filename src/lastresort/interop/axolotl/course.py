"""Keys of the course of a training: epochs, batch, rate, schedule, precision, length of rows."""

from __future__ import annotations

import math

from lastresort.interop.given import NO_CLIPPING, PAGED_8BIT, ForeignKeys, few_bits, lora_plus
from lastresort.spec.values import NumberBounds
from lastresort.types import JsonObject

_SAME = (
    "adamw_torch_fused",
    "adamw_torch",
    "adamw_hf",
    "adamw_apex_fused",
    "adamw",
    "paged_adamw_32bit",
    "paged_adamw",
)
_NEAR = ("adamw_anyprecision", "optimi_adamw", "flash_adamw", "adamw_torch_xla", "adamw_torch_npu_fused")
_IN_FEW_BITS = tuple(
    "adamw_bnb_8bit adamw_8bit ao_adamw_8bit ao_adamw_fp8 ao_adamw_4bit adamw_torch_8bit adamw_torch_4bit".split()
)
_SCHEDULES = {"cosine": "cosine", "linear": "linear", "constant": "constant", "constant_with_warmup": "constant"}
_LONGER = {"drop": "drop", "truncate": "truncate", "raise": "refuse"}
_TRACKERS = {"use_wandb": "wandb", "use_mlflow": "mlflow", "use_tensorboard": "tensorboard", "use_trackio": "trackio"}
SEQUENCE_LEN = 512
DECAY_BESIDE_LORA_PLUS = (
    "Axolotl up to 0.19.0 has no weight decay beside loraplus_lr_ratio, whatever it is set to (its issue 4010); {}."
)


def course_keys(given: ForeignKeys, *, full: bool, four_bits: bool) -> JsonObject:
    """Without the batch, which counts otherwise for groups. Raises TaskError for values of none of the kinds that are read."""
    if "learning_rate" not in given:
        given.refuse("learning_rate", "nothing", expected="a number", remedy="Write learning_rate: 2e-4.")
    schedule, max_steps = _schedule(given), given.count("max_steps", -1, least=-1)
    document: JsonObject = {
        "learning_rate": given.number("learning_rate", 0.0, NumberBounds(above=0)),
        "epochs": _epochs(given, max_steps),
        **({"max_steps": max_steps} if max_steps > 0 else {}),
        "schedule": _SCHEDULES[schedule],
        "warmup": 0.0 if schedule == "constant" else _warmup(given, max_steps),
        "weight_decay": given.number("weight_decay", 0.0, NumberBounds(at_least=0, below=1)),
        # 0 clips nothing there.
        "max_grad_norm": given.number("max_grad_norm", 1.0, NumberBounds(at_least=0)) or NO_CLIPPING,
        **_lora_plus(given, full=full),
        "optimizer": _optimizer(given, full),
        "checkpointing": _checkpointing(given),
        "seed": given.count("seed", 42),
        "precision": _precision(given, full=full, four_bits=four_bits),
    }
    if track := [ours for key, ours in _TRACKERS.items() if given.flag(key)]:
        document["track"] = track
    return document


def _lora_plus(given: ForeignKeys, *, full: bool) -> JsonObject:
    found = lora_plus(given, full=full)
    if found and given.number("weight_decay", 0.0):
        given.remark("weight_decay", "differs", DECAY_BESIDE_LORA_PLUS.format("here it holds as it is written"))
    return found


def batch_of(given: ForeignKeys) -> int:
    """Rows of one optimizer step on one device."""
    small, accumulated = (
        given.count("micro_batch_size", 1, least=1),
        given.count("gradient_accumulation_steps", 1, least=1),
    )
    if "batch_size" not in given:
        return small * accumulated
    if "gradient_accumulation_steps" in given:
        remedy = "Remove one of them."
        given.refuse("batch_size", "it beside gradient_accumulation_steps", expected="one of them", remedy=remedy)
    if "micro_batch_size" not in given:
        given.refuse("batch_size", "it alone", expected="micro_batch_size beside it", remedy="Add it.")
    return max(1, given.count("batch_size", small, least=1) // small) * small


def length_keys(given: ForeignKeys) -> JsonObject:
    """The longest row, and what becomes of longer ones."""
    longest = given.count("sequence_len", SEQUENCE_LEN, least=2)
    how = given.choice("excess_length_strategy", tuple(_LONGER), "drop")
    if "excess_length_strategy" not in given:
        whence = "" if "sequence_len" in given else ", which it is since the file sets none"
        sentence = (
            f"Rows longer than sequence_len, {longest} tokens{whence}, are left out, as there, and counted below."
        )
        given.remark("sequence_len", "differs", sentence)
    return {"max_tokens": longest, "longer_rows": _LONGER[how]}


def text_row(given: ForeignKeys) -> int:
    """Of plain text, which is cut and never left out, there too."""
    given.any("excess_length_strategy")
    return given.count("sequence_len", SEQUENCE_LEN, least=2)


def _epochs(given: ForeignKeys, max_steps: int) -> int:
    epochs = given.number("num_epochs", 1.0, NumberBounds(above=0))
    if max_steps > 0:
        return max(max_steps, math.ceil(epochs))  # max_steps wins there: the data are gone through until it is reached
    if not float(epochs).is_integer():
        sentence = f"{epochs:g} epochs are {math.ceil(epochs)} here, whole ones; max_steps ends one before."
        given.remark("num_epochs", "differs", sentence)
    return math.ceil(epochs)


def _warmup(given: ForeignKeys, max_steps: int) -> float | int:
    """A share, or a count; a count of 1 becomes 2, as there. Without one there are 3% of the steps, there at most 100, and so here
    where max_steps says how many steps there are; else the share is taken without that limit."""
    steps, share = given.any("warmup_steps"), given.any("warmup_ratio")
    if steps is not None and 0 < given.number("warmup_steps", 0) < 1:
        return given.number("warmup_steps", 0)  # a share, as transformers reads it
    if steps is not None:
        count = given.count("warmup_steps", 0)
        return 2 if count == 1 else count or 0.0
    if share is not None:
        return given.number("warmup_ratio", 0.0, NumberBounds(at_least=0, below=1))
    if max_steps > 0:
        count = min(int(0.03 * max_steps), 100)
        return 2 if count == 1 else count or 0.0
    sentence = (
        "Without warmup_steps and warmup_ratio the rate rises over 3% of the steps; there over at most 100 steps, which here "
        "holds with max_steps alone."
    )
    given.remark("warmup_ratio", "differs", sentence)
    return 0.03


def _schedule(given: ForeignKeys) -> str:
    name = str(given.any("lr_scheduler", "cosine"))
    if name in _SCHEDULES:
        return name
    sentence = f"The schedule {name} is not here: the rate falls along a cosine."
    given.remark("lr_scheduler", "ignored", sentence)
    return "cosine"


def _optimizer(given: ForeignKeys, full: bool) -> str:
    name = str(given.any("optimizer", _SAME[0]))
    if name in _SAME:
        return "adamw"
    if name == PAGED_8BIT:
        return PAGED_8BIT
    if name in _NEAR:
        given.remark("optimizer", "differs", f"{name} is AdamW, and torch's is taken here.")
        return "adamw"
    if name in _IN_FEW_BITS:
        return few_bits(given, "optimizer", name, full=full)
    return given.refuse(
        "optimizer",
        f"{name}, which is not here",
        expected="AdamW, in 32 or 8 bits",
        remedy="Write optimizer: adamw_torch_fused, and a learning_rate that fits it.",
    )


def _checkpointing(given: ForeignKeys) -> bool:
    value = given.any("gradient_checkpointing", False)
    if isinstance(value, str) and value.startswith("offload"):
        sentence = "Activations are recomputed, and not moved out of the device's memory."
        given.remark("gradient_checkpointing", "differs", sentence)
        return True
    return given.flag("gradient_checkpointing")


def _precision(given: ForeignKeys, *, full: bool, four_bits: bool) -> str:
    bf16 = str(given.any("bf16", given.any("bfloat16", "auto"))).lower()
    half = any(given.flag(key) for key in ("fp16", "float16"))
    if bf16 in ("true", "yes", "on", "full"):
        return "bfloat16"
    if half:
        sentence = "Training in float16 is not here: precision is auto, what is fast on this machine."
        given.remark("fp16", "ignored", sentence)
        return "auto"
    if bf16 == "auto":
        given.any("float32")
        if full:
            sentence = "bf16: auto trains all weights in bfloat16 on a card there, and in float32 here; true is bfloat16 here too."
            given.remark("bf16", "differs", sentence)
        return "auto"
    if bf16 not in ("false", "no", "off"):
        given.refuse("bf16", bf16, expected="true, false, auto or full", remedy="Correct it.")
    return "auto" if four_bits else "float32"


def held_out(given: ForeignKeys) -> float | int | None:
    """A share or a count of the rows, None for none."""
    number = given.number("val_set_size", 0, NumberBounds(at_least=0))
    if number > 1 and not float(number).is_integer():
        given.refuse("val_set_size", f"{number:g}", expected="a share or a count", remedy="Correct it.")
    scheduled = [
        key for key in ("eval_steps", "evals_per_epoch", "eval_strategy", "evaluation_strategy") if key in given
    ]
    for key in scheduled:
        given.any(key)
    if not number:
        return None
    if not scheduled:
        given.remark(
            "val_set_size",
            "trap",
            "Nothing sets when to evaluate, so that there the rows held out are never looked at; here they are evaluated at the "
            "end of each epoch.",
        )
    else:
        sentence = f"{', '.join(scheduled)}: the rows held out are evaluated at the end of each epoch."
        given.remark(scheduled[0], "differs", sentence)
    given.remark(
        "val_set_size",
        "differs",
        "The rows held out are drawn by their prompts; there they are the last ones of the shuffled rows.",
    )
    return int(number) if number >= 1 else float(number)
