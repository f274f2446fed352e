"""How this program uses the libraries that load models: quietly, without code of a model's own, and with errors of its own."""

from __future__ import annotations

import logging
import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lastresort.errors import (
    DataError,
    InfrastructureError,
    InputError,
    LastresortError,
    PrerequisiteError,
    TaskError,
)
from lastresort.foreign import DOCUMENT, opened, read_json, reason_of
from lastresort.model_heads import check_model_files

PANIC = "PanicException"  # of libraries in Rust, a BaseException
_MAY_NAME_CODE = ("config.json", "tokenizer_config.json")


@contextmanager
def quiet_transformers() -> Iterator[None]:
    """No progress bars and warnings of transformers while a model loads. Afterwards both are as before."""
    from transformers.utils import logging as messages

    verbosity, bars = messages.get_verbosity(), messages.is_progress_bar_enabled()
    messages.set_verbosity_error()
    messages.disable_progress_bar()
    try:
        yield
    finally:
        messages.set_verbosity(verbosity)
        if bars:
            messages.enable_progress_bar()


@contextmanager
def loading(
    place: Path | str,
    expected: str,
    *,
    of: str = "the model",
    raised: type[InputError] = TaskError,
    remedy: str = "Name another model.",
    where: Path | None = None,
) -> Iterator[None]:
    """Only calls of libraries that read a model's or an adapter's files go inside, quietly and with trust_remote_code=False.

    Whatever they raise becomes `raised`, one sentence that names `place`: a fault of ours would be hidden too. A model that brings
    code, but that transformers knows without it, loads. place: a folder, whose files are checked first, or a hub id that is on
    this machine. of: what is loaded. where: what to name in place of `place`.
    """
    check_model_files(Path(place), raised)
    try:
        with quiet_transformers():
            yield
    except LastresortError:
        raise
    except BaseException as error:
        if not (isinstance(error, Exception) or type(error).__name__ == PANIC):
            raise
        named_in = _code_named_in(Path(place)) if isinstance(error, ValueError) else None
        if named_in is not None:
            raise raised(
                f"{named_in} asks to run Python code that comes with the model, and no code of a model is run",
                where=str(where or place),
                expected="a model that transformers can load by itself",
                remedy="Name another model.",
            ) from error
        raise raised(
            f"{of} cannot be loaded ({reason_of(error)})", where=str(where or place), expected=expected, remedy=remedy
        ) from error


@dataclass(frozen=True, slots=True)
class StoredWeight:
    """dtype: as safetensors calls it, such as F32 or BF16."""

    dtype: str
    shape: tuple[int, ...]


def stored_weights(path: Path) -> dict[str, StoredWeight]:
    """The weights in a safetensors file by name, from its head. Raises DataError where it is cut short or damaged."""
    from safetensors import safe_open

    with opened(path, raised=DataError):
        pass
    try:
        with safe_open(str(path), framework="pt") as file:
            heads = {key: file.get_slice(key) for key in file.keys()}  # noqa: SIM118  safe_open is no mapping
            return {key: StoredWeight(head.get_dtype(), tuple(head.get_shape())) for key, head in heads.items()}
    except Exception as error:
        raise DataError(
            f"the file is cut short or damaged ({reason_of(error)})",
            where=str(path),
            expected="a whole safetensors file",
            remedy="Copy or save it again.",
        ) from error


def _code_named_in(folder: Path) -> str | None:
    """The first file of a model's folder whose auto_map names code."""
    for name in _MAY_NAME_CODE:
        try:
            body = read_json(folder / name, DOCUMENT, lenient=True)
        except (OSError, InputError):
            continue
        if isinstance(body, dict) and body.get("auto_map"):
            return name
    return None


def without_length_warning(tokenizer: Any) -> Any:
    """The same tokenizer. It no longer warns of a text longer than the model's context: ours says which row is too long."""
    warned = getattr(tokenizer, "deprecation_warnings", None)
    if isinstance(warned, dict):
        warned["sequence-length-is-longer-than-the-specified-maximum"] = True
    return tokenizer


@contextmanager
def quiet_checkpointing() -> Iterator[None]:
    """Hides a FutureWarning of transformers 5: PEFT still uses the old name of a flag."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "`is_gradient_checkpointing` is deprecated", FutureWarning)
        yield


@contextmanager
def quiet_logger(name: str, level: int = logging.ERROR) -> Iterator[None]:
    """The logger of this name reports nothing below `level`."""
    logger = logging.getLogger(name)
    before = logger.level
    logger.setLevel(level)
    try:
        yield
    finally:
        logger.setLevel(before)


def hub_failure(error: OSError, hub_id: str) -> LastresortError:
    """Our error for a download that failed, if the reason is not the name of the model."""
    from huggingface_hub.errors import LocalEntryNotFoundError

    if not isinstance(error, LocalEntryNotFoundError):
        return InfrastructureError(
            f"the download failed ({type(error).__name__})",
            where=hub_id,
            remedy="Try again. The download resumes where it stopped.",
        )
    if os.environ.get("HF_HUB_OFFLINE", "").upper() in {"1", "ON", "YES", "TRUE"}:
        return PrerequisiteError(
            "this model is not in the local cache and HF_HUB_OFFLINE is set",
            where=hub_id,
            remedy="Unset it to download the model, or name a local folder.",
        )
    return InfrastructureError(
        "the hub cannot be reached and the model is not in the local cache",
        where=hub_id,
        remedy="Try again when online, or name a local folder.",
    )
