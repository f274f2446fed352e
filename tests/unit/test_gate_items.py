"""How many items a suite is asked, and which texts its items must not repeat."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from lastresort.data.preferences import PreferenceRow
from lastresort.gate.drawing import training_texts
from lastresort.gate.plans import MOST, SampleSize, sample_size
from lastresort.gate.run import GateRunner, GateSettings, PlannedSuite
from lastresort.gate.suites.suite import ScorePair, SuiteItem
from lastresort.types import Example, Message


class Measure:
    """Says something of items of some families."""

    name, binary, margin_factor = "right", True, 1.0

    def __init__(self, *families: str) -> None:
        self.families = families

    def pair(self, item: SuiteItem, base: Any, tuned: Any) -> ScorePair | None:
        return ScorePair(item.id, 1.0, 1.0, item.family, item.text) if item.family in self.families else None


def size(pilot: list[str], *measures: Measure, margin: float = 0.03, quick: bool = False) -> SampleSize:
    said = [(SuiteItem(str(number), family, 1, "?"), {}) for number, family in enumerate(pilot)]
    suite: Any = SimpleNamespace(measures=measures)
    return sample_size(suite, said, margin, measures=2, alpha=0.05, quick=quick)


def test_what_a_pilot_alone_asks_makes_no_suite_larger() -> None:
    plain = size(["asked"] * 40, Measure("asked"))
    assert size(["asked"] * 40 + ["only in the pilot"] * 40, Measure("asked")) == plain


def test_a_measure_of_every_second_item_takes_twice_as_many() -> None:
    every = size(["even"] * 40, Measure("even"))
    found = size(["even", "odd"] * 20, Measure("even", "odd"), Measure("even"))
    assert abs(found.items - 2 * every.items) <= 16


def test_a_bounded_suite_knows_what_it_would_need() -> None:
    whole = size(["asked"] * 40, Measure("asked"))
    assert size(["asked"] * 40, Measure("asked"), quick=True) == SampleSize(160, whole.needed)
    narrow = size(["asked"] * 40, Measure("asked"), margin=0.01)
    assert narrow.items == MOST < narrow.needed


@pytest.mark.parametrize(("needed", "quick", "told"), [(100, False, True), (99, False, False), (100, True, False)])
def test_a_full_gate_says_beforehand_where_it_lacks_items(needed: int, quick: bool, told: bool) -> None:
    said: list[str] = []
    progress: Any = SimpleNamespace(say=said.append)
    plan: Any = SimpleNamespace(name="general")
    drawn: Any = SimpleNamespace(items=[1] * 99)
    unused: Any = None
    asking = GateRunner(GateSettings(quick=quick), unused, (), progress, None)
    asking._forecast([PlannedSuite(plan, 0.01, unused, drawn, 60.0, 48, needed)])
    assert ("general asks 99 items, where its margin takes about 100: it may hold for want of items." in said) is told


def test_what_preferences_ask_is_a_training_text_too() -> None:
    talk = (Message("system", "Be brief."), Message("user", "Name a fruit."))
    prepared: Any = SimpleNamespace(
        split=SimpleNamespace(train=[Example("1", (Message("user", "Route it."),), "billing", 1, "rows.jsonl")]),
        preferences=(PreferenceRow(talk, ((Message("assistant", "Plum."),),), "pairs.jsonl, row 1", label=True),),
    )
    assert training_texts(prepared) == ["Route it.", "Name a fruit."]
    prepared.preferences = None
    assert training_texts(prepared) == ["Route it."]
