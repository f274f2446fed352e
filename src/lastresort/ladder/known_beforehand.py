"""Test items whose text stands in the task's documents: answering them is finding them again, in a search or in what was read."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import groupby

from lastresort.data.duplicates import normalised
from lastresort.knowledge.reading import read_documents
from lastresort.knowledge.store import Store, open_store, rows_where
from lastresort.rungs.preference_data import LEAST_HELD_TEXT
from lastresort.rungs.rung import Workbench
from lastresort.types import Example


def known_beforehand(bench: Workbench, test: Sequence[Example]) -> list[str]:
    """A sentence where the documents that a rung used hold test inputs word for word."""
    if bench.record.last("store") is not None:
        texts = _texts(open_store(bench.folder / "store"))
    elif bench.record.last("pretrained") is not None and bench.task.knowledge is not None:
        texts = (document.text for document in read_documents(bench.task.knowledge).documents)
    else:
        return []
    held = inputs_held(texts, test)
    if not held:
        return []
    stand = "input stands" if held == 1 else "inputs stand"
    return [
        f"{held} of {len(test)} test {stand} word for word in the knowledge: where an answer stands beside, what was measured is "
        "finding it again. That is fair only if the questions of production will stand there too."
    ]


def inputs_held(texts: Iterable[str], examples: Sequence[Example]) -> int:
    """How many inputs stand in one of the texts, whatever their case and space; those too short to tell anything do not count."""
    whole = "\n".join(normalised(text) for text in texts)
    inputs = (normalised(example.input_text) for example in examples)
    return sum(len(text) >= LEAST_HELD_TEXT and text in whole for text in inputs)


def _texts(store: Store) -> Iterator[str]:
    """Of each document, as far as its chunks hold it: an input may stand where one ends and the next begins."""
    columns = ["document", "start", "end", "text"]
    rows = rows_where(store, None, columns)
    pieces = sorted(zip(*(rows[column].to_pylist() for column in columns), strict=True))
    for _, own in groupby(pieces, key=lambda piece: piece[0]):
        whole, position = "", 0
        for _, start, end, text in own:
            gap = " " if start > position else ""
            whole += gap + text[max(0, position - start) :]
            position = max(position, end)
        yield whole
