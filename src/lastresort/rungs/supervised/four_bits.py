"""Whether an adapter is trained on a base in 4 bits, as the task says, else as the plan says of the card that is here; and how the
plan sees such a training."""

from __future__ import annotations

import importlib.util
from dataclasses import replace
from pathlib import Path
from typing import Any

from lastresort.errors import DataError, InputError, PrerequisiteError
from lastresort.hardware.catalogue.cards import Card
from lastresort.hardware.environment import card_here
from lastresort.hardware.find import find_shape
from lastresort.hardware.plan.fit import fit
from lastresort.hardware.plan.setup import Cards, Setup
from lastresort.models.protocol import is_endpoint
from lastresort.rungs.supervised.training import tuned_model
from lastresort.spec.task import Task

PASS_TOKENS = 1536  # of a full pass, as `TrainSettings.max_pass_tokens` has it
SHORT_TOKENS = 256  # of a pass that anyone can come down to


def in_4_bits(task: Task) -> bool:
    """For `tune.method: auto` where a card is here on which LoRA does not fit and QLoRA does, and bitsandbytes is installed."""
    if task.tune.method != "auto":
        return task.tune.method == "qlora"
    card = card_here(processor=False)
    if card is None or importlib.util.find_spec("bitsandbytes") is None:
        return False
    return card_needs_4_bits(tuned_model(task), task.folder, card, r=task.sft.r)


def card_needs_4_bits(model: str, folder: Path, card: Card, *, r: int) -> bool:
    """Whether LoRA does not fit with the passes that a climb makes, and QLoRA does with short ones.

    False too for a model whose shape is not known: its training says soon enough that memory does not suffice.
    """
    if is_endpoint(model):
        return False
    try:
        shape = find_shape(model, folder)
    except (InputError, DataError, PrerequisiteError):
        return False
    cards = Cards(card)
    lora = Setup("lora", row_tokens=PASS_TOKENS, r=r, checkpointing=False, measured_at_once=1)
    qlora = replace(lora, method="qlora", row_tokens=SHORT_TOKENS, new_tokens=0)
    return not fit(shape, lora, cards).fits and fit(shape, qlora, cards).fits


def adapter_setup(task: Task, row_tokens: int, **more: Any) -> Setup:
    """An adapter of the shape that `sft` asks for, on the base in the precision in which it would be loaded here."""
    from lastresort.models.precision import chosen_device, chosen_dtype, is_reduced

    quantised = in_4_bits(task)
    reduced = quantised or is_reduced(chosen_dtype("auto", chosen_device()))
    return Setup(
        "qlora" if quantised else "lora",
        row_tokens=row_tokens,
        checkpointing=False,
        r=task.sft.r,
        target=task.sft.target,
        compute="bfloat16" if reduced else "float32",
        **more,
    )
