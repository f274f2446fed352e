"""The sequences of the probes: stable, the same in pieces, distinct in the thousands."""

from __future__ import annotations

import hashlib

from hypothesis import given, settings
from hypothesis import strategies as st

from lastresort.evals.probes.sycophancy import SLOTS, Flips, Suggestion, Sycophancy
from lastresort.evals.suites.suite import Reply

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

    def transcript() -> dict[str, Reply]:
        said: dict[str, Reply] = {}
        while questions := SYCOPHANCY.ask(item, said):
            said |= {question.key: Reply(data.draw(st.sampled_from(texts)), (0.0, -1.0)) for question in questions}
        return said

    base, tuned = transcript(), transcript()
    for measure in (Suggestion(), Flips()):
        pair = measure.pair(item, base, tuned)
        assert pair is None or {pair.base, pair.tuned} <= {0.0, 0.5, 1.0}
