"""The race of learning rates: all are trained a little, the better half further, one to the end."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from lastresort.errors import DataError

RACE_ENDS = (1 / 6, 1 / 3)  # shares of the whole training after which the worse half of the learning rates stops


@dataclass(frozen=True, slots=True)
class Lap:
    """One learning rate at a step, with its loss on dev in nats per target token, infinite if it diverged."""

    rate: float
    step: int
    dev_loss: float


def race(
    rates: Sequence[float], steps: int, train: Callable[[Sequence[float], int], list[Lap]], *, where: str
) -> float:
    """The learning rate that is trained to the end, by loss on dev.

    steps: of the whole training. train: trains each of these rates up to a step. where: the key of the task file that names the
    rates. Raises DataError if all diverge.
    """
    alive = list(rates)
    for share in RACE_ENDS:
        if len(alive) == 1:
            break
        laps = train(alive, max(1, round(share * steps)))
        laps.sort(key=lambda one: one.dev_loss if math.isfinite(one.dev_loss) else math.inf)
        if not math.isfinite(laps[0].dev_loss):
            raise DataError(
                f"training diverged at every learning rate ({', '.join(f'{rate:g}' for rate in alive)})",
                where=where,
                expected="a finite loss",
                remedy="Add a lower one and start a new run.",
            )
        keep = 1 if share == RACE_ENDS[-1] else max(1, math.ceil(len(alive) / 2))
        alive = [lap.rate for lap in laps[:keep]]
    return alive[0]


def raced_beyond(rates: int) -> float:
    """Training beyond one full run that a race of so many rates costs, as a share of a full run."""
    if rates == 1:
        return 0.0
    n_left = math.ceil(rates / 2)
    return RACE_ENDS[0] * (rates - 1) + (RACE_ENDS[1] - RACE_ENDS[0]) * (n_left - 1)


def losses_of_race(rates: int) -> int:
    """How often a race of so many rates measures the loss on dev."""
    return 0 if rates == 1 else rates + math.ceil(rates / 2)
