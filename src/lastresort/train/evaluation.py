"""The objective on items that are not trained on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from lastresort.train.items import Item
from lastresort.train.objective import Objective, Score, Seen, bind
from lastresort.train.passes import evaluating, passes


@dataclass(frozen=True, slots=True)
class Evaluated:
    """loss: of the objective over all items. shown: its own figures (margins, gains), means over them."""

    loss: float
    shown: Mapping[str, float]


def evaluate(
    model: Any,
    items: Sequence[Item],
    objective: Objective,
    reference: Sequence[Sequence[float]] | None,
    score: Score,
    *,
    max_pass_tokens: int,
    plain: bool,
) -> Evaluated:
    """The loss of `items` as of one batch, in evaluation mode. reference and score: as `bind` takes them."""
    seen, total = Seen(), 0.0
    with evaluating(model):
        loss_of = bind(objective, items, reference, score)
        for part, result in passes(model, [item.trained for item in items], max_pass_tokens, plain=plain):
            total += float(loss_of.loss(part, result.per_token, result.row, seen))
    return Evaluated(total, seen.means())
