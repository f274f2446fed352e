"""The model that a training file names: its tokenizer, the memory it will need, then its weights with what is trained."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from lastresort.model_heads import model_config
from lastresort.models.loading import Loaded, chosen_device, chosen_dtype, is_reduced, load_local, weights_folder
from lastresort.models.open import absolute_name, local_weights
from lastresort.models.quantized import import_bitsandbytes, quantized_base_of, resolve_precision
from lastresort.models.tokenizer import read_tokenizer, rendering_fingerprint
from lastresort.records.training import AdaptedLayers
from lastresort.train.adapters.adapters import (
    adapted,
    attach_adapter,
    coverage,
    coverage_warning,
    trainable,
    unfreeze_adapter,
)
from lastresort.train.adapters.folder import check_fits, linear_shapes, read_adapter
from lastresort.train.files.memory import MemoryAdvice, Room, free_now, plan_of, what_to_lower, with_ranks
from lastresort.train.files.run_folder import Quantised, TrainedModel
from lastresort.train.loop.batches import Batches, TrainingItem
from lastresort.train.settings import TrainingFile, TrainSettings
from lastresort.types import Json


@dataclass(frozen=True, slots=True)
class NamedModel:
    """A model before its weights are read. name: what an adapter calls it. note: what a reader should know, or None."""

    folder: Path
    name: str
    tokenizer: Any
    context_tokens: int | None
    note: str | None


@dataclass(frozen=True, slots=True)
class OpenedModel:
    """A model ready to be trained. loaded: as it was read; its `fingerprint` is of base, starting adapter and precision. adapted:
    how far its adapters reach, None where all weights are trained."""

    model: Any
    loaded: Loaded
    trained_parameters: int
    adapted: AdaptedLayers | None

    def reach(self, file: TrainingFile) -> list[str]:
        """What a reader should know of its adapters before they are trained."""
        if self.adapted is None:
            return []
        target = None if file.start_from is not None else file.settings.adapter.target
        warned = coverage_warning(self.adapted, "adapter.target", target)
        return [coverage(self.adapted), *([] if warned is None else [warned])]


def name_model(file: TrainingFile) -> NamedModel:
    """Tokenizer and context of the model; an adapter to start from is compared with it.

    Raises TaskError for a name that leads nowhere, DataError for an adapter that is none or belongs to another base.
    """
    folder, name = weights_folder(local_weights(file.model, file.folder)), absolute_name(file.model, file.folder)
    note = None
    if file.start_from is not None:
        adapter = read_adapter(file.start_from)
        check_fits(adapter, name, linear_shapes(folder))
        if adapter.base_name not in ("", name):
            note = f"start_from was trained on {adapter.base_name}; it goes on here on {name}, whose layers have the same shapes"
    read = read_tokenizer(folder)
    return NamedModel(folder, name, read.tokenizer, read.context_tokens, note)


def open_for_training(
    file: TrainingFile, named: NamedModel, *, keep_on_cpu: bool = False, without_weights: bool = False
) -> OpenedModel:
    """Weights in memory with fresh adapters, with those of start_from, or all of them to be trained.

    keep_on_cpu, without_weights: as `load_local` takes them.
    All weights are trained in float32 unless the file says otherwise: in bfloat16 most small updates round to nothing.
    """
    import_bitsandbytes()  # quietly, before PEFT does it with a warning
    full = file.trains_all
    precision = "float32" if full and file.precision == "auto" else file.precision
    loaded = load_local(
        named.folder,
        precision=precision,
        adapter=file.start_from,
        template_kwargs=dict(file.chat_template_kwargs),
        quantize=file.settings.adapter.quantize or "auto",
        keep_on_cpu=keep_on_cpu,
        without_weights=without_weights,
    )
    if file.start_from is not None:
        model = unfreeze_adapter(loaded.model, named.name)
    else:
        model = attach_adapter(loaded.model, file.settings.adapter, base_name=named.name, seed=file.settings.seed)
    return OpenedModel(model, loaded, sum(parameter.numel() for _, parameter in trainable(model)), adapted(model))


def trained_model(opened: OpenedModel, named: NamedModel, template_kwargs: Mapping[str, Json]) -> TrainedModel:
    """The model as the record keeps it."""
    quantised = quantized_base_of(opened.loaded.model)
    return TrainedModel(
        name=named.name,
        fingerprint=opened.loaded.fingerprint,
        rendering=rendering_fingerprint(named.tokenizer, template_kwargs),
        precision=str(opened.loaded.dtype).removeprefix("torch."),
        quantised=None if quantised is None else Quantised.model_validate(asdict(quantised)),
        trained_parameters=opened.trained_parameters,
        adapted=opened.adapted,
    )


def room_of(file: TrainingFile, named: NamedModel, source: Sequence[TrainingItem] | Batches) -> Room | None:
    """Asked before the model is loaded. None for a model whose shape is not known."""
    config = model_config(named.folder / "config.json")
    settings = file.settings
    in_4_bits, precision = resolve_precision(file.settings.adapter.quantize or "auto", file.precision, file.start_from)
    if file.start_from is not None:
        settings = _on_an_adapter(settings, file.start_from, in_4_bits)
    if settings.adapter.kind == "none" and file.precision == "auto":
        precision = "float32"  # as `open_for_training` has it
    reduced = is_reduced(chosen_dtype(precision, chosen_device()))
    planned = plan_of(config, settings, source, "bfloat16" if reduced else "float32")
    if planned is None:
        return None
    return Room(replace(planned, keeps_method=file.start_from is not None), free_now())


def memory_advice(file: TrainingFile, room: Room | None, *, begun: bool) -> MemoryAdvice:
    """To a run that ran out of memory. begun: whether there is a run to go on with."""
    return MemoryAdvice("", what_to_lower(file)) if room is None else room.answer(begun=begun)


def _on_an_adapter(settings: TrainSettings, start_from: Path, in_4_bits: bool) -> TrainSettings:
    """An adapter to start from is what is trained, whatever kind the file names."""
    adapter = replace(settings.adapter, kind="lora", quantize="nf4" if in_4_bits else None)
    ranks = {layer: rank for layer, (_, rank, _) in read_adapter(start_from).layers.items()}
    return replace(settings, adapter=with_ranks(adapter, ranks))
