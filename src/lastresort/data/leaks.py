"""Items of train that also stand in dev or test: found, and removed from train.

What leaves a split before anything is measured on it: repeats, dev items that stand in test, leaks of train.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

from lastresort.data.duplicates import near_pairs, normalised
from lastresort.data.split import Split
from lastresort.errors import DataError
from lastresort.types import Example


@dataclass(frozen=True, slots=True)
class Leak:
    """A training item and the held-out item that it gives away."""

    kind: Literal["exact", "near"]
    train: Example
    side: Literal["dev", "test"]
    held: Example


def find_leaks(train: Sequence[Example], dev: Sequence[Example], test: Sequence[Example]) -> tuple[Leak, ...]:
    """One leak for each training item that is an exact or near duplicate of a held-out one, in the order of train.

    Where several held-out items match, test is named before dev and an exact match before a near one.
    """
    held: list[tuple[Literal["dev", "test"], Example]] = [("test", item) for item in test]
    held += [("dev", item) for item in dev]
    exact: dict[str, int] = {}
    for position, (_, item) in enumerate(held):
        exact.setdefault(normalised(item.input_text), position)
    # Equal texts are compared once, in the name of the first: exact leaks must not stand for their held-out twins.
    texts = [item.input_text for item in train if normalised(item.input_text) not in exact]
    border = len(texts)
    texts += [item.input_text for _, item in held]
    near: dict[str, int] = {}
    for first, second in near_pairs(texts, wanted=lambda first, second: first < border <= second):
        key = normalised(texts[first])
        near[key] = min(near.get(key, len(held)), second - border)
    leaks = []
    for item in train:
        key = normalised(item.input_text)
        if key in exact or key in near:
            kind: Literal["exact", "near"] = "exact" if key in exact else "near"
            side, other = held[exact[key] if kind == "exact" else near[key]]
            leaks.append(Leak(kind, item, side, other))
    return tuple(leaks)


def remove_leaks(split: Split) -> tuple[Split, tuple[Leak, ...]]:
    """The split without the training items that leak, and what was removed."""
    leaks = find_leaks(split.train, split.dev, split.test)
    leaking = {normalised(leak.train.input_text) for leak in leaks}
    kept = tuple(item for item in split.train if normalised(item.input_text) not in leaking)
    return replace(split, train=kept), leaks


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
