"""How many items a suite is asked, and which texts its items must not repeat."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

from lastresort.evals.suites.suite import Item, Pair
from lastresort.ladder.gate.drawing import training_texts
from lastresort.ladder.gate.sizes import items_to_ask
from lastresort.rungs.preference_data import Preferred
from lastresort.types import Example, Message


class Measure:
    """Says something of items of some families."""

    binary, margin_factor = True, 1.0

    def __init__(self, *families: str) -> None:
        self.families = families

    def pair(self, item: Item, base: Any, tuned: Any) -> Pair | None:
        return Pair(item.id, 1.0, 1.0, item.family, item.text) if item.family in self.families else None


def wanted(pilot: list[str], *measures: Measure) -> int:
    said = [(Item(str(number), family, 1, "?"), {}) for number, family in enumerate(pilot)]
    suite: Any = SimpleNamespace(measures=measures)
    return items_to_ask(suite, said, 0.03, measures=2, alpha=0.05, quick=False)


def test_what_a_pilot_alone_asks_makes_no_suite_larger() -> None:
    plain = wanted(["asked"] * 40, Measure("asked"))
    assert wanted(["asked"] * 40 + ["only in the pilot"] * 40, Measure("asked")) == plain


def test_a_measure_of_every_second_item_takes_twice_as_many() -> None:
    every = wanted(["even"] * 40, Measure("even"))
    found = wanted(["even", "odd"] * 20, Measure("even", "odd"), Measure("even"))
    assert abs(found - 2 * every) <= 16


def test_what_preferences_ask_is_a_training_text_too() -> None:
    talk = (Message("system", "Be brief."), Message("user", "Name a fruit."))
    prepared: Any = SimpleNamespace(
        split=SimpleNamespace(train=[Example("1", (Message("user", "Route it."),), "billing", 1, "rows.jsonl")]),
        preferences=(Preferred(talk, ((Message("assistant", "Plum."),),), "pairs.jsonl, row 1", label=True),),
    )
    assert training_texts(prepared) == ["Route it.", "Name a fruit."]
    prepared.preferences = None
    assert training_texts(prepared) == ["Route it."]
