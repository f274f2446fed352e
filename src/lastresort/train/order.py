"""Which rows make up which optimizer step: a function of seed and step alone."""

from __future__ import annotations

import random
from functools import lru_cache


def epoch_order(n: int, epoch: int, seed: int) -> list[int]:
    """The order of rows in an epoch: a function of seed and epoch alone, so that a resumed run goes on as if uncut."""
    return list(_shuffled(n, epoch, seed))


def batch_of(step: int, n: int, batch_size: int, seed: int) -> list[int]:
    """Row numbers of optimizer step `step` (0-based): each epoch is cut into ceil(n / batch_size) batches."""
    per_epoch = steps_per_epoch(n, batch_size)
    epoch, place = divmod(step, per_epoch)
    return list(_shuffled(n, epoch, seed)[place * batch_size : (place + 1) * batch_size])


def steps_per_epoch(n: int, batch_size: int) -> int:
    return -(-n // batch_size)


@lru_cache(maxsize=1)
def _shuffled(n: int, epoch: int, seed: int) -> tuple[int, ...]:
    # Kept for the steps of its epoch: of 100,000 rows a shuffle takes as long as a small step.
    order = list(range(n))
    random.Random(f"{seed}:{epoch}").shuffle(order)
    return tuple(order)
