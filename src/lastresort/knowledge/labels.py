"""Labels of passages, as rows have them, and the chunks that they name."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Sequence
from difflib import get_close_matches

from lastresort.errors import DataError
from lastresort.knowledge.store import Store, rows_where

_CHUNK_NUMBER = re.compile(r"(?::\d+|#\d+)$")  # in the id of a chunk


class Labels:
    """Finds the chunks of a store by the labels of an example.

    A label names a chunk (`handbook.md#returns:2`), a section (`handbook.md#returns`, all its chunks) or a document. The part
    before # is optional if only one document has such a section.
    """

    def __init__(self, names: Iterable[tuple[str, str, str]], where: str) -> None:
        """names: of chunks, each with those of its section and of its document. where: for errors."""
        self._where = where
        self._full: dict[str, set[str]] = defaultdict(set)
        self._short: dict[str, dict[str, set[str]]] = defaultdict(lambda: defaultdict(set))
        self._section: dict[str, str] = {}
        for chunk, section, document in names:
            self._section[chunk] = section
            for name in {chunk, section, document}:
                self._full[name].add(chunk)
                if name != document:
                    self._short[name.split("#", 1)[1]][document].add(chunk)
        self._sections = frozenset(self._section.values())

    @classmethod
    def of_store(cls, store: Store) -> Labels:
        columns = ["id", "section", "document"]
        rows = rows_where(store, None, columns)
        return cls(zip(*(rows[column].to_pylist() for column in columns), strict=True), str(store.folder))

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
                where=self._where,
                expected="one",
                remedy=f"Name the document too, as in {sorted(documents)[0]}#{label}.",
            )
        near = get_close_matches(label, self._full, n=1, cutoff=0.5)
        raise DataError(
            f'no passage "{label}"',
            where=self._where,
            expected="a name such as document#section" + (f" ({near[0]})" if near else ""),
            remedy="Correct the name, or leave the passages out.",
        )

    def sections(self, label: str) -> frozenset[str]:
        """All sections that the label may mean: in every document that has one of its name, and whole ones where it names a chunk,
        since another store cuts them elsewhere and may have chunks with higher numbers. Empty if there are none.
        """
        chunks = self._full.get(label) or set().union(*self._short.get(label, {}).values())
        if chunks:
            return frozenset(self._section[chunk] for chunk in chunks)
        if label.isdecimal():
            return frozenset(section for section in self._sections if "#" not in section)
        whole = _CHUNK_NUMBER.sub("", label)
        if whole in self._sections:
            return frozenset({whole})
        return self.sections(whole) if whole != label and whole in self._short else frozenset()

    def resolve(self, labels: Sequence[str]) -> list[frozenset[str]]:
        """The chunks of each distinct label."""
        return [self.chunks(label) for label in dict.fromkeys(labels)]
