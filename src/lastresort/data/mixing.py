"""Replay rows mixed into training rows."""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import TypeVar

from lastresort.errors import ContractError, DataError

Row = TypeVar("Row")


def mix(rows: Sequence[Row], replay: Sequence[Row], share: float, seed: int) -> list[Row]:
    """The rows in their order with replay rows spread evenly among them, so that these are `share` of the total.

    share: in [0, 1). Replay rows are drawn without replacement; one stands at a random place in each of k equal
    stretches, so no batch is all replay. Raises ContractError for a share outside, DataError for too few replay rows.
    """
    if not 0 <= share < 1:
        raise ContractError(f"found a replay share of {share}", expected="at least 0 and below 1")
    wanted = round(share * len(rows) / (1 - share))
    if wanted > len(replay):
        raise DataError(
            f"found {len(replay)} replay rows",
            where="sft.replay",
            expected=f"{wanted}, so that they are {share:.0%} of the rows",
            remedy="Make more replay rows, or lower the share.",
        )
    draw = random.Random(seed)
    chosen = draw.sample(list(replay), wanted)
    total = len(rows) + wanted
    places = {draw.randrange(i * total // wanted, (i + 1) * total // wanted) for i in range(wanted)}
    own, extra = iter(rows), iter(chosen)
    return [next(extra) if position in places else next(own) for position in range(total)]
