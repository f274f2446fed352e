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
            described = "a value that is no number" if value is None else f"the value {value:g}"
            raise DataError(
                f'the metric "{metric}" of {name} has {described}',
                where=where,
                expected="a score of each item from 0 to 1",
                remedy="Only such metrics can be compared with a margin in points; skip this one.",
            )


def refuse_repeated(name: str, ids: Iterable[str], where: str) -> None:
    """Raises DataError if an id occurs twice, since it is unclear which of the two counts."""
    twice = [name for name, times in Counter(ids).items() if times > 1]
    if twice:
        raise DataError(
            f"{len(twice)} items of {name} occur more than once ({first_few(twice)})",
            where=where,
            expected="each item once",
            remedy="Name the log of a single run.",
        )


def first_few(names: Iterable[str]) -> str:
    """The first five, and how many more there are."""
    all_names = list(names)
    shown = ", ".join(all_names[:5])
    return shown if len(all_names) <= 5 else f"{shown} and {len(all_names) - 5} more"


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
    base_items = {item.id: item for item in base.items}
    tuned_items = {item.id: item for item in tuned.items}
    common = [name for name in base_items if name in tuned_items]
    smaller = min(len(base_items), len(tuned_items))
    if len(common) < LEAST_COMMON * max(1, smaller):
        shared_items = f"{len(common)} items that are in both logs, of {len(base_items)} and {len(tuned_items)}"
        raise _refused(base, tuned, shared_items, "the same items in both")
    _refuse_other_items(base, tuned, [(base_items[name], tuned_items[name]) for name in common])
    unscored = base_items.keys() & set(tuned.unscored)
    chances = [base_items[name].chance for name in common]
    known_chances = [chance for chance in chances if chance is not None]
    return PairedMeasure(
        base.name,
        base.metric,
        tuple(
            ScorePair(name, base_items[name].score, tuned_items[name].score, base_items[name].stratum)
            for name in common
        ),
        {name: base_items[name] for name in common},
        {name: tuned_items[name] for name in common},
        fmean(known_chances) if len(known_chances) == len(common) else None,
        (*_unpaired(base, tuned, len(common)), *base.said, *(note for note in tuned.said if note not in base.said)),
        len(common) + len(unscored),
        len(unscored) + sum(max(0.0, base_items[name].scored - tuned_items[name].scored) for name in common),
    )


def other_parts(base: LoggedItem, tuned: LoggedItem) -> list[str]:
    """What differs between the two sides of an item: document, prompt, target, …"""
    return [part for part, hash_ in base.same.items() if tuned.same.get(part, hash_) != hash_]


def _refuse_other_items(base: LoggedMeasure, tuned: LoggedMeasure, pairs: list[tuple[LoggedItem, LoggedItem]]) -> None:
    differing = {one.id: parts for one, two in pairs if (parts := other_parts(one, two))}
    if not differing:
        return
    part_names = sorted({part for parts in differing.values() for part in parts})
    raise _refused(
        base,
        tuned,
        f"{len(differing)} of {len(pairs)} items with another {' and '.join(part_names)} on the two sides ({first_few(differing)})",
        "the same questions, asked in the same way",
        "Evaluate both with the same version, few-shot examples, chat template and settings.",
    )


def _unpaired(base: LoggedMeasure, tuned: LoggedMeasure, n_common: int) -> list[str]:
    notes = []
    for log, other_log in ((base, tuned), (tuned, base)):
        n_left = len(log.items) - n_common
        if n_left:
            notes.append(words.unpaired(base.name, n_left, log.source, other_log.source))
    return notes


def _refused(base: LoggedMeasure, tuned: LoggedMeasure, found: str, expected: str, remedy: str = "") -> DataError:
    return DataError(
        f"{base.name}: found {found}",
        where=f"{base.source} and {tuned.source}",
        expected=expected,
        remedy=remedy or "Name two logs of the same task.",
    )
