"""How this program uses the libraries that load models: quietly, without code of a model's own, and with errors of its own."""

from __future__ import annotations

import json
import logging
import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from lastresort.errors import InfrastructureError, InputError, LastresortError, PrerequisiteError, TaskError

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
def own_code_refused(folder: Path | str, raised: type[InputError] = TaskError) -> Iterator[None]:
    """Turns the ValueError of a model in `folder` that cannot be loaded without Python code of its own into `raised`.

    Load with trust_remote_code=False inside. A model that brings code, but that transformers knows without it, loads.
    """
    try:
        yield
    except ValueError as error:
        named_in = _code_named_in(Path(folder))
        if named_in is None:
            raise
        raise raised(
            f"{named_in} asks to run Python code that comes with the model, and no code of a model is run",
            where=str(folder),
            expected="a model that transformers can load by itself",
            remedy="Name another model.",
        ) from error


def _code_named_in(folder: Path) -> str | None:
    """The first file of a model's folder whose auto_map names code."""
    for name in _MAY_NAME_CODE:
        try:
            body = json.loads((folder / name).read_text(encoding="utf-8"))
        except (OSError, ValueError):
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
