"""What a log of any tool comes down to: a measure with the scores of its items."""

from __future__ import annotations

import hashlib
import json
import math
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from lastresort.errors import DataError

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
class Logged:
    """A measure of one model. metric: what the scores are, in the tool's own words. source: file or folder that it comes from.

    notes: what a reader has to know of it, as sentences. unscored: ids of items that were asked and have no score.
    """

    name: str
    metric: str
    items: tuple[LoggedItem, ...]
    source: str
    notes: tuple[str, ...] = ()
    unscored: tuple[str, ...] = ()


Found = tuple[list[Logged], list[DataError]]  # the measures of a log, and why others cannot be weighed


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
            f"{len(twice)} items of {name} stand in it more than once ({some(twice)})",
            where=where,
            expected="each item once",
            remedy="Name the log of a single run.",
        )


def some(names: Iterable[str], most: int = 5) -> str:
    """The first few, and how many more there are."""
    known = list(names)
    shown = ", ".join(known[:most])
    return shown if len(known) <= most else f"{shown} and {len(known) - most} more"
