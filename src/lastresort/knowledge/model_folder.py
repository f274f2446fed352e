"""Where the files of an embedder or a reranker are, and what they are."""

from __future__ import annotations

import hashlib
import importlib
import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from lastresort.embedded import own_code_refused, quiet_transformers
from lastresort.errors import DataError, InfrastructureError, PrerequisiteError

_HUB_FILES = ["*.safetensors", "*.json", "*.model", "*.txt"]
_DECIDING = (".safetensors", ".json", ".model", ".txt")
_NOT_DECIDING = {"data_config.json", "trainer_state.json"}


def model_folder(folder_or_id: str | Path) -> Path:
    """The folder itself, or the hub's snapshot (fetched if need be). What exists on disk, and any Path, never asks the hub.

    Raises DataError for what is no model with safetensors, PrerequisiteError and InfrastructureError where a hub id
    cannot be had.
    """
    path = Path(folder_or_id)
    if not (isinstance(folder_or_id, Path) or path.exists()):
        path = _snapshot(folder_or_id)
    if not (path / "config.json").is_file() and not (path / "modules.json").is_file():
        raise DataError(
            "this is no folder of a model",
            where=str(folder_or_id),
            expected="config.json or modules.json in it",
            remedy="Correct the name.",
        )
    if not any(path.rglob("*.safetensors")):
        raise DataError(
            "the folder holds no weights as safetensors",
            where=str(folder_or_id),
            expected="*.safetensors",
            remedy="Save the model again with save_pretrained; pickled weights are not read.",
        )
    return path


def fingerprint(folder: Path) -> str:
    """sha256 over names and contents of the files that decide what the model says, those in folders below included."""
    whole = hashlib.sha256()
    for path in sorted(folder.rglob("*")):
        if path.is_file() and path.suffix in _DECIDING and path.name not in _NOT_DECIDING:
            with path.open("rb") as file:
                digest = hashlib.file_digest(file, "sha256").hexdigest()
            whole.update(f"{path.relative_to(folder).as_posix()}\0{digest}\n".encode())
    return whole.hexdigest()


def sentence_transformers() -> Any:
    """The library, imported quietly: bitsandbytes, which it imports too, warns of a kernel that is not used here."""
    logger = logging.getLogger("bitsandbytes")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        return importlib.import_module("sentence_transformers")
    finally:
        logger.setLevel(level)


@contextmanager
def loading(folder: Path, expected: str) -> Iterator[None]:
    """Quietly; what a library says of a folder that it cannot load becomes a DataError."""
    from safetensors import SafetensorError

    try:
        with quiet_transformers(), own_code_refused(folder, DataError):
            yield
    except (
        OSError,
        ValueError,
        LookupError,
        AttributeError,
        TypeError,
        ImportError,
        RuntimeError,
        SafetensorError,
    ) as error:
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise DataError(
            f"the model cannot be loaded ({reason})", where=str(folder), expected=expected, remedy="Name another model."
        ) from error


def _snapshot(hub_id: str) -> Path:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import (
        GatedRepoError,
        HfHubHTTPError,
        HFValidationError,
        LocalEntryNotFoundError,
        RepositoryNotFoundError,
    )

    try:
        return Path(snapshot_download(hub_id, allow_patterns=_HUB_FILES))
    except HFValidationError as error:
        raise DataError("neither a folder nor a hub id", where=hub_id, remedy="Correct the model's name.") from error
    except (GatedRepoError, RepositoryNotFoundError) as error:
        raise DataError(
            "the hub does not give this model",
            where=hub_id,
            remedy="Correct its name, or set HF_TOKEN if it is not public.",
        ) from error
    except LocalEntryNotFoundError as error:
        offline = os.environ.get("HF_HUB_OFFLINE", "").upper() in {"1", "ON", "YES", "TRUE"}
        if offline:
            raise PrerequisiteError(
                "this model is not in the local cache and HF_HUB_OFFLINE is set",
                where=hub_id,
                remedy="Unset it to download the model, or name a local folder.",
            ) from error
        raise InfrastructureError(
            "the hub cannot be reached and the model is not in the local cache",
            where=hub_id,
            remedy="Try again when online, or name a local folder.",
        ) from error
    except (HfHubHTTPError, OSError) as error:
        raise InfrastructureError(
            f"the download failed ({type(error).__name__})",
            where=hub_id,
            remedy="Try again; it goes on where it stopped.",
        ) from error
