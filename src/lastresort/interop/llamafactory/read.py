"""A training file of LLaMA-Factory, by meaning, as our own: its keys, its data sets, and remarks on what differs.

Keys, defaults and meanings are those of the released package (0.9.5). The keys of transformers' Trainer are read here too: epochs,
batch, rate, schedule, optimizer, and evaluation.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from lastresort.interop.foreign_keys import (
    PAGED_8BIT,
    ForeignKeys,
    ImportedTraining,
    RowSource,
    clip_norm,
    few_bits,
    lora_plus,
    note_steps_win,
    output_path,
)
from lastresort.interop.llamafactory.data_sets import NamedRows, read_data_sets
from lastresort.interop.llamafactory.dataset_info import INFO, read_info
from lastresort.interop.llamafactory.keys import (
    FILE,
    NOTHING,
    Stage,
    model_keys,
    note_other_keys,
    objective_of,
    read_stage,
    refuse_other_trainings,
)
from lastresort.interop.llamafactory.rendering import Rendering, rendering_of
from lastresort.interop.llamafactory.rows import written_row
from lastresort.spec.values import NumberBounds, listed
from lastresort.types import JsonObject

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


def trainer_keys(given: ForeignKeys, *, full: bool) -> JsonObject:
    """All but epochs and max_steps, which need the number of rows. full: whether all weights are trained."""
    schedule = _schedule(given)
    return {
        "learning_rate": given.number("learning_rate", 5e-5, _RATE),
        "batch_size": given.count("per_device_train_batch_size", 8, least=1)
        * given.count("gradient_accumulation_steps", 1, least=1),
        "schedule": _SCHEDULES[schedule],
        "warmup": _warmup(given, schedule),
        "weight_decay": given.number("weight_decay", 0.0, _DECAY),
        "max_grad_norm": clip_norm(given),
        **lora_plus(given, full=full),
        "optimizer": _optimizer(given, full),
        "checkpointing": _checkpointing(given),
        "seed": given.count("seed", 42),
    } | _track(given)


def _schedule(given: ForeignKeys) -> str:
    schedule = given.choice("lr_scheduler_type", tuple(_SCHEDULES), "linear")
    if schedule == "polynomial":
        given.note_difference("lr_scheduler_type", "polynomial is linear to 0 here. There it ends at 1e-7.")
    return schedule


def _warmup(given: ForeignKeys, schedule: str) -> float | int:
    """warmup_steps goes before warmup_ratio, and below 1 is a share."""
    steps = given.number("warmup_steps", 0, NumberBounds(at_least=0))
    share = given.number("warmup_ratio", 0.0, NumberBounds(at_least=0, below=1))
    if schedule == "constant" and (steps or share):
        given.note_trap(
            "warmup_steps" if steps else "warmup_ratio",
            "lr_scheduler_type: constant has no warm-up in LLaMA-Factory, nor here. Write constant_with_warmup.",
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
    if given.any("gradient_checkpointing") is False and not off:
        given.note_trap(
            "gradient_checkpointing",
            "gradient_checkpointing: false has no effect in LLaMA-Factory, nor here. Write disable_gradient_checkpointing: true.",
        )
    return not off


def _track(given: ForeignKeys) -> JsonObject:
    names = [name for name in given.names("report_to") if name != "none"]
    if others := [name for name in names if name not in _TRACKERS]:
        given.note_ignored(
            "report_to",
            f"report_to is ignored for {listed(others)}: nothing is written there. Trackers here: {listed(_TRACKERS)}.",
        )
    ours = [name for name in names if name in _TRACKERS]
    return {"track": ours} if ours else {}


def length_keys(given: ForeignKeys, stage: Stage, rows: int, batch_size: int) -> JsonObject:
    """epochs, and max_steps where it ends within them. rows: to train on; of plain text the steps are not known yet.

    max_steps overrides num_train_epochs, and repeats the data as often as it needs.
    """
    epochs = given.number("num_train_epochs", 3.0, NumberBounds(above=0))
    steps = int(given.number("max_steps", -1, NumberBounds(whole=True)))
    an_epoch = math.ceil(rows / batch_size)
    if steps > 0:
        note_steps_win(given, "num_train_epochs")
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


def held_out_share(given: ForeignKeys) -> float | int | None:
    """val_size as a share or a count, None without. Raises TaskError together with eval_dataset."""
    size = given.number("val_size", 0.0, NumberBounds(at_least=0))
    if size and given.any("eval_dataset") is not None:
        given.refuse("val_size", f"{size:g} beside eval_dataset", expected="one of them", remedy="Remove one.")
    return (int(size) if size >= 1 else size) or None


def note_evaluation(given: ForeignKeys, held_out: bool) -> None:
    """Remarks on when held-out rows are evaluated there and here. Raises TaskError for an evaluation without rows."""
    strategy = str(given.any("eval_strategy", given.any("evaluation_strategy", "no"))).lower()
    never, at_the_end = strategy in ("no", "false"), given.flag("do_eval")
    if not held_out:
        if not never or at_the_end:
            key, value = ("do_eval", "true") if never else ("eval_strategy", strategy)
            expected = "val_size or eval_dataset beside it"
            given.refuse(key, f"{value} without rows to evaluate", expected=expected, remedy="Add one, or remove it.")
        return
    key = "val_size" if "val_size" in given else "eval_dataset"
    if never and not at_the_end:
        given.note_trap(
            key,
            "Without eval_strategy LLaMA-Factory never evaluates held-out rows. Here they are, at the end of each epoch.",
        )
    elif strategy != "epoch":
        given.note_difference(
            "eval_strategy" if strategy == "steps" else "do_eval",
            "Held-out rows are evaluated at the end of each epoch here.",
        )
    if key == "val_size":
        given.note_difference(
            key, "All rows with one prompt are held out together here, drawn by another random stream."
        )


def read(values: Mapping[str, Any], path: Path) -> ImportedTraining:
    """What the keys of a file say. path: of the file, for its data sets and for errors.

    Raises TaskError for keys and entries that cannot be honoured, DataError for rows that cannot be read.
    """
    given = ForeignKeys(values, str(path))
    stage = read_stage(given)
    _refuse_untrained(given)
    refuse_other_trainings(given)
    document = model_keys(stage, given, path) | {"objective": objective_of(stage, given)}
    document |= trainer_keys(given, full=document.get("adapter") == "full")
    share, seed = held_out_share(given), document["seed"]
    names, held_names = given.names("dataset"), given.names("eval_dataset")
    if not names:
        given.any("dataset_dir")  # which is no misspelt dataset
        expected = f"names of {INFO}"
        given.refuse_missing("dataset", FILE, found=NOTHING, expected=expected, remedy="Write dataset: NAME.")
    info = read_info(given, path)
    train = read_data_sets(given, info, names, stage, seed)
    held_out = read_data_sets(given, info, held_names, stage, seed)
    note_evaluation(given, bool(share or held_out))
    rendering = rendering_of(given, stage, document["model"], path, [*train, *held_out])
    document |= rendering.document
    document |= length_keys(given, stage, _trained_rows(train, share), document["batch_size"])
    document |= _output(given)
    note_other_keys(given)
    return ImportedTraining(
        framework="llamafactory",
        document=document,
        train=tuple(_source(data_set, stage, rendering) for data_set in train),
        held_out=tuple(_source(data_set, stage, rendering) for data_set in held_out),
        eval_share=share,
        remarks=tuple(given.remarks),
        rendered_by=rendering.by,
        eval_key="val_size",
    )


def _refuse_untrained(given: ForeignKeys) -> None:
    if "do_train" not in given:
        given.note_trap("do_train", "Without do_train: true LLaMA-Factory trains nothing. Here the file is trained.")
    elif not given.flag("do_train"):
        given.refuse("do_train", "false", expected="true, since this command trains", remedy="Write do_train: true.")


def _trained_rows(train: Sequence[NamedRows], share: float | int | None) -> int:
    total = sum(len(data_set.rows) for data_set in train)
    held = 0 if share is None else share if share >= 1 else round(share * total)
    return max(1, int(total - held))


def _output(given: ForeignKeys) -> JsonObject:
    name = given.text("output_dir")
    return {} if name is None else {"output": str(output_path(name))}


def _source(data_set: NamedRows, stage: Stage, rendering: Rendering) -> RowSource:
    return RowSource(
        data_set.name, lambda: ((row.place, written_row(row, stage, rendering.writing)) for row in data_set.rows)
    )
