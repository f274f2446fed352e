"""What turns texts into vectors, and how one is named: `embedded`, `hashing`, a folder, a hub id."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Vectors = NDArray[np.float32]

OnDone = Callable[[int], object]  # told how many more texts are done


class Embedder(Protocol):
    """Texts into vectors of length 1, so that their dot product is the cosine of the angle between them.

    name: as open_embedder takes it. fingerprint: hash of all that decides a vector, to be had without loading
    weights. most_tokens: the longest text that is not cut.
    """

    name: str
    fingerprint: str

    @property
    def dimensions(self) -> int: ...
    @property
    def most_tokens(self) -> int: ...
    def count_tokens(self, text: str) -> int:
        """Without special tokens."""
        ...

    def embed_passages(self, texts: Sequence[str], on_done: OnDone | None = None) -> Vectors:
        """float32, shape (texts, dimensions)."""
        ...

    def embed_questions(self, texts: Sequence[str]) -> Vectors:
        """The same for what is searched for; some models are trained to tell the two apart."""
        ...


def open_embedder(name: str | Path = "embedded") -> Embedder:
    """The embedder of that name. `embedded` is the model inside a package, and never asks the network.

    Raises PrerequisiteError where it is not installed, DataError for what is no embedder.
    """
    from lastresort.embedded import embedder_folder
    from lastresort.knowledge.hashing import HashingEmbedder
    from lastresort.knowledge.model_folder import model_folder
    from lastresort.knowledge.sentence_embedder import SentenceEmbedder

    if name == "hashing":
        return HashingEmbedder()
    if name == "embedded":
        return SentenceEmbedder(embedder_folder(), name="embedded")
    return SentenceEmbedder(model_folder(name), name=str(name))
