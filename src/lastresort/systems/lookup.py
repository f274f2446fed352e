"""Find the passages for an input: in a store, or among passages that are known to be right."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Protocol

from lastresort.errors import DataError
from lastresort.knowledge.chunks import Chunk
from lastresort.knowledge.reranker import Reranker
from lastresort.knowledge.search import search
from lastresort.knowledge.store import Store
from lastresort.systems.system import Retriever
from lastresort.types import Message

Conversation = tuple[tuple[str, str], ...]  # role and content of each turn
Passages = Mapping[Conversation, tuple[Chunk, ...]]


class Lookup(Protocol):
    """Finds the passages for an input, the best last: next to the question it has the most influence."""

    def __call__(self, turns: Sequence[Message]) -> tuple[Chunk, ...]: ...


def question_of(turns: Sequence[Message]) -> str:
    """The text to search for: the last user turn."""
    return next((turn.content for turn in reversed(turns) if turn.role == "user"), "")


def conversation(turns: Sequence[Message]) -> Conversation:
    """The conversation as a key. The last question alone is not enough, as its answer depends on the turns before."""
    return tuple((turn.role, turn.content) for turn in turns)


class StoreLookup:
    """Searches an open store, one question at a time as in serving, so the result never depends on other questions.

    Results are kept, because a climb repeats the same questions.
    """

    def __init__(self, retriever: Retriever, store: Store, reranker: Reranker | None = None) -> None:
        self._retriever, self._store, self._reranker = retriever, store, reranker
        self._found: dict[str, tuple[Chunk, ...]] = {}

    def __call__(self, turns: Sequence[Message]) -> tuple[Chunk, ...]:
        question = question_of(turns)
        if question not in self._found:
            hits = search(
                self._store, question, k=self._retriever.k, mode=self._retriever.mode, reranker=self._reranker
            )
            self._found[question] = tuple(hit.chunk for hit in reversed(hits))
        return self._found[question]


class KnownPassages:
    """The passages that are known to be right, by conversation. They show the ceiling of any retriever."""

    def __init__(self, passages: Passages, otherwise: Lookup) -> None:
        self._passages, self._otherwise = passages, otherwise

    def __call__(self, turns: Sequence[Message]) -> tuple[Chunk, ...]:
        key = conversation(turns)
        return self._passages[key] if key in self._passages else self._otherwise(turns)


class Lookups:
    """Opens each store and reranker once. Loading an embedder takes a second, and all candidates share it."""

    def __init__(self) -> None:
        self._stores: dict[tuple[Path, str], Store] = {}
        self._rerankers: dict[str, Reranker] = {}
        self._lookups: dict[Retriever, StoreLookup] = {}

    def of(self, retriever: Retriever) -> Lookup:
        """Raises DataError if there is no store, it is damaged, or the store or the reranker is not the measured one."""
        if retriever not in self._lookups:
            self._lookups[retriever] = StoreLookup(retriever, self._store(retriever), self._reranker(retriever))
        return self._lookups[retriever]

    def _store(self, retriever: Retriever) -> Store:
        from lastresort.knowledge.store import content_hash, open_store

        key = (retriever.store, retriever.contents)
        if key not in self._stores:
            store = open_store(retriever.store)
            found = content_hash(store) if retriever.contents else ""
            if found != retriever.contents:
                raise DataError(
                    "the store holds other passages than the system was measured with",
                    where=str(retriever.store),
                    expected=f"contents {retriever.contents[:16]}, not {found[:16]}",
                    remedy="Put back the store it was measured with, or climb again.",
                )
            self._stores[key] = store
        return self._stores[key]

    def _reranker(self, retriever: Retriever) -> Reranker | None:
        from lastresort.knowledge.reranker import open_reranker

        name, measured = retriever.reranker, retriever.reranker_fingerprint
        if name is None:
            return None
        if name not in self._rerankers:
            self._rerankers[name] = open_reranker(name)
        found = self._rerankers[name].fingerprint
        if measured and found != measured:
            raise DataError(
                "the reranker is not the one that the system was measured with",
                where=name,
                expected=f"fingerprint {measured[:16]}, not {found[:16]}",
                remedy="Put back the one it was measured with, or climb again.",
            )
        return self._rerankers[name]
