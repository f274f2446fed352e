"""Embeddings by a sentence-transformers model in a folder. Nothing is loaded before the first text."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lastresort.knowledge.model_folder import fingerprint, loading, sentence_transformers

if TYPE_CHECKING:
    from lastresort.knowledge.embedder import OnDone, Vectors

BATCH_SIZE = 32
_ROUND = 16 * BATCH_SIZE  # texts between two reports; sorted by length within, so that little is padded
_LONGEST_TOKENS = 8192  # of a model that does not say


class SentenceEmbedder:
    """folder: as sentence-transformers saves it, with safetensors; no code of the model's own is run."""

    def __init__(self, folder: Path, *, name: str) -> None:
        self.name, self._folder = name, folder
        self.fingerprint = fingerprint(folder)
        self._loaded: Any = None
        self._lock = threading.Lock()

    @property
    def dimensions(self) -> int:
        return int(self._model.get_embedding_dimension())

    @property
    def most_tokens(self) -> int:
        """What is left of the model's longest text after special tokens and the prompt that it is given with passages."""
        model = self._model
        longest = min(model.max_seq_length or _LONGEST_TOKENS, _LONGEST_TOKENS)
        prompts = [self.count_tokens(prompt) for prompt in (model.prompts or {}).values() if prompt]
        return int(longest - model.tokenizer.num_special_tokens_to_add() - max(prompts, default=0))

    def count_tokens(self, text: str) -> int:
        found = self._model.tokenizer(text, add_special_tokens=False, truncation=False, verbose=False)
        return len(found["input_ids"])

    def embed_passages(self, texts: Sequence[str], on_done: OnDone | None = None) -> Vectors:
        import numpy as np

        order = sorted(range(len(texts)), key=lambda place: -len(texts[place]))
        vectors = np.empty((len(texts), self.dimensions), np.float32)
        for start in range(0, len(order), _ROUND):
            places = order[start : start + _ROUND]
            vectors[places] = self._model.encode_document(
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
        vectors = self._model.encode_query(
            list(texts), batch_size=BATCH_SIZE, normalize_embeddings=True, show_progress_bar=False
        )
        return np.asarray(vectors, np.float32)

    @property
    def _model(self) -> Any:
        with self._lock:
            if self._loaded is None:
                self._loaded = _load(self._folder)
        return self._loaded


def _load(folder: Path) -> Any:
    """Raises DataError where the folder holds something else."""
    library = sentence_transformers()
    with loading(folder, "a sentence-transformers model"):
        return library.SentenceTransformer(
            str(folder), local_files_only=True, trust_remote_code=False, model_kwargs={"use_safetensors": True}
        )
