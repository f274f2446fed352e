"""The objective on items that are not trained on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from lastresort.engine.forest import split_units
from lastresort.engine.logp import target_logps
from lastresort.train.adapters import adapters_in_base_precision
from lastresort.train.items import Item
from lastresort.train.objective import Objective, Score, Seen, bind


@dataclass(frozen=True, slots=True)
class Evaluated:
    """loss: of the objective over all items. shown: its own figures (margins, gains), means over them."""

    loss: float
    shown: Mapping[str, float]


@torch.no_grad()
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
    was_training = model.training
    model.eval()
    loss_of = bind(objective, items, reference, score)
    seen, total = Seen(), 0.0
    units = [loss_of.rows(number) for number in range(len(items))]
    for part in split_units(units, max_pass_tokens):
        with adapters_in_base_precision(model):
            result = target_logps(model, [row for number in part for row in units[number]], plain=plain)
        total += float(loss_of.loss(part, result.per_token, result.row, seen))
    model.train(was_training)
    return Evaluated(total, seen.means())
