"""Which columns of a file are the input, the output and the group, by their names and values. Pure.

What the rows leave open is not guessed: see `OpenColumns`.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Literal

from lastresort.data.check import are_codes
from lastresort.data.formats import COMMON_COLUMNS, SHAPES
from lastresort.data.formats.rows import RawRow

MOSTLY_FILLED = 0.8  # reading the file reports each row that lacks it
INPUTS = (
    "input", "text", "question", "query", "prompt", "sentence", "message", "utterance", "request", "instruction", "body",
    "content", "comment", "review", "ticket", "email", "description", "document", "article", "title", "feedback", "complaint",
    "transcript", "post", "said", "says", "wrote",
)  # fmt: skip
OUTPUTS = (
    "output", "label", "answer", "target", "intent", "category", "class", "completion", "response", "expected", "sentiment",
    "topic", "tag", "summary", "reply", "translation", "team", "queue", "priority",
)  # fmt: skip
PLAIN_OUTPUTS = ("output", "label", "answer", "target")  # a column of this very name is meant, whatever else there is
METADATA = frozenset(
    "id uuid guid number no nr index created updated modified opened closed resolved date time timestamp day month year channel "
    "source labelled labeled annotated annotator author by status url link version".split()
)
SHOWN_VALUES = 3
DATE = re.compile(r"\d{1,4}([-/.])\d{1,2}\1\d{1,4}([T ]+\d{1,2}:\d{2}.*)?")
MOSTLY = 0.9  # of the values of a column that names its rows or dates them
GROUPS = (
    "group",
    "customer",
    "user",
    "account",
    "author",
    "session",
    "conversation",
    "thread",
    "patient",
    "company",
    "document",
)

Side = Literal["input", "output"]


@dataclass(frozen=True, slots=True)
class ColumnFacts:
    """A column of the file. filled: rows that have a value. distinct: different values. words: median of its values as text.
    samples: a few of the values, the most frequent first. codes: whether they are codes or numbers, without words. of_row: whether
    they name or date the rows. place: among the columns of the file.
    """

    name: str
    filled: int
    distinct: int
    words: float
    samples: tuple[str, ...]
    codes: bool = False
    of_row: bool = False
    place: int = 0

    @property
    def is_constant(self) -> bool:
        return self.distinct == 1 < self.filled


@dataclass(frozen=True, slots=True)
class OpenColumns:
    """Which column is the input or the output is open. side: that one. candidates: the best first. likely: how many of them are as
    plausible as the first. other: the column of the other side, None where that is open as well.
    """

    side: Side
    candidates: tuple[ColumnFacts, ...]
    likely: int
    other: str | None = None


def known_shape(rows: Sequence[RawRow]) -> str | None:
    """The name of the shape that these rows have by their keys alone; None where columns have to be named."""
    keys = frozenset(rows[0].values)
    return next((shape.name for shape in SHAPES.values() if shape.fits(keys)), None)


def facts_of(rows: Sequence[RawRow]) -> tuple[ColumnFacts, ...]:
    """Of every column that is not ours already and not empty, in the file's order."""
    names = dict.fromkeys(name for row in rows for name in row.values if name not in COMMON_COLUMNS)
    found = []
    for place, name in enumerate(names):
        texts = [str(value) for row in rows if (value := row.values.get(name)) not in (None, "", [], {})]
        if texts:
            words = median(len(text.split()) for text in texts)
            counted = Counter(texts)
            samples = tuple(text for text, _ in counted.most_common(SHOWN_VALUES))
            codes = are_codes(texts)
            of_row = _are_dates(texts) or (codes and len(counted) >= MOSTLY * len(texts) and _are_names(texts))
            found.append(ColumnFacts(name, len(texts), len(counted), words, samples, codes, of_row, place))
    return tuple(found)


def _are_dates(texts: Sequence[str]) -> bool:
    return sum(DATE.fullmatch(text.strip()) is not None for text in texts) >= MOSTLY * len(texts)


def _are_names(codes: Sequence[str]) -> bool:
    """Whether different codes are names rather than amounts: they have letters or signs in them, or count the rows."""
    whole = [int(text) for text in codes if text.strip().isdecimal()]
    if len(whole) < MOSTLY * len(codes):
        return any(letter.isalpha() or letter in "#/_" for text in codes for letter in text)
    return max(whole) - min(whole) < 2 * len(codes)


