"""The target of a gate, and the sizes of its measures."""

from __future__ import annotations

import pytest

from lastresort.errors import ContractError
from lastresort.evals.evidence.noninferiority import items_needed, non_inferior, power_of
from lastresort.evals.evidence.paired import better
from lastresort.gate.suites.suite import ScorePair
from lastresort.gate.target import first_items
from lastresort.gate.verdict.compare import judge_measure, needed_items, planned_power
from lastresort.gate.verdict.decide import Comparator, judge_target, no_target
from lastresort.types import Example, Judgement, Message

MET = Judgement("MET", 0.9, 140, 300, (0.84, 0.95))
NOT_MET = Judgement("NOT_MET", 0.7, 100, 300, (0.6, 0.78))


def scores(right: int, n: int = 300) -> list[float]:
    return [1.0] * right + [0.0] * (n - right)


def beside(
    prompt: int, tuned: int, *, cost: tuple[float | None, float | None] = (2.0, 1.0), n: int = 300
) -> Comparator:
    return Comparator("five shots", scores(prompt, n), scores(tuned, n), True, None, *cost)


def test_better_passes_whatever_it_costs() -> None:
    found = judge_target(MET, beside(240, 290, cost=(1.0, 9.0)))
    assert (found.passed, found.by, found.better, found.non_inferior, found.cheaper) == (
        True,
        "better",
        True,
        None,
        False,
    )
    assert found.gain == pytest.approx(50 / 300)
    assert found.p_better == better(scores(240), scores(290), binary=True).p
    assert found.reason == (
        "The tuned system is shown to meet the bar (90.0% on 140 items); on the 300 items compared, it scores 96.7% against 80.0% "
        "for five shots, and is shown to be better (p = 8.9e-16)."
    )


@pytest.mark.parametrize(
    ("cost", "passed", "cheaper"), [((2.0, 1.0), True, True), ((1.0, 1.0), False, False), ((None, 1.0), False, None)]
)
def test_as_good_passes_only_where_it_is_cheaper(
    cost: tuple[float | None, float | None], passed: bool, cheaper: bool | None
) -> None:
    found = judge_target(MET, beside(270, 271, cost=cost))
    assert (found.passed, found.by, found.cheaper) == (passed, "cheaper" if passed else None, cheaper)
    assert found.better is False
    assert found.non_inferior is True
    assert ("whether its calls are cheaper is unknown" in found.reason) == (cheaper is None)


def test_cheaper_alone_does_not_pass() -> None:
    """6 of 300 lost: a loss of 2 points is not ruled out."""
    assert non_inferior(scores(270), scores(264), margin=0.02, binary=True).verdict == "UNDERPOWERED"
    found = judge_target(MET, beside(270, 264))
    assert (found.passed, found.by, found.non_inferior) == (False, None, False)
    assert "a loss of 2 points is not ruled out, and its calls are cheaper" in found.reason


def test_the_bar_comes_first() -> None:
    """Better than the prompt, and still too bad."""
    found = judge_target(NOT_MET, beside(150, 210))
    assert (found.passed, found.better) == (False, True)
    assert "is shown to miss the bar (70.0% on 100 items)" in found.reason


def test_alpha_is_that_of_the_gate() -> None:
    """5 won, none lost: p = 1/32."""
    compared = Comparator("five shots", scores(280), scores(285), True)
    assert judge_target(MET, compared, alpha=0.05).better
    assert not judge_target(MET, compared, alpha=0.025).better


def test_without_a_prompt_the_bar_decides() -> None:
    assert (judge_target(MET).passed, judge_target(MET).by) == (True, "bar")
    assert judge_target(NOT_MET).passed is False
    assert judge_target(MET).reason.endswith("; there is no prompt to compare it with.")
    assert no_target().passed is None


def test_groups_and_graded_scores_are_compared_as_such() -> None:
    prompt, tuned = [0.4, 0.6] * 20, [0.9, 0.7] * 20
    labels = [f"g{number // 4}" for number in range(40)]
    found = judge_target(MET, Comparator("three shots", prompt, tuned, False, labels))
    assert found.n_compared == 10
    assert found.p_better == better(prompt, tuned, binary=False, groups=labels).p
    assert (found.comparator_score, found.tuned_score) == (pytest.approx(0.5), pytest.approx(0.8))


def test_a_negative_cost_is_refused() -> None:
    with pytest.raises(ContractError):
        judge_target(MET, beside(240, 290, cost=(-1.0, 1.0)))


