"""The pilot of the general suite, look by look: its error stays that of one look, and what it asks is worth asking."""

from __future__ import annotations

from math import comb

import pytest

from lastresort.gate.suites.general import CHOSEN_STRATA, CONSTRAINT_STRATA, STRATA, WRITTEN_STRATA, Stratum
from lastresort.gate.suites.headroom import (
    CONFIDENCE,
    LEAST_PROBABILITY,
    Pilot,
    look_sizes,
    next_looks,
    pass_probability,
)

MARGINS = (0.01, 0.03, 0.1)
KINDS = {
    (stratum.chance, look_sizes(stratum, quick=quick)): stratum
    for stratum in (*CHOSEN_STRATA, *CONSTRAINT_STRATA, *WRITTEN_STRATA)
    for quick in (True, False)
}


def passing(stratum: Stratum, looks: tuple[int, ...], share: float, margin: float) -> float:
    """Probability that a base which is right so often passes, by every way through the looks."""
    open_at, passed, asked = {0: 1.0}, 0.0, 0
    for stop in looks:
        more, after = stop - asked, dict[int, float]()
        for right, weight in open_at.items():
            for new in range(more + 1):
                chance = comb(more, new) * share**new * (1 - share) ** (more - new)
                after[right + new] = after.get(right + new, 0.0) + weight * chance
        asked, open_at = stop, {}
        for right, weight in after.items():
            pilot = Pilot(stratum, right, asked)
            if asked < looks[-1] and LEAST_PROBABILITY <= pass_probability(pilot, margin, looks[-1]) < 1:
                open_at[right] = weight
            elif pilot.passes(margin):
                passed += weight
    return passed


@pytest.mark.parametrize("kind", KINDS, ids=str)
@pytest.mark.parametrize("margin", MARGINS)
def test_a_base_just_short_of_the_mark_passes_no_more_often_than_with_one_look(
    kind: tuple[float, tuple[int, ...]], margin: float
) -> None:
    stratum, looks = KINDS[kind], kind[1]
    mark = stratum.chance + 2 * margin
    assert passing(stratum, looks, mark, margin) <= passing(stratum, looks[-1:], mark, margin) + 1e-12
    assert passing(stratum, looks[-1:], mark, margin) <= 1 - CONFIDENCE


@pytest.mark.parametrize("kind", KINDS, ids=str)
@pytest.mark.parametrize("margin", MARGINS)
def test_what_is_given_up_does_not_pass_and_what_is_held_for_good_does(
    kind: tuple[float, tuple[int, ...]], margin: float
) -> None:
    stratum, looks = KINDS[kind], kind[1]
    for n in looks:
        for right in range(n + 1):
            pilot = Pilot(stratum, right, n)
            sure = pass_probability(pilot, margin, looks[-1])
            assert not (sure < LEAST_PROBABILITY and pilot.passes(margin))
            assert pilot.passes(margin) or sure < 1


def test_little_power_is_lost_by_giving_up_early() -> None:
    """A family of four options that is right in 7 of 10, and constraints that are kept in 3 of 20: .92 and .76 with one look."""
    for name, share in (("sums/1", 0.7), ("constraints_wording/1", 0.15)):
        looks = look_sizes(STRATA[name], quick=False)
        at_once = passing(STRATA[name], looks[-1:], share, 0.03)
        assert at_once > 0.7
        assert at_once - 0.01 < passing(STRATA[name], looks, share, 0.03) < at_once


def test_hope_by_hand() -> None:
    """Of 16 items 9 right pass at a margin of .03. After 5 of 8 four of eight more are wanted; after 0 of 8 nine of eight."""
    sums = STRATA["sums/1"]
    assert (Pilot(sums, 8, 16).passes(0.03), Pilot(sums, 9, 16).passes(0.03)) == (False, True)
    assert pass_probability(Pilot(sums, 0, 8), 0.03, 16) == 0.0
    assert pass_probability(Pilot(sums, 9, 9), 0.03, 16) == 1.0
    assert pass_probability(Pilot(sums, 8, 15), 0.03, 16) == pytest.approx(
        8.5 / 16
    )  # the next one right: Jeffreys' mean
    assert pass_probability(Pilot(sums, 5, 8), 0.03, 16) > 0.5 > pass_probability(Pilot(sums, 2, 8), 0.03, 16)


def test_looks_go_on_where_there_is_hope() -> None:
    strata = [STRATA[name] for name in ("sums/1", "sums/2", "capitals/1")]
    assert next_looks(strata, {}, {}, 0.03, quick=True) == dict.fromkeys(strata, 8)
    asked = dict.fromkeys(strata, 8)
    pilots = {stratum: Pilot(stratum, right, 8) for stratum, right in zip(strata, (5, 0, 8), strict=True)}
    assert next_looks(strata, asked, pilots, 0.03, quick=True) == {strata[0]: 16, strata[2]: 16}
    assert next_looks(strata, dict.fromkeys(strata, 16), pilots, 0.03, quick=True) == {}
    assert next_looks(strata, asked, {}, 0.03, quick=True) == {}  # the context holds none of them


def test_a_level_of_constraints_is_asked_where_the_one_below_is_kept_most_of_the_time() -> None:
    levels = [STRATA[f"constraints_shape/{level}"] for level in (1, 2, 3)]
    assert next_looks(levels, {}, {}, 0.03, quick=False) == {levels[0]: 12}
    kept, seldom = Pilot(levels[0], 12, 12), Pilot(levels[0], 3, 12)
    assert next_looks(levels, {levels[0]: 12}, {levels[0]: kept}, 0.03, quick=False) == {levels[1]: 12}
    assert next_looks(levels, {levels[0]: 12}, {levels[0]: seldom}, 0.03, quick=False) == {levels[0]: 32}
    assert look_sizes(levels[0], quick=True)[-1] < look_sizes(levels[0], quick=False)[-1]
