"""How many rows of each label are wanted."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Literal

from lastresort.data.check import LEAST_ROWS_A_LABEL, MOST_LABELS
from lastresort.types import Example

Balance = Literal["train", "even", "any"]


def labels_of(train: Sequence[Example], choices: tuple[str, ...] | None) -> tuple[str, ...]:
    """What an answer can be: one of the choices, or of the answers of train where few stand for many rows. () for free ones."""
    found = dict.fromkeys(row.output for row in train)
    if choices is not None:
        return choices
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
