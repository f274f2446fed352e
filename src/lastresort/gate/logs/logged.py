"""Logs of any tool as measures with the scores of their items, and two logs of one measure paired item by item. Pure."""

from __future__ import annotations

import hashlib
import json
import math
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from statistics import fmean
from typing import Any

from lastresort.errors import DataError
from lastresort.gate.suites.suite import ScorePair
from lastresort.report.words import gate as words

LONGEST = 2000  # characters of a question or an answer that are kept for the report


@dataclass(frozen=True, slots=True)
class LoggedItem:
    """One model's score on an item. id: within its measure. score: in [0, 1], higher is better.

    same: hashes of what base and tuned model must have in common, by name (document, prompt, target, …). asked, answered: for the
    report. stratum: its row in tables. chance: the score of guessing, None if unknown. scored: the share of its epochs with a
    score.
    """

    id: str
    score: float
    same: dict[str, str]
    asked: str = ""
    answered: str = ""
    stratum: str = ""
    chance: float | None = None
    scored: float = 1.0


@dataclass(frozen=True, slots=True)
class LoggedMeasure:
    """A measure of one model. metric: in the tool's own words. source: the file or folder. notes: for the reader, as sentences.
    unscored: ids of items that were asked and have no score. others: metrics and filters that the log also holds.
    """

    name: str
    metric: str
    items: tuple[LoggedItem, ...]
    source: str
    notes: tuple[str, ...] = ()
    unscored: tuple[str, ...] = ()
    others: tuple[str, ...] = ()

    @property
    def said(self) -> tuple[str, ...]:
        """All that a reader should know of it, as sentences."""
        return (*self.notes, words.judged_by(self.name, self.metric, self.others)) if self.others else self.notes


MeasuresAndFaults = tuple[
    list[LoggedMeasure], list[DataError]
]  # of a log; the faults say why other measures cannot be used


