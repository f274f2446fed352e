"""Which rows make up which optimizer step: a function of seed and step alone."""

from __future__ import annotations

import random


def epoch_order(n: int, epoch: int, seed: int) -> list[int]:
    """The order of rows in an epoch: a function of seed and epoch alone, so that a resumed run goes on as if uncut."""
    order = list(range(n))
    random.Random(f"{seed}:{epoch}").shuffle(order)
    return order


def batch_of(step: int, n: int, batch_size: int, seed: int) -> list[int]:
    """Row numbers of optimizer step `step` (0-based): each epoch is cut into ceil(n / batch_size) batches."""
    per_epoch = steps_per_epoch(n, batch_size)
    epoch, place = divmod(step, per_epoch)
    return epoch_order(n, epoch, seed)[place * batch_size : (place + 1) * batch_size]


def steps_per_epoch(n: int, batch_size: int) -> int:
    return -(-n // batch_size)
