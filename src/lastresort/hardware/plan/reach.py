"""The largest models of the catalogue that a device trains."""

from __future__ import annotations

from typing import Any

from lastresort.hardware.catalogue.cards import Card
from lastresort.hardware.catalogue.models import known_models, shape_named
from lastresort.hardware.plan.fit import fit
from lastresort.hardware.plan.setup import METHODS, Cards, Setup


def within_reach(card: Card, row_tokens: int = 1024) -> dict[str, dict[str, Any] | None]:
    """For each method the largest model that fits, with rows of so many tokens one at a time; None where none does."""
    by_size = sorted(known_models().values(), key=lambda known: -known.parameters)
    found: dict[str, dict[str, Any] | None] = {}
    for method in METHODS:
        setup = Setup(method, row_tokens=row_tokens)
        fitting = (known for known in by_size if fit(shape_named(known.name), setup, Cards(card)).fits)
        largest = next(fitting, None)
        found[method] = None if largest is None else {"name": largest.name, "parameters": largest.parameters}
    return found
