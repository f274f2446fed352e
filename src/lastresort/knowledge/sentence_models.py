"""Models of sentence-transformers: their files, how they are loaded, and rerankers.

A reranker is a cross-encoder that reads question and passage together, to rerank the best candidates of a search.
"""

from __future__ import annotations

import hashlib
import importlib
import os
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol

from lastresort.embedded import file_hash
from lastresort.errors import DataError
from lastresort.foreign import DOCUMENT, read_json
from lastresort.libraries import hub_failure, loading, quiet_logger
from lastresort.model_heads import ADAPTER_CONFIG, CONFIG, check_model_files

_HUB_FILES = ["*.safetensors", "*.json", "*.model", "*.txt"]
_MODULES, _ROUTER = "modules.json", ("router_config.json", CONFIG)  # a router of older versions had the second
_DECIDING = (".safetensors", ".json", ".model", ".txt")
_NOT_DECIDING = {"data_config.json", "trainer_state.json"}


def model_folder(folder_or_id: str | Path) -> Path:
    """The folder itself, or the hub's snapshot (downloaded if needed). A Path, or a name that exists on disk, is always local.

    Raises DataError if it is not a model with safetensors, PrerequisiteError or InfrastructureError if a hub id cannot be
    downloaded.
    """
    path = Path(folder_or_id)
    if not (isinstance(folder_or_id, Path) or path.exists()):
        path = _snapshot(folder_or_id)
    if not (path / CONFIG).is_file() and not (path / _MODULES).is_file():
        raise DataError(
            "this is not a model's folder",
            where=str(folder_or_id),
            expected=f"{CONFIG} or {_MODULES} in it",
            remedy="Correct the name.",
        )
    if not any(path.rglob("*.safetensors")):
        raise DataError(
            "the folder holds no weights as safetensors",
            where=str(folder_or_id),
            expected="*.safetensors",
            remedy="Save the model again with save_pretrained; pickled weights are not read.",
        )
    for folder in _loaded_folders(path):
        if (
            folder / ADAPTER_CONFIG
        ).is_file():  # it would be loaded with its base, whose weights no fingerprint here covers
            raise DataError(
                f"the folder holds an adapter ({ADAPTER_CONFIG})",
                where=str(folder),
                expected="only a model",
                remedy="Merge the adapter into the model and save that.",
            )
    return path


def _loaded_folders(model: Path) -> list[Path]:
    """The model's folder and those of its modules, also of the modules of a router: the library loads from no other.

    Raises DataError if one is outside of the model's folder, where no fingerprint covers it.
    """
    found, whole = [model], os.path.realpath(model)
    for folder in found:  # which grows
        for name in _modules_named_in(folder):
            module = None if "\0" in name else Path(os.path.realpath(folder / name))
            if module is None or not module.is_relative_to(whole):
                raise DataError(
                    f"the module {name!r} is outside of the model's folder",
                    where=str(model),
                    expected="a folder in it, and no link",
                    remedy="Copy the module into the model's folder and name it there.",
                )
            if module.is_dir() and module not in found:
                found.append(module)
    return found


def _modules_named_in(folder: Path) -> Iterator[str]:
    """The paths of modules in a model's or a router's settings, relative to the folder."""
    for path in (folder / name for name in (_MODULES, *_ROUTER)):
        settings: Any = read_json(path, DOCUMENT, lenient=True, raised=DataError) if path.is_file() else None
        if isinstance(settings, list):
            named = [module.get("path") for module in settings if isinstance(module, dict)]
            yield from (name for name in named if isinstance(name, str))
        elif isinstance(settings, dict) and isinstance(settings.get("types"), dict):
            yield from settings["types"]


def folder_fingerprint(folder: Path) -> str:
    """sha256 over names and contents of the files that determine the model's output, including subfolders."""
    whole = hashlib.sha256()
    for path in sorted(folder.rglob("*")):
        if path.is_file() and path.suffix in _DECIDING and path.name not in _NOT_DECIDING:
            whole.update(f"{path.relative_to(folder).as_posix()}\0{file_hash(path)}\n".encode())
    return whole.hexdigest()


def import_sentence_transformers() -> Any:
    """The library, imported quietly. It imports bitsandbytes, which warns of a kernel that is not used here."""
    with quiet_logger("bitsandbytes"):
        return importlib.import_module("sentence_transformers")


@contextmanager
def model_errors(folder: Path, expected: str) -> Iterator[None]:
    """Quiet, and an error of the library about a folder that it cannot load becomes a DataError."""
    for path in sorted(folder.rglob("*")):
        if path.is_dir():
            check_model_files(path, DataError)
    with loading(folder, expected, raised=DataError):
        yield


def _snapshot(hub_id: str) -> Path:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HFValidationError, RepositoryNotFoundError

    try:
        return Path(snapshot_download(hub_id, allow_patterns=_HUB_FILES))
    except HFValidationError as error:
        raise DataError("neither a folder nor a hub id", where=hub_id, remedy="Correct the model's name.") from error
    except RepositoryNotFoundError as error:  # also a gated one
        raise DataError(
            "the hub has no such public model",
            where=hub_id,
            remedy="Correct its name, or set HF_TOKEN if it is private or gated.",
        ) from error
    except OSError as error:
        raise hub_failure(error, hub_id) from error


class LazyModel:
    """A model that is loaded on first use, once for all threads."""

    def __init__(self, load: Callable[[], Any]) -> None:
        self._load, self._lock = load, threading.Lock()
        self._model: Any = None

    def get(self) -> Any:
        with self._lock:
            if self._model is None:
                self._model = self._load()
        return self._model


BATCH_SIZE = 32


class Reranker(Protocol):
    """Scores passages for a question, higher is better. name, fingerprint: as for an embedder."""

    name: str
    fingerprint: str

    def scores(self, question: str, passages: Sequence[str]) -> list[float]: ...


def open_reranker(name: str | Path) -> Reranker:
    """The cross-encoder in a folder or of a hub id. Raises the same errors as model_folder."""
    return CrossEncoderReranker(model_folder(name), name=str(name))


class CrossEncoderReranker:
    """A sentence-transformers CrossEncoder, loaded at the first question. Its logits are the scores.

    Source: Nogueira & Cho 2019, Passage Re-ranking with BERT (arXiv 1901.04085).
    """

    def __init__(self, folder: Path, *, name: str) -> None:
        self.name = name
        self.fingerprint = folder_fingerprint(folder)
        self._model = LazyModel(lambda: _load(folder))

    def scores(self, question: str, passages: Sequence[str]) -> list[float]:
        if not passages:
            return []
        pairs = [(question, passage) for passage in passages]
        found = self._model.get().predict(pairs, batch_size=BATCH_SIZE, show_progress_bar=False)
        return [float(score) for score in found]


def _load(folder: Path) -> Any:
    """Raises DataError if the folder holds something else, or a model with more than one score per pair."""
    from torch import nn

    library = import_sentence_transformers()
    with model_errors(folder, "a cross-encoder with one score per pair"):
        model = library.CrossEncoder(
            str(folder),
            local_files_only=True,
            trust_remote_code=False,
            model_kwargs={"use_safetensors": True},
            activation_fn=nn.Identity(),
        )
        if model.num_labels != 1:
            raise ValueError(f"it gives {model.num_labels} scores per pair")
    return model
