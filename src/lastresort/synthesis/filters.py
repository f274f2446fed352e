"""What a proposed row must pass, in a fixed order, and how many rows each label may have. A new filter is a function and a line in
the table. Rows that are alike share words in order (ROUGE-L).

Rows of dev and test are compared with and never shown to anybody: a synthetic row that is one of them would be trained on.
"""

from __future__ import annotations

import math
import re
from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from lastresort.data.check import LEAST_ROWS_A_LABEL, MOST_LABELS
from lastresort.data.duplicates import NearIndex, normalised, words_of
from lastresort.synthesis.kinds import RowRequest
from lastresort.types import Example

Balance = Literal["train", "even", "any"]
FilterName = Literal["unreadable", "length", "refusal", "answer", "copy", "near", "alike", "share", "agreement"]
Words = tuple[str, ...]
ALIKE_AT_LEAST, ALIKE_AT_MOST = 0.75, 0.95
ALIKE_SAMPLE = 150  # rows of train
ALIKE_SHARE = 0.95  # of them have no row that is more alike

LONGER, SHORTER = 1.5, 0.5  # than nearly all rows of train
QUANTILE = 0.99
_REFUSAL = re.compile(
    r"\bas an ai\b|\bi(?:'|’)?m sorry, but\b|\bi(?: am|(?:'|’)m) (?:unable|not able) to\b|\bi (?:cannot|can(?:'|’)t|won(?:'|’)t) "
    r"(?:help|assist|comply|fulfil|provide|write|create|generate)\b",
    re.IGNORECASE,
)
_LOOKED_AT = 300  # characters in which a refusal refuses


def alike_limit(rows: Sequence[Words]) -> float:
    """How alike two rows may be, from 0 to 1: as nearly every row of train is to the one most like it, within bounds."""
    nearest = sorted(most_alike(words, [*rows[:place], *rows[place + 1 :]]) for place, words in enumerate(rows))
    usual = nearest[int(ALIKE_SHARE * (len(nearest) - 1))] if nearest else 0.0
    return min(ALIKE_AT_MOST, max(ALIKE_AT_LEAST, usual))


def most_alike(words: Words, others: Sequence[Words]) -> float:
    """The largest share of words that another text has in the same order, from 0 to 1: 2 LCS(a, b) / (|a| + |b|)."""
    from rapidfuzz.distance import Indel

    return max((Indel.normalized_similarity(words, other) for other in others), default=0.0)


class AlikeIndex:
    """Finds whether a text is more alike than a limit t > 0 to one of the texts in it.

    LCS = c > t (|a| + |b|) / 2 and |b| >= c give c > |a| t / (2 - t): fewer than |a| (2 - 2t) / (2 - t) words of a are not in b. So
    b has one of any so many words of a, and only texts with one of the rarest so many are compared.
    """

    def __init__(self, limit: float) -> None:
        self._limit = limit
        self._texts: list[Words] = []
        self._with = defaultdict[str, list[int]](list)

    def add(self, words: Words) -> None:
        for word in set(words) or {""}:
            self._with[word].append(len(self._texts))
        self._texts.append(words)

    def has(self, words: Words, more: Sequence[Words] = ()) -> bool:
        """Whether one of the texts, or of `more`, is more alike than the limit."""
        rarest = sorted(words or ("",), key=lambda word: len(self._with.get(word, ())))
        enough = math.ceil(len(rarest) * (2 - 2 * self._limit) / (2 - self._limit))
        places = {place for word in set(rarest[:enough]) for place in self._with.get(word, ())}
        return most_alike(words, [*more, *(self._texts[place] for place in places)]) > self._limit


@dataclass(frozen=True, slots=True)
class ProposedRow:
    """A row that the teacher proposed. example: its id is not set. usd: its share of the request. agrees: whether the teacher gave
    its answer again without seeing it, None where it was not asked.
    """

    example: Example
    request: RowRequest
    usd: float = 0.0
    agrees: bool | None = None

    @property
    def text(self) -> str:
        """What the teacher wrote: the last turn. Those before it are of the row shown."""
        return self.example.input[-1].content


