"""What a training is forecast to hold: from its settings, the shape of its model, and its rows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

from lastresort.engine.forest import Row, common_length
from lastresort.errors import InputError
from lastresort.hardware.environment import card_here
from lastresort.hardware.plan.config import shape_of
from lastresort.hardware.plan.planned import Planned
from lastresort.hardware.plan.setup import Cards, Learning, Method, Setup
from lastresort.train.adapters import ranks_of
from lastresort.train.batches import Batches
from lastresort.train.groups import SampledGroups
from lastresort.train.items import Item
from lastresort.train.settings import AdapterSettings, TrainSettings
from lastresort.train.targets import in_attention

_LEARNING: Mapping[str, Learning] = {"pairs": "dpo", "groups": "grpo"}


@dataclass(frozen=True, slots=True)
class Sizes:
    """In computed tokens. longest: of what stays in one pass. batch: of an optimizer step, at most."""

    longest: int
    batch: int


def plan_of(
    config: Mapping[str, Any],
    settings: TrainSettings,
    source: Sequence[Item] | Batches,
    compute: Literal["float32", "bfloat16"],
) -> Planned | None:
    """config: the model's config.json. compute: what the products are in. None for a model whose shape is not known, and where the
    machine does not say how much memory it has."""
    try:
        shape = shape_of(config, "the model")
    except InputError:
        return None
    card = card_here(processor=True)
    if card is None:
        return None
    sizes = sizes_of(source, settings.batch_size)
    setup = _setup(settings, source, compute, sizes.longest)
    return Planned(shape, setup, Cards(card), sizes.longest, sizes.batch, settings.max_pass_tokens)


def plan_of_loaded(model: Any, settings: TrainSettings, source: Sequence[Item] | Batches) -> Planned | None:
    """As `plan_of`, of a model in memory, with its adapter."""
    reduced = next(model.parameters()).element_size() == 2
    settings = replace(settings, adapter=with_ranks(settings.adapter, ranks_of(model)))
    return plan_of(model.config.to_dict(), settings, source, "bfloat16" if reduced else "float32")


def with_ranks(adapter: AdapterSettings, ranks: Mapping[str, int]) -> AdapterSettings:
    """The settings as they would be of an adapter that is there. ranks: of its layers, by path; none where all weights are
    trained. Layers of several ranks count as of the largest, and some layers of attention as all of them."""
    if not ranks:
        return adapter
    target: Literal["attention", "all-linear"] = "attention" if all(map(in_attention, ranks)) else "all-linear"
    return replace(adapter, r=max(ranks.values()), target=target)


def sizes_of(source: Sequence[Item] | Batches, batch_size: int) -> Sizes:
    """What all rows share at their beginning counts once in a batch."""
    if isinstance(source, SampledGroups):
        longest = source.longest_tokens
        return Sizes(longest, batch_size * source.settings.group_size * longest)
    items = source if isinstance(source, Sequence) else source.items
    units = [[row for row in item.trained if any(row.targets)] for item in items]
    tokens = sorted((_computed(rows) for rows in units if rows), reverse=True)
    if not tokens:
        return Sizes(1, 1)
    first, *rest = (row.ids for rows in units for row in rows)
    shared = min((common_length(first, ids) for ids in rest), default=0)
    return Sizes(tokens[0], shared + sum(own - shared for own in tokens[:batch_size]))


def _computed(rows: Sequence[Row]) -> int:
    """Of a row, or of the two of a pair, whose common beginning is computed once."""
    shared = common_length(rows[0].ids, rows[1].ids) if len(rows) == 2 else 0
    return sum(row.needed for row in rows) - min(shared, *(row.needed for row in rows))


def _setup(settings: TrainSettings, source: Any, compute: Literal["float32", "bfloat16"], row_tokens: int) -> Setup:
    adapter = settings.adapter
    method: Method = "full" if adapter.kind == "none" else "qlora" if adapter.quantize else "lora"
    target = adapter.target if isinstance(adapter.target, str) else "all-linear"
    groups: dict[str, Any] = {}
    if isinstance(source, SampledGroups):
        asked = source.settings
        groups = {
            "group_size": asked.group_size,
            "rows_at_once": asked.rows_at_once,
            "new_tokens": asked.max_new_tokens,
            "sampler": "engine" if source.by_engine else "elsewhere",
        }
    return Setup(
        method,
        learning=_LEARNING.get(settings.objective.need, "sft"),
        row_tokens=row_tokens,
        checkpointing=settings.checkpointing,
        r=adapter.r,
        target=target,
        optimizer=settings.optimizer,
        compute=compute,
        **groups,
    )
