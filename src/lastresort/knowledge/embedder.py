"""Embedders turn texts into vectors. Their names: `embedded`, `hashing`, a folder, a hub id."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from lastresort.embedded import embedder_folder
from lastresort.knowledge.sentence_models import (
    LazyModel,
    folder_fingerprint,
    import_sentence_transformers,
    model_errors,
    model_folder,
)

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Vectors = NDArray[np.float32]

OnDone = Callable[[int], object]  # called with how many more texts are done
_WORD = re.compile(r"\w+|[^\w\s]")
BATCH_SIZE = 32
_ROUND = 16 * BATCH_SIZE  # texts between two reports; sorted by length within, so that little is padded
_LONGEST_TOKENS = 8192  # of a model that does not say


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
        """As `embed_passages`, for queries. Some models embed queries and passages differently."""
        ...


def open_embedder(name: str | Path = "embedded") -> Embedder:
    """The embedder of this name. `embedded` is the model inside a package and never uses the network.

    Raises PrerequisiteError if it is not installed, DataError if it is not an embedder.
    """
    if name == "hashing":
        return HashingEmbedder()
    if name == "embedded":
        return SentenceEmbedder(embedder_folder(), name="embedded")
    return SentenceEmbedder(model_folder(name), name=str(name))


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