def test_suite_found_is_the_evidence_in_the_measures_own_scale() -> None:
    """Margin 5 points, halved; graded scores of 60 groups of two."""
    base = [0.5, 1.0] * 60
    tuned = [0.5, 1.0] * 55 + [0.0, 0.5] * 5
    pairs = [
        ScorePair(str(i), b, t, "even" if i % 2 == 0 else "odd")
        for i, (b, t) in enumerate(zip(base, tuned, strict=True))
    ]
    labels = [str(number // 2) for number in range(120)]
    found = judge_measure(
        "suggestion", "sycophancy", pairs, margin=0.05, margin_factor=0.5, binary=False, alpha=0.025, groups=labels
    )
    told = non_inferior(base, tuned, margin=0.025, binary=False, groups=labels, alpha=0.025)
    assert found.margin == 0.025
    assert (found.p, found.p_regressed, found.interval, found.n) == (told.p, told.p_regressed, told.interval, 60)
    assert (found.verdict, found.unit, found.spread) == (told.verdict, "group", pytest.approx(0.25 * 5 / 60))
    assert (found.base, found.difference) == (pytest.approx(0.75), pytest.approx(-0.5 * 5 / 60))
    assert [(part.name, part.n) for part in found.strata] == [("even", 60), ("odd", 60)]
    assert found.strata[1].tuned == pytest.approx((55 + 0.5 * 5) / 60)


def test_strata_do_not_vote() -> None:
    """One family lost everything it had; the pooled suite, which alone has a margin, did not."""
    kept = [ScorePair(f"k{i}", 1.0, 1.0, "sums") for i in range(600)]
    lost = [ScorePair(f"l{i}", 1.0, 0.0, "dates") for i in range(6)]
    found = judge_measure("general", "general", [*kept, *lost], margin=0.05, binary=True, alpha=0.05)
    assert found.verdict == "NON_INFERIOR"
    assert [(part.name, part.base, part.tuned) for part in found.strata] == [("dates", 1.0, 0.0), ("sums", 1.0, 1.0)]


@pytest.mark.parametrize(("measures", "power"), [(1, 0.8), (4, 0.95), (5, 0.96)])
def test_planned_power(measures: int, power: float) -> None:
    assert planned_power(measures) == pytest.approx(power)


def test_sizes_of_a_full_gate() -> None:
    """Spread by default, or of a pilot; where half of the items say nothing, twice as many are drawn."""
    power = planned_power(3)
    plain = needed_items(0.03, power=power, alpha=0.025)
    flips = needed_items(0.05, power=power, alpha=0.025, spread=0.2, informative=0.5)
    graded = needed_items(0.025, power=power, alpha=0.025, binary=False)
    assert plain == items_needed(0.03, 0.1, power=power, alpha=0.025)
    assert flips == 2 * items_needed(0.05, 0.2, power=power, alpha=0.025)
    assert graded == items_needed(0.025, 0.0625, power=power, alpha=0.025, binary=False)
    reached = [
        power_of(plain, 0.03, 0.1, alpha=0.025),
        power_of(flips // 2, 0.05, 0.2, alpha=0.025),
        power_of(graded, 0.025, 0.0625, alpha=0.025, binary=False),
    ]
    assert reached == [pytest.approx(power, abs=0.005)] * 3


def test_a_bounded_gate_lacks_power_where_its_margin_is_narrow() -> None:
    wide, narrow = (needed_items(margin, power=planned_power(2), alpha=0.05) for margin in (0.3, 0.02))
    assert wide < 160 < narrow
    assert power_of(160, 0.02, 0.1, alpha=0.05) < 0.25 < planned_power(2) < power_of(wide, 0.3, 0.1, alpha=0.05) + 0.01


def test_too_few_items_to_show_anything_have_no_power() -> None:
    """Without any difference 149 items are needed to exclude 2 points: .98^148 > .05."""
    short, enough = (power_of(n, 0.02, 0.0, alpha=0.05) for n in (148, 149))
    assert (short, enough) == (0.0, pytest.approx(1.0))


def test_what_cannot_be_planned_is_refused() -> None:
    with pytest.raises(ContractError):
        needed_items(0.05, power=0.8, alpha=0.05, informative=0.0)
    with pytest.raises(ContractError):
        planned_power(0)


def test_where_hardly_an_item_differs_the_fewest_that_show_anything_are_enough() -> None:
    """59 items exclude 5 points if none differs; where one in a thousand does, with probability .999^59 = .94 at least."""
    assert items_needed(0.05, 0.001) == items_needed(0.05, 0.0) == 59
    assert items_needed(0.05, 0.001, power=0.95) > 59


@pytest.mark.parametrize(("items", "expected"), [(0, 0), (1, 2), (2, 2), (3, 5), (5, 5), (9, 6)])
def test_a_beginning_has_its_last_group_whole(items: int, expected: int) -> None:
    order = [Example(str(place), (Message("user", "?"),), "!", group=label) for place, label in enumerate("aabbbc")]
    assert first_items(order, items) == order[:expected]
