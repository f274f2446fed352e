"""Items of train that also stand in dev or test: found, and removed from train."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

from lastresort.data.duplicates import near_pairs, normalised
from lastresort.data.split import Split
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
