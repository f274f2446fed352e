"""The memory of a training file's run, beforehand: what the plan says of it, and what is free here."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from lastresort.models.precision import chosen_device, chosen_dtype, is_reduced
from lastresort.models.quantized import settled
from lastresort.train.adapter_folder import read_adapter
from lastresort.train.batches import Batches
from lastresort.train.file_model import Named
from lastresort.train.items import Item
from lastresort.train.memory_error import Answer, Room, free_now, what_to_lower
from lastresort.train.planned import plan_of, with_ranks
from lastresort.train.settings import TrainSettings
from lastresort.train.training_file import TrainingFile


def room_of(file: TrainingFile, named: Named, source: Sequence[Item] | Batches) -> Room | None:
    """Asked before the model is loaded. None for a model whose shape is not known."""
    config = json.loads((named.folder / "config.json").read_text(encoding="utf-8"))
    settings = file.settings()
    in_4_bits, precision = settled("nf4" if file.adapter.kind == "qlora" else "auto", file.precision, file.start_from)
    if file.start_from is not None:
        settings = _on_an_adapter(settings, file.start_from, in_4_bits)
    if settings.adapter.kind == "none" and file.precision == "auto":
        precision = "float32"  # as `open_for_training` has it
    reduced = is_reduced(chosen_dtype(precision, chosen_device()))
    planned = plan_of(config, settings, source, "bfloat16" if reduced else "float32")
    if planned is None:
        return None
    return Room(replace(planned, keeps_method=file.start_from is not None), free_now())


def answer_of(file: TrainingFile, room: Room | None, *, begun: bool) -> Answer:
    """To a run that ran out of memory. begun: whether there is a run to go on with."""
    return Answer("", what_to_lower(file)) if room is None else room.answer(begun=begun)


def _on_an_adapter(settings: TrainSettings, start_from: Path, in_4_bits: bool) -> TrainSettings:
    """An adapter to start from is what is trained, whatever kind the file names."""
    adapter = replace(settings.adapter, kind="lora", quantize="nf4" if in_4_bits else None)
    ranks = {layer: rank for layer, (_, rank, _) in read_adapter(start_from).layers.items()}
    return replace(settings, adapter=with_ranks(adapter, ranks))
