"""What is counted: an item, or where items belong together, a group by its mean."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from lastresort.errors import ContractError

Array = npt.NDArray[np.float64]


def as_scores(scores: Sequence[float], *, binary: bool, low: float = 0.0) -> Array:
    """The scores as float64, shape (n,). Raises ContractError if one is not in [low, 1], or not 0 or 1 where binary."""
    values = np.asarray(scores, dtype=np.float64)
    if values.ndim != 1:
        raise ContractError(f"scores of {values.ndim} dimensions", expected="one score an item")
    outside = ~((values >= low) & (values <= 1.0))
    if outside.any():
        raise ContractError(f"score {values[outside][0]!r}", expected=f"scores from {low:g} to 1")
    if binary and not ((values == 0.0) | (values == 1.0)).all():
        raise ContractError("a score strictly between 0 and 1 in a 0/1 measurement", expected="0 or 1")
    return values


def group_means(scores: Array, groups: Sequence[str]) -> Array:
    """Mean score of each group, in the order in which groups first appear, shape (groups,).

    Raises ContractError if there are not as many labels as scores.
    """
    if len(groups) != len(scores):
        raise ContractError(f"{len(groups)} group labels for {len(scores)} scores", expected="one label a score")
    number: dict[str, int] = {}
    codes = np.fromiter((number.setdefault(g, len(number)) for g in groups), dtype=np.intp, count=len(groups))
    sums = np.bincount(codes, weights=scores, minlength=len(number))
    return np.asarray(sums / np.bincount(codes, minlength=len(number)), dtype=np.float64)


def check_contiguous(groups: Sequence[str]) -> None:
    """Raises ContractError if a group's items do not stand together: its mean would be used before it is complete."""
    finished: set[str] = set()
    previous: str | None = None
    for group in groups:
        if group == previous:
            continue
        if group in finished:
            raise ContractError(
                f"group {group!r} comes back after another group", expected="each group's items together"
            )
        if previous is not None:
            finished.add(previous)
        previous = group
