"""Labels of passages, as rows have them, and the chunks that they name."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from difflib import get_close_matches

from lastresort.errors import DataError
from lastresort.knowledge.store import Store, rows_where


class Labels:
    """Finds the chunks of a store by the labels of an example.

    A label names a chunk (`handbook.md#returns:2`), a section (`handbook.md#returns`, all its chunks) or a document. The part
    before # is optional if only one document has such a section.
    """

    def __init__(self, store: Store) -> None:
        columns = ["id", "section", "document"]
        rows = rows_where(store, None, columns)
        self._folder = str(store.folder)
        self._full: dict[str, set[str]] = defaultdict(set)
        self._short: dict[str, dict[str, set[str]]] = defaultdict(lambda: defaultdict(set))
        for chunk, section, document in zip(*(rows[column].to_pylist() for column in columns), strict=True):
            for name in {chunk, section, document}:
                self._full[name].add(chunk)
                if name != document:
                    self._short[name.split("#", 1)[1]][document].add(chunk)

    def chunks(self, label: str) -> frozenset[str]:
        """The ids of the chunks of this label. Raises DataError if there are none, or if the label is ambiguous."""
        if label in self._full:
            return frozenset(self._full[label])
        documents = self._short.get(label, {})
        if len(documents) == 1:
            return frozenset(*documents.values())
        if documents:
            raise DataError(
                f'the passage "{label}" in {len(documents)} documents',
                where=self._folder,
                expected="one",
                remedy=f"Name the document too, as in {sorted(documents)[0]}#{label}.",
            )
        near = get_close_matches(label, self._full, n=1, cutoff=0.5)
        raise DataError(
            f'no passage "{label}"',
            where=self._folder,
            expected="a name such as document#section" + (f" ({near[0]})" if near else ""),
            remedy="Correct the name, or leave the passages out.",
        )

    def resolve(self, labels: Sequence[str]) -> list[frozenset[str]]:
        """The chunks of each distinct label."""
        return [self.chunks(label) for label in dict.fromkeys(labels)]
