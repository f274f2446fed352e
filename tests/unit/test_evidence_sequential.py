"""Tests that look as they go: the bets by hand, against the plain definition, and what a verdict and its interval say."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest

from lastresort.errors import ContractError
from lastresort.evals.evidence.noninferiority import non_inferior
from lastresort.evals.evidence.sequential import (
    LOOKING,
    STAKES,
    Looks,
    combined_p,
    expected_units,
    is_in_reach,
    limits_so_far,
    log_evidence,
    look_schedule,
    non_inferior_so_far,
    p_by_looking,
    running_p,
)

MARGIN = 0.03


def scores(differences: list[float]) -> tuple[list[float], list[float]]:
    return [float(d < 0) if d else 0.5 for d in differences], [float(d > 0) if d else 0.5 for d in differences]


def test_evidence_is_the_mean_of_bets_whose_stakes_never_lose_everything() -> None:
    """Worked by hand: after a kept item each bet grows by 1 + l .03/.97, after a lost one it is 1 - l times as large."""
    kept = np.mean([1 + stake * 0.03 / 0.97 for stake in STAKES])
    lost = np.mean([(1 + stake * 0.03 / 0.97) * (1 - stake) for stake in STAKES])
    evidence = np.exp(log_evidence(np.array([0.0, -1.0]), -MARGIN))
    assert evidence == pytest.approx([kept, lost])
    assert lost > 0


@pytest.mark.parametrize("value", [-0.03, 0.03, -0.5])
def test_a_fair_game_gains_nothing_on_average(value: float) -> None:
    """The mean over all outcomes of a difference whose mean is the value is 1: exact, for every stake and so for their mean."""
    up, down = (1 + value) / 2, (1 - value) / 2
    after = np.exp(log_evidence(np.array([[1.0], [-1.0]]), value))[:, 0]
    assert up * after[0] + down * after[1] == pytest.approx(1)
    assert (up - 0.1) * after[0] + (down + 0.1) * after[1] < 1


def test_strata_that_come_in_turn_gain_nothing_over_whole_turns() -> None:
    """One stratum loses, the other wins, their mean is the value: a whole turn is worth at most 1, half of one is worth more.
    That is why evidence counts at looks with whole turns only.
    """
    worth = [np.exp(log_evidence(np.array([[1.0], [-1.0]]), 0.0))[:, 0] @ [p, 1 - p] for p in (0.7, 0.3)]
    stakes = np.array(STAKES)
    assert worth[0] > 1
    assert np.mean((1 + 0.4 * stakes) * (1 - 0.4 * stakes)) < 1


def test_the_p_value_never_grows_and_counts_only_at_looks() -> None:
    differences = np.array([0.0] * 60 + [-1.0] * 5)
    p = running_p(differences, -MARGIN)
    assert all(later <= earlier for earlier, later in pairwise(p))
    assert running_p(differences, -MARGIN, [60, 65]).tolist() == [p[59], p[59]]
    assert running_p(differences, -MARGIN, [0, 65])[0] == 1
    assert running_p(differences, -MARGIN, [65])[0] > p[64]


def test_each_way_to_decide_has_its_share_of_the_error() -> None:
    assert combined_p(0.02, None) == pytest.approx(0.02 / LOOKING)
    assert combined_p(0.02, 0.001) == pytest.approx(0.001 / (1 - LOOKING))
    assert combined_p(0.9, 0.9) == 1


def test_a_large_loss_is_shown_at_once_and_no_loss_within_a_fraction_of_a_fixed_size() -> None:
    """34 of 40 points lost, 175 without any: what docs/log.md found by drawing."""
    lost = np.array(([-1.0, 0.0, -1.0, 0.0, 0.0]) * 20)
    assert (running_p(-lost, MARGIN) <= 0.025).argmax() < 48
    assert (running_p(np.zeros(400), -MARGIN) <= 0.025).argmax() + 1 == 175


@pytest.mark.parametrize("binary", [pytest.param(True, marks=pytest.mark.slow), False])
def test_interval_and_verdict_agree_before_the_last_item_and_at_it(binary: bool) -> None:
    generator = np.random.default_rng(3)
    for loss in (0.0, 0.03, 0.2):
        drawn = generator.choice([-1.0, 0.0, 1.0], p=[0.02 + loss, 0.96 - loss, 0.02], size=300)
        base, tuned = (drawn < 0).astype(float).tolist(), (drawn > 0).astype(float).tolist()
        for fixed in (2, 1, None):
            found = non_inferior_so_far(base, tuned, Looks((100, 200, 300), fixed), margin=MARGIN, binary=binary)
            assert (found.p <= 0.05) == (found.interval[0] > -MARGIN)
            assert (found.p_regressed <= 0.05) == (found.interval[1] < -MARGIN)
            assert found.loss_seen == (found.interval[1] < 0)
            assert (found.verdict == "NON_INFERIOR") == (found.p <= 0.05)


def test_the_test_of_a_fixed_size_counts_once_reached_and_at_its_share() -> None:
    base, tuned = [1.0] * 208, [1.0] * 208
    fixed = non_inferior(base, tuned, margin=0.02, binary=True, alpha=0.025)
    at_last = non_inferior_so_far(base, tuned, Looks((208,), fixed=0), margin=0.02, binary=True)
    before = non_inferior_so_far(base, tuned, Looks((208,)), margin=0.02, binary=True)
    assert at_last.p == pytest.approx(2 * fixed.p)
    assert (at_last.verdict, before.verdict) == ("NON_INFERIOR", "UNDERPOWERED")
    assert before.n_needed is not None
    assert at_last.n_needed is None
    more = [*tuned, *[0.0] * 4]
    later = non_inferior_so_far([*base, *[1.0] * 4], more, Looks((208, 212), fixed=0), margin=0.02, binary=True)
    assert (later.verdict, later.p, later.n) == ("NON_INFERIOR", at_last.p, 212), "what came later was another test"
    assert later.difference == pytest.approx(-4 / 212)


def test_what_is_in_reach_is_what_looking_would_decide() -> None:
    """2 of 384 lost: enough at twice as many if one is lost and one won then. 8 lost is about the margin; a third shows a loss."""
    for lost, won, times, reached in ((2, 0, 2.0, True), (2, 0, 1.5, False), (8, 0, 2.0, False), (128, 0, 1.5, True)):
        now = [-1.0] * lost + [1.0] * won + [0.0] * (384 - lost - won)
        found = is_in_reach(*scores(now), times=times, margin=0.02, alpha=0.025)
        more, differ = round(384 * (times - 1)), round((times - 1) * (lost + won) / 2)
        even = now + [-1.0] * differ + [1.0] * differ + [0.0] * (more - 2 * differ)
        alike = now + now[: round(lost * (times - 1))] + [0.0] * (more - round(lost * (times - 1)))
        kept = p_by_looking(*scores(even), Looks((len(even),)), margin=0.02).kept[-1]
        regressed = p_by_looking(*scores(alike), Looks((len(alike),)), margin=0.02).regressed[-1]
        assert found == (min(kept, regressed) <= 0.025) == reached, (lost, times)


def test_looks_that_contradict_each_other_claim_nothing() -> None:
    """Nothing differs for 240 items, then a third of the items is lost: both p are below alpha."""
    base, tuned = [1.0] * 480, [1.0] * 240 + [0.0, 1.0, 1.0] * 80
    found = non_inferior_so_far(base, tuned, Looks((240, 480)), margin=0.03, binary=True)
    assert max(found.p, found.p_regressed) <= 0.05
    assert found.verdict == "UNDERPOWERED"


def test_a_group_is_counted_once_while_looking() -> None:
    """Its second item comes later, and the mean of both would change what an earlier look has seen."""
    base, tuned = scores([0.0, -1.0, 0.0, 1.0])
    looks = Looks((2, 4))
    grouped = p_by_looking(base, tuned, looks, margin=MARGIN, groups=["a", "b", "a", "b"])
    alone = p_by_looking(base[:2], tuned[:2], Looks((2,)), margin=MARGIN)
    assert (grouped.kept[-1], grouped.regressed[-1]) == (alone.kept[-1], alone.regressed[-1])


@pytest.mark.parametrize("units", [(), (2,), (3, 2, 4), (5,)])
def test_looks_end_at_the_last_pair(units: tuple[int, ...]) -> None:
    with pytest.raises(ContractError, match="looks after"):
        p_by_looking([1.0] * 4, [1.0] * 4, Looks(units), margin=MARGIN)


def test_limits_hold_what_no_bet_has_refuted() -> None:
    differences = np.array([0.0, 1.0, 0.0, -1.0, 0.0] * 30)
    low, high = limits_so_far(differences, [50, 150], alpha=0.05)
    assert low < 0 < high
    for limit, inside in ((low, 1), (high, -1)):
        sided = differences * inside
        assert running_p(sided, inside * limit - 1e-6, [50, 150])[-1] <= 0.05
        assert running_p(sided, inside * limit + 1e-6, [50, 150])[-1] > 0.05


def test_looks_come_further_apart_and_the_last_takes_all() -> None:
    looks = look_schedule(1_529)
    steps = [later - earlier for earlier, later in pairwise(looks)]
    assert looks[0] == 48
    assert looks[-1] == 1_529
    assert all(step % 16 == 0 for step in steps[:-1])
    assert steps[:-1] == sorted(steps[:-1])
    assert len(look_schedule(4_096)) < 16
    assert look_schedule(30) == (30,)


def test_the_test_of_a_fixed_size_has_a_look_of_its_own() -> None:
    assert look_schedule(768, 384) == (48, 96, 144, 192, 256, 352, 384, 480, 640, 768)
    assert look_schedule(300, 384) == look_schedule(300)


def test_expected_numbers_are_about_what_drawing_gives() -> None:
    generator = np.random.default_rng(1)
    for share in (0.0, 0.02, 0.05):
        drawn = generator.choice([-1.0, 0.0, 1.0], p=[share / 2, 1 - share, share / 2], size=(200, 4_000))
        mean = ((running_p(drawn, -MARGIN) <= 0.025).argmax(axis=1) + 1).mean()
        assert mean <= expected_units(MARGIN, share, alpha=0.05) <= 1.35 * mean
    assert expected_units(MARGIN, 0.05, alpha=0.05) > expected_units(MARGIN, 0.05, alpha=0.1)
    assert expected_units(MARGIN, 0.05, alpha=0.05, binary=False) < expected_units(MARGIN, 0.05, alpha=0.05)
