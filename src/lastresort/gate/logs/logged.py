"""What a log of any tool comes down to: a measure with the scores of its items.

Two logs of one measure, item by item: the same questions with the score of the base and of the tuned model. Pure.
"""

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

LONGEST = 2000  # letters of a question or an answer that are kept, to be shown


@dataclass(frozen=True, slots=True)
class LoggedItem:
    """An item as one model was scored on it. id: within its measure. score: in [0, 1], higher is better.

    same: by name (document, prompt, target, …) the hash of what base and tuned model must have in common. asked, answered: to be
    shown. stratum: what it is counted under in tables. chance: the score of guessing, None where that is not known. scored: the
    share of its epochs that have a score.
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
    """A measure of one model. metric: what the scores are, in the tool's own words. source: file or folder that it comes from.

    notes: what a reader has to know of it, as sentences. unscored: ids of items that were asked and have no score.
    """

    name: str
    metric: str
    items: tuple[LoggedItem, ...]
    source: str
    notes: tuple[str, ...] = ()
    unscored: tuple[str, ...] = ()


MeasuresAndFaults = tuple[
    list[LoggedMeasure], list[DataError]
]  # the measures of a log, and why others cannot be weighed


def fingerprint(value: Any) -> str:
    """Hash of anything that is JSON, whatever the order of its keys."""
    text = json.dumps(value, sort_keys=True, ensure_ascii=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()


def number_of(value: Any) -> float | None:
    """A score as a number; None where it is none, or is no finite one."""
    try:
        number = float(value) if isinstance(value, bool | int | float) else math.nan
    except OverflowError:  # an integer that no float holds
        return None
    return number if math.isfinite(number) else None


@contextmanager
def as_written_by(tool: str, where: str) -> Iterator[None]:
    """Raises DataError where a part of a log has another shape than the tool gives it."""
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
    """Raises DataError where a value is no number in [0, 1]."""
    for value in values:
        if value is None or not 0 <= value <= 1:
            found = "a value that is no number" if value is None else f"the value {value:g}"
            raise DataError(
                f'the metric "{metric}" of {name} has {found}',
                where=where,
                expected="a score of each item from 0 to 1",
                remedy="Only such metrics can be weighed against a margin in points; leave this one out.",
            )


def refuse_repeated(name: str, ids: Iterable[str], where: str) -> None:
    """Raises DataError where an id comes twice, since nobody could say which of the two counts."""
    twice = [one for one, times in Counter(ids).items() if times > 1]
    if twice:
        raise DataError(
            f"{len(twice)} items of {name} stand in it more than once ({first_few(twice)})",
            where=where,
            expected="each item once",
            remedy="Name the log of a single run.",
        )


def first_few(names: Iterable[str], most: int = 5) -> str:
    """The first few, and how many more there are."""
    known = list(names)
    shown = ", ".join(known[:most])
    return shown if len(known) <= most else f"{shown} and {len(known) - most} more"


FEWEST_OF_FEWER = (
    0.5  # share of the smaller log that must be in both: less is another set of items, not a few that are missing
)


@dataclass(frozen=True, slots=True)
class PairedMeasure:
    """pairs: of the items that both logs hold, in the order of the base's. base, tuned: these items, by id.

    chance: mean score of guessing, None where it is not known of each. notes: what a reader has to know, as sentences. asked: items
    with a score of the base that the tuned model was asked. unanswered: how many of these have none of the tuned model; of an item
    asked in several epochs, the share of them in which only the base has one.
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
    """Pair by id. An item that one of the two lacks is counted and left out.

    Raises DataError where an item was another one on the other side: another document, prompt or target; where the scores are of
    two metrics; and where hardly an item is in both.
    """
    if base.metric != tuned.metric:
        raise _refused(base, tuned, f"the metric {tuned.metric} beside {base.metric}", "the same metric in both logs")
    before = {item.id: item for item in base.items}
    after = {item.id: item for item in tuned.items}
    both = [name for name in before if name in after]
    fewer = min(len(before), len(after))
    if len(both) < FEWEST_OF_FEWER * max(1, fewer):
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
        (*_unpaired(base, tuned, len(both)), *base.notes, *(note for note in tuned.notes if note not in base.notes)),
        len(both) + len(without),
        len(without) + sum(max(0.0, before[name].scored - after[name].scored) for name in both),
    )


def other_parts(base: LoggedItem, tuned: LoggedItem) -> list[str]:
    """What was not the same of an item: document, prompt, target, …"""
    return [part for part, told in base.same.items() if part in tuned.same and tuned.same[part] != told]


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
    told = []
    for one, other in ((base, tuned), (tuned, base)):
        left = len(one.items) - both
        if left:
            told.append(f"{base.name}: {left} items of {one.source} are not in {other.source} and were left out.")
    return told


def _refused(base: LoggedMeasure, tuned: LoggedMeasure, found: str, expected: str, remedy: str = "") -> DataError:
    return DataError(
        f"{base.name}: found {found}",
        where=f"{base.source} and {tuned.source}",
        expected=expected,
        remedy=remedy or "Name two logs of the same task.",
    )
