"""Embedders turn texts into vectors. Their names: `embedded`, `hashing`, a folder, a hub id."""

from __future__ import annotations

import hashlib
import importlib
import re
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from lastresort.errors import DataError
from lastresort.libraries import hub_failure, own_code_refused, quiet_logger, quiet_transformers

_WORD = re.compile(r"\w+|[^\w\s]")


class HashingEmbedder:
    """For tests and dry runs, without a model: each word adds ±1 in a dimension given by its hash. It knows words, not meaning.

    Source: Weinberger et al. 2009, Feature Hashing for Large Scale Multitask Learning, eq. 2.
    """

    name = "hashing"

    def __init__(self, dimensions: int = 64, max_tokens: int = 256) -> None:
        self.dimensions, self.max_tokens = dimensions, max_tokens
        self.fingerprint = f"hashing-{dimensions}-{max_tokens}"

    def count_tokens(self, text: str) -> int:
        return len(_WORD.findall(text))

    def embed_passages(self, texts: Sequence[str], on_done: OnDone | None = None) -> Vectors:
        import numpy as np

        vectors = np.zeros((len(texts), self.dimensions), np.float32)
        for row, text in enumerate(texts):
            for word in _WORD.findall(text.casefold())[: self.max_tokens]:
                digest = int.from_bytes(hashlib.blake2b(word.encode(), digest_size=8).digest(), "big")
                vectors[row, digest % self.dimensions] += 1.0 if digest >> 63 else -1.0
            if not vectors[row].any():
                vectors[row, 0] = 1.0
            if on_done is not None:
                on_done(1)
        vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
        return vectors

    def embed_questions(self, texts: Sequence[str]) -> Vectors:
        return self.embed_passages(texts)


_HUB_FILES = ["*.safetensors", "*.json", "*.model", "*.txt"]
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
    if not (path / "config.json").is_file() and not (path / "modules.json").is_file():
        raise DataError(
            "this is not a model's folder",
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


def folder_fingerprint(folder: Path) -> str:
    """sha256 over names and contents of the files that determine the model's output, including subfolders."""
    whole = hashlib.sha256()
    for path in sorted(folder.rglob("*")):
        if path.is_file() and path.suffix in _DECIDING and path.name not in _NOT_DECIDING:
            with path.open("rb") as file:
                digest = hashlib.file_digest(file, "sha256").hexdigest()
            whole.update(f"{path.relative_to(folder).as_posix()}\0{digest}\n".encode())
    return whole.hexdigest()


def import_sentence_transformers() -> Any:
    """The library, imported quietly. It imports bitsandbytes, which warns of a kernel that is not used here."""
    with quiet_logger("bitsandbytes"):
        return importlib.import_module("sentence_transformers")


@contextmanager
def model_errors(folder: Path, expected: str) -> Iterator[None]:
    """Quiet, and an error of the library about a folder that it cannot load becomes a DataError."""
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
    from huggingface_hub.errors import HFValidationError, RepositoryNotFoundError

    try:
        return Path(snapshot_download(hub_id, allow_patterns=_HUB_FILES))
    except HFValidationError as error:
        raise DataError("neither a folder nor a hub id", where=hub_id, remedy="Correct the model's name.") from error
    except RepositoryNotFoundError as error:  # also a gated one
        raise DataError(
            "the hub does not give this model",
            where=hub_id,
            remedy="Correct its name, or set HF_TOKEN if it is not public.",
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
_ROUND = 16 * BATCH_SIZE  # texts between two reports; sorted by length within, so that little is padded
_LONGEST_TOKENS = 8192  # of a model that does not say


class SentenceEmbedder:
    """A sentence-transformers model, loaded at the first text. folder: with safetensors; code of the model's own never runs."""

    def __init__(self, folder: Path, *, name: str) -> None:
        self.name = name
        self.fingerprint = folder_fingerprint(folder)
        self._model = LazyModel(lambda: _load(folder))

    @property
    def dimensions(self) -> int:
        return int(self._model.get().get_embedding_dimension())

    @property
    def max_tokens(self) -> int:
        """The model's longest text, minus special tokens and the prompt that it puts before passages."""
        model = self._model.get()
        longest = min(model.max_seq_length or _LONGEST_TOKENS, _LONGEST_TOKENS)
        prompts = [self.count_tokens(prompt) for prompt in (model.prompts or {}).values() if prompt]
        return int(longest - model.tokenizer.num_special_tokens_to_add() - max(prompts, default=0))

    def count_tokens(self, text: str) -> int:
        found = self._model.get().tokenizer(text, add_special_tokens=False, truncation=False, verbose=False)
        return len(found["input_ids"])

    def embed_passages(self, texts: Sequence[str], on_done: OnDone | None = None) -> Vectors:
        import numpy as np

        order = sorted(range(len(texts)), key=lambda place: -len(texts[place]))
        vectors = np.empty((len(texts), self.dimensions), np.float32)
        for start in range(0, len(order), _ROUND):
            places = order[start : start + _ROUND]
            vectors[places] = self._model.get().encode_document(
                [texts[place] for place in places],
                batch_size=BATCH_SIZE,
                normalize_embeddings=True,
                show_progress_bar=False,
            )
            if on_done is not None:
                on_done(len(places))
        return vectors

    def embed_questions(self, texts: Sequence[str]) -> Vectors:
        import numpy as np

        if not texts:
            return np.empty((0, self.dimensions), np.float32)
        vectors = self._model.get().encode_query(
            list(texts), batch_size=BATCH_SIZE, normalize_embeddings=True, show_progress_bar=False
        )
        return np.asarray(vectors, np.float32)


def _load(folder: Path) -> Any:
    library = import_sentence_transformers()
    with model_errors(folder, "a sentence-transformers model"):
        return library.SentenceTransformer(
            str(folder), local_files_only=True, trust_remote_code=False, model_kwargs={"use_safetensors": True}
        )


if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Vectors = NDArray[np.float32]

OnDone = Callable[[int], object]  # called with how many more texts are done


class Embedder(Protocol):
    """Turns texts into vectors of length 1, so that their dot product is the cosine similarity.

    name: for open_embedder. fingerprint: hash of all that determines a vector, available without loading weights.
    max_tokens: the longest text that is not truncated.
    """

    name: str
    fingerprint: str

    @property
    def dimensions(self) -> int: ...
    @property
    def max_tokens(self) -> int: ...
    def count_tokens(self, text: str) -> int:
        """Without special tokens."""
        ...

    def embed_passages(self, texts: Sequence[str], on_done: OnDone | None = None) -> Vectors:
        """float32, shape (texts, dimensions)."""
        ...

    def embed_questions(self, texts: Sequence[str]) -> Vectors:
        """The same for queries. Some models embed queries and passages differently."""
        ...


def open_embedder(name: str | Path = "embedded") -> Embedder:
    """The embedder of this name. `embedded` is the model inside a package and never uses the network.

    Raises PrerequisiteError if it is not installed, DataError if it is not an embedder.
    """
    from lastresort.embedded import embedder_folder

    if name == "hashing":
        return HashingEmbedder()
    if name == "embedded":
        return SentenceEmbedder(embedder_folder(), name="embedded")
    return SentenceEmbedder(model_folder(name), name=str(name))
