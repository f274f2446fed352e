"""What leaves a split before anything is measured on it: repeats, dev items that stand in test, leaks of train."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from lastresort.data.duplicates import normalised
from lastresort.data.leaks import Leak, find_leaks, remove_leaks
from lastresort.data.split import Split
from lastresort.errors import DataError
from lastresort.types import Example

LEAST_DEV = 20  # with fewer items the choice among candidates is a lottery


@dataclass(frozen=True, slots=True)
class Cleaned:
    """A split in which no item stands twice where it counts. leaks: what left train. notes: all that left, in sentences."""

    split: Split
    leaks: tuple[Leak, ...]
    notes: tuple[str, ...]


def clean(split: Split) -> Cleaned:
    """Every input once in dev and once in test, no dev item in test, no training item in either.

    Equal inputs of dev or test would count as independent evidence, which they are not: the first row of each is kept.
    A dev item that stands in test, exactly or nearly, leaves dev; a training item that stands in either leaves train.
    Test is never shortened for their sake. Raises DataError where so few dev items are left that nothing can be chosen by them.
    """
    dev, test = first_of_each(split.dev), first_of_each(split.test)
    repeats = {"dev": len(split.dev) - len(dev), "test": len(split.test) - len(test)}
    in_test = {id(leak.train) for leak in find_leaks(dev, (), test)}
    kept = tuple(item for item in dev if id(item) not in in_test)
    _need_dev(split.dev, kept)
    cleaned, leaks = remove_leaks(Split(split.train, kept, test))
    return Cleaned(cleaned, leaks, tuple(_notes(len(leaks), len(in_test), repeats)))


def first_of_each(side: Sequence[Example]) -> tuple[Example, ...]:
    """Of inputs that are equal when normalised only the first in the file; the order of the side stays as it is."""
    first: dict[str, int] = {}
    for position in sorted(range(len(side)), key=lambda position: side[position].row):
        first.setdefault(normalised(side[position].input_text), position)
    return tuple(side[position] for position in sorted(first.values()))


def _need_dev(given: Sequence[Example], kept: Sequence[Example]) -> None:
    if len(kept) < len(given) and len(kept) < LEAST_DEV:
        raise DataError(
            f"found {len(given)} dev items, of which {len(kept)} are left without repeated inputs and without those "
            "that also stand in test",
            where=given[0].source,
            expected=f"at least {LEAST_DEV}",
            remedy="Add dev examples that stand nowhere else, or make split.dev larger.",
        )


def _notes(leaks: int, dev_in_test: int, repeats: dict[str, int]) -> list[str]:
    notes = []
    if leaks:
        notes.append(f"{_also(leaks, 'training row')} in dev or test and {_was(leaks)} left out of training.")
    if dev_in_test:
        notes.append(f"{_also(dev_in_test, 'dev item')} in test and {_was(dev_in_test)} left out of dev.")
    for side, n in repeats.items():
        if n:
            rows = f"{n} {side} item{'' if n == 1 else 's'}"
            notes.append(f"{rows} repeated an input of {side} and {_was(n)} left out: each input counts once.")
    return notes


def _also(n: int, what: str) -> str:
    return f"{n} {what}{'' if n == 1 else 's'} also stood"


def _was(n: int) -> str:
    return "was" if n == 1 else "were"