class SeenRows:
    """What proposed rows are compared with: the task's rows, and the synthetic ones so far. Their last turns are compared, since
    earlier turns are kept, and in a long conversation would make every row near the one that it was made from.

    answer_fault: why an answer is impossible, None for a possible one. wanted: rows of each label, empty without a limit.
    """

    def __init__(
        self,
        train: Sequence[Example],
        held: Sequence[Example],
        answer_fault: Callable[[Example], str | None],
        wanted: Mapping[str, int],
        *,
        free_answers: bool,
    ) -> None:
        self.answer_fault, self.wanted = answer_fault, wanted
        self.labels = Counter[str]()
        texts = [row.input[-1].content for row in (*train, *held)]
        self._exact = {normalised(text) for text in texts}
        self._near = NearIndex(texts)
        self._alike = AlikeIndex(alike_limit([words_of(row.input[-1].content) for row in train[:ALIKE_SAMPLE]]))
        self.input_lengths = _bounds([len(row.input[-1].content) for row in train])
        self.output_lengths = _bounds([len(row.output) for row in train]) if free_answers else None
        self.drops_refusals = free_answers and not any(is_refusal(row.output) for row in train)

    def hold(self, proposed: ProposedRow) -> None:
        """It passed: later ones must differ from it, and its label has one more."""
        self.remember(proposed.text)
        self.labels[proposed.example.output] += 1

    def let_go(self, proposed: ProposedRow) -> None:
        """It failed after all. Its text stays known, since the same input would fail again."""
        self.labels[proposed.example.output] -= 1

    def remember(self, text: str) -> None:
        self._exact.add(normalised(text))
        self._near.add(text)
        self._alike.add(words_of(text))

    def has_copy(self, text: str) -> bool:
        return normalised(text) in self._exact

    def has_near(self, text: str) -> bool:
        return self._near.near(text) is not None

    def has_alike(self, text: str, shown: Sequence[Example]) -> bool:
        """Whether it is more like a synthetic row, or one that its request showed, than rows of train are like each other."""
        return self._alike.has(words_of(text), [words_of(row.input[-1].content) for row in shown])

    def missing(self, label: str) -> int:
        return self.wanted.get(label, 0) - self.labels[label]


def is_refusal(text: str) -> bool:
    return _REFUSAL.search(text[:_LOOKED_AT]) is not None


def _bounds(lengths: Sequence[int]) -> tuple[float, float]:
    ordered = sorted(lengths)
    low, high = ordered[int((1 - QUANTILE) * (len(ordered) - 1))], ordered[round(QUANTILE * (len(ordered) - 1))]
    return SHORTER * low, LONGER * high


def _refused(proposed: ProposedRow, known: SeenRows) -> bool:
    """Inputs may say that something cannot be done, as users do."""
    return known.drops_refusals and proposed.request.answer is None and is_refusal(proposed.example.output)


def _other_length(proposed: ProposedRow, known: SeenRows) -> bool:
    low, high = known.input_lengths
    if not low <= len(proposed.text) <= high:
        return True
    if known.output_lengths is None or proposed.request.answer is not None:
        return False
    low, high = known.output_lengths
    return not low <= len(proposed.example.output) <= high


Drops = Callable[[ProposedRow, SeenRows], bool]

FILTERS: dict[FilterName, Drops] = {  # whether it drops the row; the first that does counts
    "unreadable": lambda proposed, known: False,  # counted where replies are read
    "length": _other_length,
    "refusal": _refused,
    "answer": lambda proposed, known: known.answer_fault(proposed.example) is not None,
    "copy": lambda proposed, known: known.has_copy(proposed.text),
    "near": lambda proposed, known: known.has_near(proposed.text),
    "alike": lambda proposed, known: known.has_alike(proposed.text, proposed.request.shown),
    "share": lambda proposed, known: bool(known.wanted) and known.missing(proposed.example.output) <= 0,
    "agreement": lambda proposed, known: proposed.agrees is False,
}


def dropped_by(proposed: ProposedRow, known: SeenRows) -> FilterName | None:
    return next((name for name, drops in FILTERS.items() if drops(proposed, known)), None)


def labels_of(train: Sequence[Example], choices: tuple[str, ...] | None) -> tuple[str, ...]:
    """What an answer can be: one of the choices, or of the answers of train where few stand for many rows. () for free ones."""
    if choices is not None:
        return choices
    found = dict.fromkeys(row.output for row in train)
    return () if len(found) > MOST_LABELS or LEAST_ROWS_A_LABEL * len(found) > len(train) else tuple(found)


def wanted_rows(train: Sequence[Example], labels: Sequence[str], n: int, balance: Balance) -> dict[str, int]:
    """Of n synthetic rows, how many of each label at most. Empty where any number will do.

    train: in the shares of train. even: so that train and the new rows together have as many of each as n allows.
    """
    if not labels or balance == "any":
        return {}
    counts = Counter(row.output for row in train)
    return _even(counts, labels, n) if balance == "even" else _shares(counts, labels, n)


def _shares(counts: Mapping[str, int], labels: Sequence[str], n: int) -> dict[str, int]:
    """By largest remainder, so that they add up to n."""
    total = sum(counts[label] for label in labels)
    if not total:
        return _even(counts, labels, n)
    whole = {label: n * counts[label] // total for label in labels}
    rest = sorted(labels, key=lambda label: -(n * counts[label] % total))
    return {label: whole[label] + (label in rest[: n - sum(whole.values())]) for label in labels}


def _even(counts: Mapping[str, int], labels: Sequence[str], n: int) -> dict[str, int]:
    """Each next row goes to the label that has the fewest: those below a level are raised to it."""
    ordered = sorted(labels, key=lambda label: counts[label])
    for used in range(len(ordered), 0, -1):
        level, rest = divmod(n + sum(counts[label] for label in ordered[:used]), used)
        if level >= counts[ordered[used - 1]]:
            raised = {label: level - counts[label] + (place < rest) for place, label in enumerate(ordered[:used])}
            return {label: raised.get(label, 0) for label in labels}
    return dict.fromkeys(labels, 0)
