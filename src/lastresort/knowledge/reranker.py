"""A cross-encoder that reads question and passage together, to rerank the best candidates of a search."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

from lastresort.knowledge.sentence_models import (
    LazyModel,
    folder_fingerprint,
    import_sentence_transformers,
    model_errors,
    model_folder,
)

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
