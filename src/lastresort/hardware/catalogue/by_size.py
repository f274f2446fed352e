"""The memory of a training of which only the number of parameters is known: that of the catalogue's model nearest in size."""

from __future__ import annotations

from functools import cache
from math import log

from lastresort.hardware.catalogue.cards import Card
from lastresort.hardware.catalogue.models import known_models, shape_named
from lastresort.hardware.plan.memory import training_memory
from lastresort.hardware.plan.setup import Cards, Setup

_CARD = Cards(Card("any", 0))


@cache
def lora_bytes(parameters: int) -> int:
    """Of LoRA as the plan's defaults have it (rows of 1,024 tokens one at a time, checkpointing, 16 bits), on one card.

    All but the card's own context follows the number of parameters.
    """
    dense = (known for known in known_models().values() if not shape_named(known.name).has_experts)
    nearest = shape_named(min(dense, key=lambda known: abs(log(known.parameters / parameters))).name)
    memory = training_memory(nearest, Setup("lora"), _CARD)
    context = memory.of("context")
    return context + round((memory.per_card_bytes - context) * parameters / nearest.parameters)
