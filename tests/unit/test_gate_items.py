"""How many items a suite is asked, and which texts its items must not repeat."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest

from lastresort.data.preferences import PreferenceRow
from lastresort.evals.evidence.sequential import look_schedule
from lastresort.evals.evidence.tango import p_more_than
from lastresort.gate.drawing import in_proportion, look_order, training_texts
from lastresort.gate.plans import (
    MOST,
    QUICK_FIXED,
    QUICK_LEAST,
    QUICK_MOST,
    QUICK_SECONDS,
    SampleSize,
    SizeRule,
    sample_size,
)
from lastresort.gate.run import GateRunner
from lastresort.gate.scored import GateSettings, PlannedSuite
from lastresort.gate.suites.suite import ScorePair, SuiteItem
from lastresort.types import Example, Message


class Measure:
    """Says something of items of some families."""

    name, binary, margin_factor = "right", True, 1.0

    def __init__(self, *families: str) -> None:
        self.families = families

    def pair(self, item: SuiteItem, base: Any, tuned: Any) -> ScorePair | None:
        return ScorePair(item.id, 1.0, 1.0, item.family, item.text) if item.family in self.families else None


def size(
    pilot: list[str], *measures: Measure, margin: float = 0.03, quick: bool = False, item_seconds: float = 0.0
) -> SampleSize:
    said = [(SuiteItem(str(number), family, 1, "?"), {}) for number, family in enumerate(pilot)]
    suite: Any = SimpleNamespace(measures=measures)
    return sample_size(suite, said, margin, SizeRule(2, 0.05, quick), item_seconds)


def test_what_a_pilot_alone_asks_makes_no_suite_larger() -> None:
    plain = size(["asked"] * 40, Measure("asked"))
    assert size(["asked"] * 40 + ["only in the pilot"] * 40, Measure("asked")) == plain


def test_a_measure_of_every_second_item_takes_twice_as_many() -> None:
    every = size(["even"] * 40, Measure("even"))
    found = size(["even", "odd"] * 20, Measure("even", "odd"), Measure("even"))
    assert abs(found.items - 2 * every.items) <= 16


def test_a_bounded_suite_knows_what_it_would_need() -> None:
    whole = size(["asked"] * 40, Measure("asked"))
    quick = size(["asked"] * 40, Measure("asked"), quick=True)
    assert (quick.items, quick.fixed, quick.needed) == (QUICK_MOST, QUICK_FIXED, whole.needed)
    assert QUICK_FIXED < quick.expected < QUICK_MOST
    assert whole.fixed == whole.items
    narrow = size(["asked"] * 40, Measure("asked"), margin=0.01)
    assert narrow.items == MOST < narrow.needed


def test_fewer_are_expected_than_may_come_and_more_than_half_as_many_differ_would_take() -> None:
    """3 points, half of a tenth differs: about 700 by the mean gain of the best stake, at a look; the most is for a tenth."""
    found = size(["asked"] * 40, Measure("asked"))
    assert 600 < found.expected < 900 < found.items == found.needed
    assert found.expected in look_schedule(found.items)


def test_a_quick_suite_is_bounded_in_time_but_never_asks_too_few_to_rule_out_two_points() -> None:
    for in_time, fixed, most in ((100, QUICK_LEAST, QUICK_LEAST), (320, 320, 640), (400, QUICK_FIXED, 800)):
        found = size(["asked"] * 40, Measure("asked"), quick=True, item_seconds=QUICK_SECONDS / 2 / in_time)
        assert (found.fixed, found.items) == (fixed, most)
    for alpha in (0.05, 0.025):
        rule = SizeRule(4, alpha, quick=True)
        assert p_more_than(0, 0, rule.fixed(10.0), -0.02) <= rule.alpha_once


def test_a_quick_suite_that_looking_would_not_decide_is_expected_to_end_at_the_test_of_a_fixed_size() -> None:
    assert size(["asked"] * 40, Measure("asked"), margin=0.02, quick=True).expected == QUICK_FIXED


def test_without_looks_the_whole_error_is_for_the_test_of_a_fixed_size() -> None:
    assert SizeRule(4, 0.05, quick=True, looks=False).most(1.0) == 160
    assert SizeRule(4, 0.05, quick=False, looks=False).alpha_once == 0.05


def test_every_beginning_has_the_strata_in_proportion_and_their_items_in_order() -> None:
    """A stratum that ran out early in the draw is spread over all of it."""
    items = [SuiteItem(f"{'rare' if n % 3 == 0 and n < 90 else 'often'}/1/0/{n}", "", 1, "?") for n in range(300)]
    items = [replace(item, family=item.id.split("/")[0]) for item in items]
    ordered = in_proportion(items)
    assert sorted(ordered, key=lambda item: item.id) == sorted(items, key=lambda item: item.id)
    assert in_proportion(items) == ordered != items
    for stop in range(1, 301):
        rare = sum(item.family == "rare" for item in ordered[:stop])
        assert abs(rare - stop * 30 / 300) < 2
    for family in ("rare", "often"):
        assert [one for one in ordered if one.family == family] == [one for one in items if one.family == family]


def test_what_comes_up_to_the_test_of_a_fixed_size_does_not_depend_on_what_may_follow() -> None:
    items = [SuiteItem(f"{family}/1/0/{n}", family, 1, "?") for n in range(120) for family in ("a", "b")]
    for most in (100, 160, 240):
        ordered = look_order(items[:most], 100)
        assert ordered[:100] == tuple(in_proportion(items[:100]))
        assert sorted(one.id for one in ordered) == sorted(one.id for one in items[:most])
        assert abs(sum(one.family == "a" for one in ordered[100:140]) - len(ordered[100:140]) / 2) <= 2


@pytest.mark.parametrize(("needed", "quick", "told"), [(100, False, True), (99, False, False), (100, True, False)])
def test_a_full_gate_says_beforehand_where_it_lacks_items(needed: int, quick: bool, told: bool) -> None:
    said: list[str] = []
    progress: Any = SimpleNamespace(say=said.append)
    plan: Any = SimpleNamespace(name="general")
    drawn: Any = SimpleNamespace(items=[1] * 99)
    unused: Any = None
    asking = GateRunner(GateSettings(quick=quick), unused, (), progress, None)
    asking._forecast([PlannedSuite(plan, 0.01, unused, drawn, 60.0, 48, needed, 48, (48, 99), 99)])
    assert (
        said[0]
        .replace("\N{NO-BREAK SPACE}", " ")
        .startswith("The gate uses about 48 (at most 99) items per model, in about")
    )
    lacks = (
        "general uses 99 items at most, but its margin may take about 100: the verdict may be HOLD for lack of items."
    )
    assert (lacks in said) is told


def test_what_preferences_ask_is_a_training_text_too() -> None:
    talk = (Message("system", "Be brief."), Message("user", "Name a fruit."))
    prepared: Any = SimpleNamespace(
        split=SimpleNamespace(train=[Example("1", (Message("user", "Route it."),), "billing", 1, "rows.jsonl")]),
        preferences=(PreferenceRow(talk, ((Message("assistant", "Plum."),),), "pairs.jsonl, row 1", label=True),),
    )
    assert training_texts(prepared) == ["Route it.", "Name a fruit."]
    prepared.preferences = None
    assert training_texts(prepared) == ["Route it."]
