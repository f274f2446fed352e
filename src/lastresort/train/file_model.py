"""The model that a training file names: its tokenizer before any weights, then the weights with what will be trained."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from lastresort.models.loading import Loaded, load_local, weights_folder
from lastresort.models.open import local_folder, settled_name
from lastresort.models.quantized import import_bitsandbytes, note_of
from lastresort.models.renderings import rendering_fingerprint
from lastresort.models.tokenizer import read_tokenizer
from lastresort.train.adapter_folder import check_fits, read_adapter
from lastresort.train.adapters import attach_adapter, trainable, unfreeze_adapter
from lastresort.train.base_folder import linear_shapes
from lastresort.train.targets import Adapted, adapted
from lastresort.train.training_file import TrainingFile


@dataclass(frozen=True, slots=True)
class Named:
    """A model before its weights are read. name: what an adapter calls it. note: what a reader should know, or None."""

    folder: Path
    name: str
    tokenizer: Any
    context_tokens: int | None
    note: str | None


@dataclass(frozen=True, slots=True)
class Opened:
    """A model ready to be trained. loaded: as it was read; its `fingerprint` is of base, starting adapter and precision. adapted:
    how far its adapters reach, None where all weights are trained."""

    model: Any
    loaded: Loaded
    trained_parameters: int
    adapted: Adapted | None

    def reach(self, file: TrainingFile) -> list[str]:
        """What a reader should know of its adapters before they are trained."""
        if self.adapted is None:
            return []
        target = None if file.start_from is not None else file.adapter.settings().target
        warned = self.adapted.warning("adapter.target", target)
        return [self.adapted.sentence(), *([] if warned is None else [warned])]


def name_model(file: TrainingFile) -> Named:
    """Tokenizer and context of the model; an adapter to start from is compared with it.

    Raises TaskError for a name that leads nowhere, DataError for an adapter that is none or belongs to another base.
    """
    folder, name = weights_folder(local_folder(file.model, file.folder)), settled_name(file.model, file.folder)
    note = None
    if file.start_from is not None:
        adapter = read_adapter(file.start_from)
        check_fits(adapter, name, linear_shapes(folder))
        if adapter.base_name not in ("", name):
            note = f"start_from was trained on {adapter.base_name}; it goes on here on {name}, whose layers have the same shapes"
    read = read_tokenizer(folder)
    return Named(folder, name, read.tokenizer, read.context_tokens, note)


def open_for_training(file: TrainingFile, named: Named, *, keep_on_cpu: bool = False) -> Opened:
    """Weights in memory with fresh adapters, with those of start_from, or all of them to be trained.

    keep_on_cpu: as `load_local` takes it.
    All weights are trained in float32 unless the file says otherwise: in bfloat16 most small updates round to nothing.
    """
    import_bitsandbytes()  # quietly, before PEFT does it with a warning
    full = file.adapter.kind == "full" and file.start_from is None
    precision = "float32" if full and file.precision == "auto" else file.precision
    loaded = load_local(
        named.folder,
        precision=precision,
        adapter=file.start_from,
        template_kwargs=dict(file.chat_template_kwargs),
        quantize="nf4" if file.adapter.kind == "qlora" else "auto",
        keep_on_cpu=keep_on_cpu,
    )
    if file.start_from is not None:
        model = unfreeze_adapter(loaded.model, named.name)
    else:
        settings = file.adapter.settings()
        model = attach_adapter(loaded.model, settings, base_name=named.name, seed=file.seed)
    return Opened(model, loaded, sum(parameter.numel() for _, parameter in trainable(model)), adapted(model))


def described(opened: Opened, named: Named, template_kwargs: Mapping[str, Any]) -> dict[str, Any]:
    """The model as the record keeps it. rendering: how its tokenizer renders conversations, by which a gate compares it."""
    quantised = note_of(opened.loaded.model)
    return {
        "name": named.name,
        "fingerprint": opened.loaded.fingerprint,
        "rendering": rendering_fingerprint(named.tokenizer, template_kwargs),
        "precision": str(opened.loaded.dtype).removeprefix("torch."),
        "quantised": None if quantised is None else asdict(quantised),
        "trained_parameters": opened.trained_parameters,
        "adapted": None if opened.adapted is None else asdict(opened.adapted),
    }