def fingerprint(value: Any) -> str:
    """Hash of a JSON value, independent of the order of keys."""
    text = json.dumps(value, sort_keys=True, ensure_ascii=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()


def number_of(value: Any) -> float | None:
    """A score as a finite number; None for anything else."""
    try:
        number = float(value) if isinstance(value, bool | int | float) else math.nan
    except OverflowError:  # an integer that no float holds
        return None
    return number if math.isfinite(number) else None


@contextmanager
def as_written_by(tool: str, where: str) -> Iterator[None]:
    """Raises DataError if a log does not have the structure that the tool writes."""
    try:
        yield
    except (AttributeError, IndexError, KeyError, RecursionError, TypeError) as error:
        raise DataError(
            f"found a part that has another shape than {tool} writes ({type(error).__name__}: {error})",
            where=where,
            expected=f"a log of {tool} as it was written",
            remedy="Make the log again, or name another.",
        ) from error


def refuse_outside(name: str, metric: str, values: Iterable[float | None], where: str) -> None:
    """Raises DataError if a value is not a number in [0, 1]."""
    for value in values:
        if value is None or not 0 <= value <= 1:
            found = "a value that is no number" if value is None else f"the value {value:g}"
            raise DataError(
                f'the metric "{metric}" of {name} has {found}',
                where=where,
                expected="a score of each item from 0 to 1",
                remedy="Only such metrics can be compared with a margin in points; skip this one.",
            )


def refuse_repeated(name: str, ids: Iterable[str], where: str) -> None:
    """Raises DataError if an id occurs twice, since it is unclear which of the two counts."""
    twice = [one for one, times in Counter(ids).items() if times > 1]
    if twice:
        raise DataError(
            f"{len(twice)} items of {name} occur more than once ({first_few(twice)})",
            where=where,
            expected="each item once",
            remedy="Name the log of a single run.",
        )


def first_few(names: Iterable[str], most: int = 5) -> str:
    """The first few, and how many more there are."""
    known = list(names)
    shown = ", ".join(known[:most])
    return shown if len(known) <= most else f"{shown} and {len(known) - most} more"


LEAST_COMMON = 0.5  # share of the smaller log that must be in both: less is another set of items


@dataclass(frozen=True, slots=True)
class PairedMeasure:
    """A measure in both logs. pairs: of the items in both, in the order of the base's log. base, tuned: these items, by id.

    chance: mean score of guessing, None if it is unknown for any item. notes: for the reader, as sentences. asked: items with a
    score of the base that the tuned model was asked, too. unanswered: how many of these have no score of the tuned model; an item
    with several epochs counts by the share of epochs in which only the base has one.
    """

    name: str
    metric: str
    pairs: tuple[ScorePair, ...]
    base: dict[str, LoggedItem]
    tuned: dict[str, LoggedItem]
    chance: float | None
    notes: tuple[str, ...]
    asked: int
    unanswered: float

    @property
    def binary(self) -> bool:
        """Whether all scores are 0 or 1."""
        return all(score in (0.0, 1.0) for pair in self.pairs for score in (pair.base, pair.tuned))


def pair_measures(base: LoggedMeasure, tuned: LoggedMeasure) -> PairedMeasure:
    """Pair items by id. Items in only one log are left out and counted.

    Raises DataError if an item has another document, prompt or target on the other side, if the metrics differ, or if hardly any
    item is in both.
    """
    if base.metric != tuned.metric:
        raise _refused(base, tuned, f"the metrics {base.metric} and {tuned.metric}", "the same metric in both logs")
    before = {item.id: item for item in base.items}
    after = {item.id: item for item in tuned.items}
    both = [name for name in before if name in after]
    fewer = min(len(before), len(after))
    if len(both) < LEAST_COMMON * max(1, fewer):
        found = f"{len(both)} items that are in both logs, of {len(before)} and {len(after)}"
        raise _refused(base, tuned, found, "the same items in both")
    _refuse_other_items(base, tuned, [(before[name], after[name]) for name in both])
    without = before.keys() & set(tuned.unscored)
    chances = [before[name].chance for name in both]
    known = [chance for chance in chances if chance is not None]
    return PairedMeasure(
        base.name,
        base.metric,
        tuple(ScorePair(name, before[name].score, after[name].score, before[name].stratum) for name in both),
        {name: before[name] for name in both},
        {name: after[name] for name in both},
        fmean(known) if len(known) == len(both) else None,
        (*_unpaired(base, tuned, len(both)), *base.said, *(note for note in tuned.said if note not in base.said)),
        len(both) + len(without),
        len(without) + sum(max(0.0, before[name].scored - after[name].scored) for name in both),
    )


def other_parts(base: LoggedItem, tuned: LoggedItem) -> list[str]:
    """What differs between the two sides of an item: document, prompt, target, …"""
    return [part for part, hash_ in base.same.items() if tuned.same.get(part, hash_) != hash_]


def _refuse_other_items(base: LoggedMeasure, tuned: LoggedMeasure, both: list[tuple[LoggedItem, LoggedItem]]) -> None:
    other = {one.id: parts for one, two in both if (parts := other_parts(one, two))}
    if not other:
        return
    what = sorted({part for parts in other.values() for part in parts})
    raise _refused(
        base,
        tuned,
        f"{len(other)} of {len(both)} items with another {' and '.join(what)} on the two sides ({first_few(other)})",
        "the same questions, asked in the same way",
        "Evaluate both with the same version, few-shot examples, chat template and settings.",
    )


def _unpaired(base: LoggedMeasure, tuned: LoggedMeasure, both: int) -> list[str]:
    notes = []
    for one, other in ((base, tuned), (tuned, base)):
        left = len(one.items) - both
        if left:
            notes.append(words.unpaired(base.name, left, one.source, other.source))
    return notes


def _refused(base: LoggedMeasure, tuned: LoggedMeasure, found: str, expected: str, remedy: str = "") -> DataError:
    return DataError(
        f"{base.name}: found {found}",
        where=f"{base.source} and {tuned.source}",
        expected=expected,
        remedy=remedy or "Name two logs of the same task.",
    )
