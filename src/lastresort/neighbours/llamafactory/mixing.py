"""How many rows of each data set, and in what proportion: num_samples, max_samples, mix_strategy."""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import TypeVar

from lastresort.neighbours.given import Given

Row = TypeVar("Row")
_STRATEGIES = ("concat", "interleave_under", "interleave_over", "interleave_once")


def sampled(rows: Sequence[Row], count: int | None, seed: int) -> list[Row]:
    """`count` rows at random, each once before any comes again; all of them, in order, for None."""
    if count is None:
        return list(rows)
    draws = random.Random(seed)
    order = draws.sample(range(len(rows)), len(rows))[:count]
    order += draws.choices(range(len(rows)), k=max(0, count - len(rows)))
    return [rows[number] for number in order]


def mixed(given: Given, data_sets: Sequence[Sequence[Row]], seed: int) -> list[list[Row]]:
    """The rows of each data set as the strategy takes them; their order does not matter, since rows are shuffled.

    concat and interleave_once: every row once. interleave_under: as many of each as the smallest has. interleave_over: as
    many as the largest has, from the beginning again. With interleave_probs data sets are drawn until one is exhausted,
    or all are.
    """
    strategy = given.choice("mix_strategy", _STRATEGIES, "concat")
    shares = _probabilities(given, strategy, len(data_sets))
    lengths = [len(rows) for rows in data_sets]
    if strategy in ("concat", "interleave_once") or len(data_sets) == 1:
        return [list(rows) for rows in data_sets]
    if shares is None:
        counts = [min(lengths) if strategy == "interleave_under" else max(lengths)] * len(lengths)
    else:
        given.remark(
            "interleave_probs", "differs", "Data sets are drawn with these chances, from another random stream."
        )
        counts = _drawn(lengths, shares, strategy == "interleave_over", seed)
    return [
        [rows[number % len(rows)] for number in range(count)] for rows, count in zip(data_sets, counts, strict=True)
    ]


def _probabilities(given: Given, strategy: str, count: int) -> list[float] | None:
    value = given.any("interleave_probs")
    if value is None:
        return None
    parts = value.split(",") if isinstance(value, str) else value
    try:
        shares = [float(part) for part in parts]
    except (TypeError, ValueError):
        shares = []
    if strategy == "concat" or len(shares) != count or any(share <= 0 for share in shares):
        given.refuse(
            "interleave_probs",
            f'"{value}" beside mix_strategy: {strategy}',
            expected=f"{count} chances above 0, one for each data set, with an interleaving strategy",
            remedy="Correct it, or remove it.",
        )
    return shares


def _drawn(lengths: Sequence[int], shares: Sequence[float], until_all: bool, seed: int) -> list[int]:
    draws, counts = random.Random(seed), [0] * len(lengths)
    enough = all if until_all else any
    while not enough(count >= length for count, length in zip(counts, lengths, strict=True)):
        counts[draws.choices(range(len(lengths)), weights=shares)[0]] += 1
    return counts
