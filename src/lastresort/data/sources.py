"""Rows that share a source although nobody named a group: one document, one conversation, one customer.

Such rows are no independent evidence, and one in train may give away another in test. What they share is a column (ids that repeat,
or long texts that do) or a passage of their inputs. A column that is a kind of row, such as a label, a language or a template, is
no source: it has few values, or one of them in many rows. Nothing is folded by itself, since a shared value may mean nothing; equal
inputs are another matter, they stay on one side and count once (data/split.py).

The thresholds were set by hand on the sets of tests/real/test_data_shared.py, of which none without groups is flagged.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any

from lastresort.data.duplicates import normalised
from lastresort.types import Example

OWNERS = frozenset(
    "group customer user account author session conversation thread patient company document doc passage context article dialog "
    "dialogue chat page story paragraph parent url file question prompt problem".split()
)
LEAST_SOURCES = 10
LEAST_SHARE = 0.1  # of the rows that share one with another row
FEW = 0.05  # a column with fewer values than this share of its rows sorts rows into kinds
LARGEST = 0.2  # share of the rows that one value may have; more is a template or a default
PASSAGE = 200  # characters of a text that does not repeat by chance

Columns = Mapping[str, Mapping[str, Any]]
"""Of each example's row, by the example's id."""


@dataclass(frozen=True, slots=True)
class SharedSources:
    """column: None where it is a passage of the inputs. members: for each source the examples that share it, at least two."""

    column: str | None
    members: tuple[tuple[Example, ...], ...]

    @property
    def rows(self) -> int:
        return sum(map(len, self.members))

    def among(self, side: Sequence[Example]) -> int:
        """How many of these examples share their source with another."""
        ids = {example.id for member in self.members for example in member}
        return sum(example.id in ids for example in side)


def find_sources(examples: Sequence[Example], columns: Columns) -> SharedSources | None:
    """What most rows share; None where a row has a group, or where nothing looks like a source."""
    if any(example.group is not None for example in examples):
        return None
    names = dict.fromkeys(name for example in examples for name in columns.get(example.id, ()))
    found = [_by_column(name, examples, columns) for name in names]
    shared = [one for one in (*found, _by_passage(examples)) if one is not None]
    return max(shared, key=lambda one: (one.rows, one.column is not None), default=None)


def _by_column(name: str, examples: Sequence[Example], columns: Columns) -> SharedSources | None:
    values = [_text(columns.get(example.id, {}).get(name)) for example in examples]
    if None in values or not _names_a_source(name, [value for value in values if value is not None]):
        return None
    same = sum(value == normalised(example.input_text) for value, example in zip(values, examples, strict=True))
    if 2 * same > len(examples) or _tells_the_output(values, examples):
        return None
    return _shared(name, values, examples)


def _text(value: Any) -> str | None:
    if isinstance(value, bool) or not isinstance(value, str | int) or value == "":
        return None
    return normalised(str(value))


def _names_a_source(name: str, values: Sequence[str]) -> bool:
    words = re.split(r"[\W_]+", re.sub(r"(?<=[a-z0-9])(?=[A-Z])", " ", name).lower().strip("_ "))
    distinct, rows = len(set(values)), len(values)
    if words[-1] in {"id", "ids", "uuid", "guid", "hash", "key"}:
        return distinct >= FEW * rows and bool(set(words) & OWNERS or distinct >= LEAST_SHARE * rows)
    if words[-1] in OWNERS and len(words) <= 2:
        return distinct >= FEW * rows
    return median(map(len, values)) >= PASSAGE and distinct >= FEW * rows


def _tells_the_output(values: Sequence[str | None], examples: Sequence[Example]) -> bool:
    """Whether the column is the answer in other words, such as the number of a label."""
    pairs = {(value, example.output) for value, example in zip(values, examples, strict=True)}
    return len(pairs) == len({output for _, output in pairs}) < len(examples)


def _by_passage(examples: Sequence[Example]) -> SharedSources | None:
    """Rows whose inputs share a long line, beginning or end that most rows do not have."""
    written = ["\n".join(turn.content for turn in example.input if turn.role != "system") for example in examples]
    texts = [normalised(text) for text in written]
    pieces = [_passages(*both) for both in zip(written, texts, strict=True)]
    counts = Counter(piece for found in pieces for piece in found)
    most = max(2, LARGEST * len(examples))
    parent: dict[str, str] = {}

    def root(key: str) -> str:
        while parent.setdefault(key, key) != key:
            parent[key] = parent[parent[key]]
            key = parent[key]
        return key

    for text, found in zip(texts, pieces, strict=True):
        for piece in found:
            if 2 <= counts[piece] <= most:
                parent[root(piece)] = root(text)
    return _shared(None, [root(text) for text in texts], examples)


def _passages(written: str, text: str) -> frozenset[str]:
    if len(text) < PASSAGE:
        return frozenset()
    lines = (normalised(line) for line in written.splitlines())
    return frozenset((*(line for line in lines if len(line) >= PASSAGE), text[:PASSAGE], text[-PASSAGE:]))


def _shared(column: str | None, values: Iterable[str | None], examples: Sequence[Example]) -> SharedSources | None:
    """None where too few rows share one, or one has too many. Rows of equal inputs alone share nothing more."""
    members: dict[str | None, list[Example]] = {}
    for value, example in zip(values, examples, strict=True):
        members.setdefault(value, []).append(example)
    if max(map(len, members.values()), default=0) > LARGEST * len(examples):
        return None
    shared = [
        tuple(found) for found in members.values() if len({normalised(example.input_text) for example in found}) > 1
    ]
    if len(shared) < LEAST_SOURCES or sum(map(len, shared)) < LEAST_SHARE * len(examples):
        return None
    return SharedSources(column, tuple(shared))