def choose_columns(
    facts: Sequence[ColumnFacts], rows: int, *, given_input: str | None = None, given_output: str | None = None
) -> tuple[str, str] | OpenColumns:
    """Input and output, by their names or because only one column is left; `OpenColumns` where more than one would do.

    given_input, given_output: as the user named them.
    """
    source = given_input or _input_by_name(facts, given_output)
    target = given_output or _output_by_name(facts, source) or _same_in_all_rows(facts, source)
    left = [one for one in facts if one.name not in (source, target) and one.filled >= MOSTLY_FILLED * rows]
    if source is None and target is not None:
        source = _sole(_proposed(left, _input_rank))
    elif target is None and source is not None:
        target = _sole(_proposed(left, _output_rank))
    if source is None:
        columns = _proposed(_without(facts, target), _input_rank)
        return _open("input", columns, lambda one: (_input_rank(one), -one.words), lambda _: (), target)
    if target is None:
        columns = _proposed(_without(facts, source), _output_rank)
        return _open("output", columns, lambda one: (_output_rank(one),), lambda one: (one.distinct, one.words), source)
    return source, target


def _proposed(columns: Sequence[ColumnFacts], rank: Callable[[ColumnFacts], int]) -> Sequence[ColumnFacts]:
    """Without those that name or date the rows or are the same in all, unless their own names say that they are meant; all of them
    where nothing likely would be left.
    """
    kept = [one for one in columns if rank(one) < UNNAMED or not (one.of_row or one.is_constant)]
    return kept if any(rank(one) < UNLIKELY for one in kept) else columns


Rank = Callable[[ColumnFacts], tuple[float, ...]]


def _open(side: Side, columns: Sequence[ColumnFacts], rank: Rank, order: Rank, other: str | None) -> OpenColumns:
    """rank: how plausible a column is, the lowest first. order: among equally plausible ones. other: see `OpenColumns`."""
    best_first = sorted(columns, key=lambda one: (rank(one), order(one)))
    likely = sum(rank(one) == rank(best_first[0]) for one in best_first)
    return OpenColumns(side, tuple(best_first), likely, other)


def _input_by_name(facts: Sequence[ColumnFacts], taken: str | None) -> str | None:
    """The column whose name is first in the list of them, or the only one with such a word in its name."""
    left = _without(facts, taken)
    by_lower = {one.name.lower(): one.name for one in left if not (one.codes or one.of_row or one.is_constant)}
    exact = next((by_lower[name] for name in INPUTS if name in by_lower), None)
    return exact or _sole([one for one in left if _input_rank(one) == 0])


def _output_by_name(facts: Sequence[ColumnFacts], taken: str | None) -> str | None:
    """The only column that is named as plainly as any for an output."""
    left = [one for one in _without(facts, taken) if _output_rank(one) < UNNAMED]
    best = min(map(_output_rank, left), default=UNNAMED)
    return _sole([one for one in left if _output_rank(one) == best])


def _same_in_all_rows(facts: Sequence[ColumnFacts], source: str | None) -> str | None:
    """The only column that could be the output, where its values are at fault: each of the others names or numbers the rows."""
    if source is None:
        return None
    left = [one for one in _without(facts, source) if not (_words(one.name) & METADATA or _numbers_rows(one))]
    return left[0].name if len(left) == 1 and left[0].distinct == 1 else None


def _numbers_rows(one: ColumnFacts) -> bool:
    return one.codes and one.distinct == one.filled


def _sole(columns: Sequence[ColumnFacts]) -> str | None:
    return columns[0].name if len(columns) == 1 else None


UNNAMED, UNLIKELY = 3, 4  # no word of the name says what the column is; one says that it is something else


def _output_rank(one: ColumnFacts) -> int:
    words = _words(one.name)
    if one.name.lower() == "output":
        return 0
    if one.name.lower() in PLAIN_OUTPUTS:
        return 1
    if words & METADATA or one.distinct == 1:
        return UNLIKELY
    return 2 if words.intersection(OUTPUTS) else UNNAMED


def _input_rank(one: ColumnFacts) -> int:
    words = _words(one.name)
    if words & METADATA or words.intersection(OUTPUTS) or one.codes or one.of_row or one.is_constant:
        return UNLIKELY
    return 0 if words.intersection(INPUTS) else UNNAMED


def _words(name: str) -> frozenset[str]:
    """The words of a column's name, and those in the plural without their s: "Team labels", team_label and teamLabel alike."""
    found = re.split(r"[\W_]+", re.sub(r"(?<=[a-z0-9])(?=[A-Z])", " ", name).lower())
    return frozenset(found) | {word.removesuffix("s") for word in found}


def _without(facts: Sequence[ColumnFacts], name: str | None) -> list[ColumnFacts]:
    return [one for one in facts if one.name != name]


def group_column(facts: Sequence[ColumnFacts], rows: int, taken: Sequence[str | None]) -> ColumnFacts | None:
    """A column that names whose row it is and repeats: rows of one owner must not be divided over train and test."""
    for one in facts:
        stem = one.name.lower().removesuffix("id").strip("_ ")
        if stem in GROUPS and one.name not in taken and one.filled == rows and 10 <= one.distinct <= 0.9 * rows:
            return one
    return None
