"""Axolotl's keys of transformers' Trainer: batch, epochs, rate, schedule, precision, length of rows, evaluation."""

from __future__ import annotations

import math

from lastresort.interop.axolotl.keys import FILE
from lastresort.interop.foreign_keys import PAGED_8BIT, ForeignKeys, clip_norm, few_bits, lora_plus, note_steps_win
from lastresort.spec.values import NumberBounds, listed
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


def trainer_keys(given: ForeignKeys, *, full: bool, four_bits: bool) -> JsonObject:
    """All but the batch, which counts otherwise for groups. Raises TaskError for values that are not understood."""
    if "learning_rate" not in given:
        given.refuse_missing("learning_rate", FILE, expected="a number", remedy="Write learning_rate: 2e-4.")
    schedule, max_steps = _schedule(given), given.count("max_steps", -1, least=-1)
    document: JsonObject = {
        "learning_rate": given.number("learning_rate", 0.0, NumberBounds(above=0)),
        "epochs": _epochs(given, max_steps),
        **({"max_steps": max_steps} if max_steps > 0 else {}),
        "schedule": _SCHEDULES[schedule],
        "warmup": 0.0 if schedule == "constant" else _warmup(given, max_steps),
        "weight_decay": given.number("weight_decay", 0.0, NumberBounds(at_least=0, below=1)),
        "max_grad_norm": clip_norm(given),
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
        given.note_difference("weight_decay", DECAY_BESIDE_LORA_PLUS.format("here it holds as it is written"))
    return found


def batch_of(given: ForeignKeys) -> int:
    """Rows of one optimizer step on one device."""
    small = given.count("micro_batch_size", 1, least=1)
    accumulated = given.count("gradient_accumulation_steps", 1, least=1)
    if "batch_size" not in given:
        return small * accumulated
    if "gradient_accumulation_steps" in given:
        remedy = "Remove one of them."
        given.refuse("batch_size", "it beside gradient_accumulation_steps", expected="one of them", remedy=remedy)
    if "micro_batch_size" not in given:
        given.refuse("batch_size", "it alone", expected="micro_batch_size beside it", remedy="Add it.")
    return max(1, given.count("batch_size", small, least=1) // small) * small


def row_keys(given: ForeignKeys) -> JsonObject:
    """The longest row, and what becomes of longer ones."""
    longest = given.count("sequence_len", SEQUENCE_LEN, least=2)
    how = given.choice("excess_length_strategy", tuple(_LONGER), "drop")
    if "excess_length_strategy" not in given:
        default = "" if "sequence_len" in given else " (the default)"
        given.note_difference(
            "sequence_len",
            f"Rows longer than sequence_len, {longest} tokens{default}, are dropped, as there; the count is below.",
        )
    return {"max_tokens": longest, "longer_rows": _LONGER[how]}


def text_row_tokens(given: ForeignKeys) -> int:
    """Of plain text, which is cut and never left out, there too."""
    given.any("excess_length_strategy")
    return given.count("sequence_len", SEQUENCE_LEN, least=2)


def _epochs(given: ForeignKeys, max_steps: int) -> int:
    epochs = given.number("num_epochs", 1.0, NumberBounds(above=0))
    whole = math.ceil(epochs)
    if max_steps > 0:
        note_steps_win(given, "num_epochs")
        return max(max_steps, whole)  # max_steps wins there: the data are gone through until it is reached
    if whole != epochs:
        given.note_difference("num_epochs", f"{epochs:g} epochs become {whole}. Use max_steps to end within an epoch.")
    return whole


def _warmup(given: ForeignKeys, max_steps: int) -> float | int:
    """A share, or a count; a count of 1 becomes 2, as there.

    The default is 3% of the steps. There it is at most 100 steps, and so here where max_steps says how many steps there are.
    """
    if given.any("warmup_steps") is not None:
        number = given.number("warmup_steps", 0)
        # A share, as transformers reads it.
        return number if 0 < number < 1 else _warmup_count(given.count("warmup_steps", 0))
    if given.any("warmup_ratio") is not None:
        return given.number("warmup_ratio", 0.0, NumberBounds(at_least=0, below=1))
    if max_steps > 0:
        return _warmup_count(min(int(0.03 * max_steps), 100))
    given.note_difference(
        "warmup_ratio",
        "Without warmup_steps and warmup_ratio the rate rises over 3% of the steps. There that is at most 100 steps, here only if "
        "max_steps is set.",
    )
    return 0.03


def _warmup_count(count: int) -> float | int:
    return 2 if count == 1 else count or 0.0


def _schedule(given: ForeignKeys) -> str:
    name = str(given.any("lr_scheduler", "cosine"))
    if name in _SCHEDULES:
        return name
    given.note_ignored("lr_scheduler", f"The schedule {name} is not available here: cosine is used.")
    return "cosine"


def _optimizer(given: ForeignKeys, full: bool) -> str:
    name = str(given.any("optimizer", _SAME[0]))
    if name in _SAME:
        return "adamw"
    if name == PAGED_8BIT:
        return PAGED_8BIT
    if name in _NEAR:
        given.note_difference("optimizer", f"{name} is AdamW; torch's AdamW is used here.")
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
        given.note_difference("gradient_checkpointing", "Activations are recomputed, not offloaded.")
        return True
    return given.flag("gradient_checkpointing")


def _precision(given: ForeignKeys, *, full: bool, four_bits: bool) -> str:
    bf16 = str(given.any("bf16", given.any("bfloat16", "auto"))).lower()
    half = any(given.flag(key) for key in ("fp16", "float16"))
    if bf16 in ("true", "yes", "on", "full"):
        return "bfloat16"
    if half:
        given.note_ignored(
            "fp16", "Nothing is trained in float16 here: precision is auto, what is fast on this machine."
        )
        return "auto"
    if bf16 == "auto":
        given.any("float32")
        if full:
            given.note_difference(
                "bf16",
                "bf16: auto trains all weights in bfloat16 on a GPU there, in float32 here. bf16: true is bfloat16 here too.",
            )
        return "auto"
    if bf16 not in ("false", "no", "off"):
        given.refuse("bf16", bf16, expected="true, false, auto or full")
    return "auto" if four_bits else "float32"


def held_out_share(given: ForeignKeys) -> float | int | None:
    """A share or a count of the rows, None for none."""
    number = given.number("val_set_size", 0, NumberBounds(at_least=0))
    if number > 1 and not number.is_integer():
        given.refuse("val_set_size", f"{number:g}", expected="a share or a count", remedy="Write 0.1 or 100.")
    keys = ("eval_steps", "evals_per_epoch", "eval_strategy", "evaluation_strategy")
    scheduled = [key for key in keys if given.any(key) is not None]
    if not number:
        return None
    if scheduled:
        given.note_difference(
            scheduled[0], f"{listed(scheduled)}: held-out rows are evaluated at the end of each epoch."
        )
    else:
        given.note_trap(
            "val_set_size",
            "No key sets when to evaluate, so held-out rows are never evaluated there. Here they are, at the end of each epoch.",
        )
    given.note_difference(
        "val_set_size", "Rows are held out by their prompts. There they are the last of the shuffled rows."
    )
    return int(number) if number >= 1 else number
