"""What the picture of a plan shows: a bar for every method, and the cards that it is held against."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from lastresort.hardware.catalogue.cards import known_cards
from lastresort.hardware.plan.fit import methods_on
from lastresort.hardware.plan.setup import Cards
from lastresort.hardware.plan.shape import Shape

if TYPE_CHECKING:
    from lastresort.hardware.plan.plan import Asked

SIZES = ("rtx-3060", "t4", "rtx-3090", "l40s", "a100-80", "h200")  # of the sizes that cards come in, one each


def bars(shape: Shape, found: Mapping[str, Any], asked: Asked) -> list[dict[str, Any]]:
    """Of the methods on the plan's cards, the parts of training."""
    told = found["cards"]
    card = asked.cards.card if asked.cards else known_cards()[told["name"]]
    cards = asked.cards or Cards(card, told["count"], told["sharing"] or "ddp")
    setup = replace(asked.setup, method=found["setup"]["method"])
    return [
        {
            "name": one.setup.method,
            "parts": [{"kind": part.kind, "per_card_bytes": part.per_card_bytes} for part in one.training.parts],
        }
        for one in methods_on(shape, setup, cards)
    ]


def marks(found: Mapping[str, Any]) -> list[tuple[str, int]]:
    """The plan's own card first, then one of each usual size."""
    own = found["cards"]["name"], found["cards"]["memory_bytes"]
    return [own, *((name, known_cards()[name].memory_bytes) for name in SIZES if name != own[0])]
