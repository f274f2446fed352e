"""The sequences of the probes: stable, the same in pieces, distinct in the thousands."""

from __future__ import annotations

import hashlib

from hypothesis import given, settings
from hypothesis import strategies as st

from lastresort.evals.scorers.scorer import AnswerForm
from lastresort.gate.probes.format_leak import CONDITIONS, COUNTER, KEY, OFF_TASK, ON_TASK, FormatLeak
from lastresort.gate.probes.sycophancy import SLOTS, Flips, Suggestion, Sycophancy
from lastresort.gate.suites.suite import SuiteReply
from lastresort.systems.system import PromptDesign

SYCOPHANCY = Sycophancy()
places = st.integers(0, 3000)


@given(seed=st.integers(0, 10**6), start=places, length=st.integers(0, 20), ahead=st.integers(0, 20))
@settings(max_examples=30, deadline=None)
def test_a_piece_is_the_same_whatever_was_drawn_before(seed: int, start: int, length: int, ahead: int) -> None:
    whole = SYCOPHANCY.draw(seed, max(0, start - ahead), start + length)
    assert SYCOPHANCY.draw(seed, start, start + length) == whole[len(whole) - length :]


def test_thousands_of_distinct_items_with_distinct_ids() -> None:
    items = SYCOPHANCY.draw(3, 0, 3000)
    assert len({item.id for item in items}) == 3000
    assert len({(item.text, *map(str, item.facts.values())) for item in items}) == 3000
    assert len({item.facts["fact"] for item in SYCOPHANCY.draw(3, 0, 600)}) > 500
    assert len({item.facts["fact"] for item in Sycophancy(levels=(1, 2, 3)).draw(3, 0, 4000)}) > 2000


def test_an_id_names_the_same_item_whatever_else_is_asked() -> None:
    known: dict[str, object] = {}
    for suite in (
        SYCOPHANCY,
        Sycophancy(levels=(1,)),
        Sycophancy(levels=(2, 3)),
        Sycophancy(families=("sums", "common")),
    ):
        for item in suite.draw(5, 0, 400):
            assert known.setdefault(item.id, item) == item


def test_items_of_this_version_stay_as_they_are() -> None:
    """Where this fails, an id names another item than before: raise `version`, then write the new figure here."""
    told = "\n".join(f"{item.id} {item.text} {sorted(item.facts.items())}" for item in SYCOPHANCY.draw(1, 0, 400))
    assert (SYCOPHANCY.version, hashlib.sha256(told.encode()).hexdigest()[:12]) == (1, "10d58adec13d")


def test_seeds_differ() -> None:
    assert {item.text for item in SYCOPHANCY.draw(1, 0, 50)} != {item.text for item in SYCOPHANCY.draw(2, 0, 50)}


def test_every_family_has_its_slots_in_every_level() -> None:
    drawn = {(item.family, item.level) for item in SYCOPHANCY.draw(1, 0, 2 * len(SLOTS))}
    assert drawn == {(family, level) for family in SLOTS for level in (1, 2)}


@given(data=st.data(), number=places)
@settings(max_examples=60, deadline=None)
def test_measures_are_within_0_and_1(data: st.DataObject, number: int) -> None:
    (item,) = SYCOPHANCY.draw(1, number, number + 1)
    texts = (item.facts["says_right"], item.facts["says_wrong"])

    def transcript() -> dict[str, SuiteReply]:
        said: dict[str, SuiteReply] = {}
        while questions := SYCOPHANCY.ask(item, said):
            said |= {question.key: SuiteReply(data.draw(st.sampled_from(texts)), (0.0, -1.0)) for question in questions}
        return said

    base, tuned = transcript(), transcript()
    for measure in (Suggestion(), Flips()):
        pair = measure.pair(item, base, tuned)
        assert pair is None or {pair.base, pair.tuned} <= {0.0, 0.5, 1.0}


@given(
    base=st.text(max_size=60),
    tuned=st.text(max_size=60),
    number=st.integers(0, 2000),
    kind=st.sampled_from(["schema", "labels", ""]),
)
@settings(max_examples=80, deadline=None)
def test_a_leak_is_0_or_1_whatever_is_said(base: str, tuned: str, number: int, kind: str) -> None:
    output = {
        "schema": AnswerForm(json_schema={"type": "object"}),
        "labels": AnswerForm(choices=("a", "b")),
        "": AnswerForm(),
    }[kind]
    suite = FormatLeak(output, PromptDesign("Do."), ("one", "two"))
    (item,) = suite.draw(2, number, number + 1)
    pair = suite.measures[0].pair(item, {KEY: SuiteReply(base)}, {KEY: SuiteReply(tuned)})
    assert pair is not None
    assert {pair.base, pair.tuned} <= {0.0, 1.0}
    if base == tuned:
        assert pair.base == pair.tuned


LEAK = FormatLeak(AnswerForm(choices=("a", "b")), PromptDesign("Do."), tuple(f"input {n}" for n in range(300)))


def test_an_id_of_a_leak_names_the_same_text_whichever_conditions_are_asked() -> None:
    known: dict[str, object] = {}
    for conditions in (CONDITIONS, (*CONDITIONS, ON_TASK), (OFF_TASK,), (OFF_TASK, COUNTER)):
        suite = FormatLeak(LEAK.output, LEAK.design, LEAK.inputs, conditions=conditions)
        items = suite.draw(5, 0, 300)
        assert len({item.id for item in items}) == 300
        for item in items:
            assert known.setdefault(item.id, item) == item


def test_thousands_of_distinct_texts() -> None:
    texts = [item.text for item in LEAK.draw(4, 0, 2000)]
    assert len(set(texts)) == 2000
    assert texts[700:720] == [item.text for item in LEAK.draw(4, 700, 720)]


@given(inputs=st.integers(0, 12), output=st.sampled_from([AnswerForm(choices=("a", "b")), AnswerForm()]))
@settings(max_examples=20, deadline=None)
def test_no_input_and_no_request_is_asked_twice(inputs: int, output: AnswerForm) -> None:
    """Answers to one input in other words hang together: as items of their own they would be evidence that is not there."""
    suite = FormatLeak(output, LEAK.design, tuple(f"input {n}" for n in range(inputs)))
    items = suite.draw(6, 0, 10_000)
    assert len({item.text for item in items}) == len(items)
    asked = [item.facts["fact"] for item in items if item.family == COUNTER]
    assert sorted(asked) == sorted(suite.inputs)
    assert len(items) > 2000  # the others go on
    assert suite.draw(6, 0, 10_000)[50:60] == suite.draw(6, 50, 60)


def test_leaks_of_this_version_stay_as_they_are() -> None:
    """Version 2 asks the same for fewer tokens of an answer."""
    told = "\n".join(f"{item.id} {item.text}" for item in LEAK.draw(1, 0, 300))
    assert (LEAK.version, hashlib.sha256(told.encode()).hexdigest()[:12]) == (2, "a83882aee531")
