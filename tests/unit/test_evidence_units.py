"""Evidence: values worked by hand, edges, and refusals."""

from __future__ import annotations

import math
import pkgutil
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest

from lastresort.errors import ContractError, TaskError
from lastresort.evals import evidence
from lastresort.evals.evidence.bar import (
    check_test_size,
    judge_bar,
    least_right,
    met_of_each,
    outcome_of,
    smallest_deciding_test,
)
from lastresort.evals.evidence.martingale import log_evidence_above, log_wealth_above, moments_before
from lastresort.evals.evidence.noninferiority import holm, items_needed, items_that_decide, non_inferior, power_of
from lastresort.evals.evidence.paired import better, mcnemar_p
from lastresort.evals.evidence.selection import choose, selection_bias_corrected
from lastresort.evals.evidence.tango import p_less_than, p_more_than, tango_interval


def test_import_loads_neither_torch_nor_scipy() -> None:
    modules = ", ".join(f"{evidence.__name__}.{file.name}" for file in pkgutil.iter_modules(evidence.__path__))
    code = f"import sys, {modules}; print([m for m in ('torch', 'scipy', 'statsmodels') if m in sys.modules])"
    assert (
        subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip() == "[]"
    )


def test_evidence_by_hand() -> None:
    """One right answer, t = 1/2: the mean of p/(1/2) over p uniform on (1/2, 1) is 3/4 / (1/2) = 1.5."""
    assert np.exp(log_evidence_above(1, 1, 0.5)) == pytest.approx(1.5)
    assert np.exp(log_evidence_above(0, 1, 0.5)) == pytest.approx(0.5)
    assert float(log_evidence_above(0, 0, 0.7)) == pytest.approx(0.0)


def test_wealth_by_hand() -> None:
    """t = .4, scores 1, 0. Item 1: m = .5, v = .25, l = .1/.26 = .384615, factor 1 + .384615*.6 = 1.230769.

    Item 2: m = (.5+1)/2 = .75, v = (.25 + .25^2)/2 = .15625, l = min(.35/(.15625+.1225), 1.25) = 1.25, factor .5.
    """
    assert np.exp(log_wealth_above(np.array([1.0, 0.0]), 0.4)) == pytest.approx([1.2307692, 0.6153846])
    mean, variance = moments_before(np.array([1.0, 0.0]))
    assert mean == pytest.approx([0.5, 0.75])
    assert variance == pytest.approx([0.25, 0.15625])


@pytest.mark.parametrize(("bar", "alpha", "n"), [(0.85, 0.01, 30), (0.99, 0.01, 481), (0.2, 0.05, 2), (0.5, 0.05, 5)])
def test_smallest_deciding_test(bar: float, alpha: float, n: int) -> None:
    assert smallest_deciding_test(bar, alpha) == n
    perfect = judge_bar([1.0] * n, bar=bar, alpha=alpha, binary=True)
    short = judge_bar([1.0] * (n - 1), bar=bar, alpha=alpha, binary=True)
    assert perfect is not None
    assert perfect.outcome == "MET"
    assert short is not None
    assert short.outcome == "UNDECIDED"


@pytest.mark.parametrize(("bar", "alpha"), [(0.85, 0.01), (0.99, 0.01), (0.3, 0.05)])
def test_smallest_deciding_graded_test(bar: float, alpha: float) -> None:
    n = smallest_deciding_test(bar, alpha, binary=False)
    assert judge_bar([1.0] * n, bar=bar, alpha=alpha, binary=False).outcome == "MET"  # type: ignore[union-attr]
    assert judge_bar([1.0] * (n - 1), bar=bar, alpha=alpha, binary=False).outcome == "UNDECIDED"  # type: ignore[union-attr]


def test_a_test_set_too_small_is_refused() -> None:
    check_test_size(30, bar=0.85, alpha=0.01)
    with pytest.raises(
        TaskError, match=r"task.yaml: a test set of 29.*0\.85.*expected at least 30\. Add test examples"
    ):
        check_test_size(29, bar=0.85, alpha=0.01, where="task.yaml")
    with pytest.raises(TaskError):
        check_test_size(30, bar=0.85, alpha=0.01, binary=False)
    with pytest.raises(TaskError, match=r"Add test examples, lower `bar`") as refused:
        check_test_size(29, bar=0.85, alpha=0.01, test_file=True)
    assert refused.value.key == ("examples", "test")
    with pytest.raises(TaskError, match=r"expected at least 30; or a bar of 0\.5; or fewer rungs\. Add"):
        check_test_size(29, bar=0.85, alpha=0.01, instead=lambda: ("a bar of 0.5", "fewer rungs"))


def test_goes_on_until_something_decides() -> None:
    scores = [1.0, 1.0, 0.0, 1.0]
    assert judge_bar(scores, bar=0.8, alpha=0.05, binary=True, n_available=100) is None
    assert judge_bar([], bar=0.8, alpha=0.05, binary=True, n_available=100) is None
    assert judge_bar(scores, bar=0.8, alpha=0.05, binary=True) is not None


def test_scores_after_the_deciding_item_are_ignored() -> None:
    run = [1.0] * 60
    first = judge_bar(run, bar=0.8, alpha=0.05, binary=True, n_available=300)
    more = judge_bar(run + [0.0] * 200, bar=0.8, alpha=0.05, binary=True, n_available=300)
    assert first is not None
    assert first == more
    assert first.n_used < 60
    assert first.score == 1.0
    assert judge_bar(run[: first.n_used - 1], bar=0.8, alpha=0.05, binary=True, n_available=300) is None


def test_not_met_mirrors_met() -> None:
    rng = np.random.default_rng(1)
    scores = (rng.random(200) < 0.6).astype(float)
    below = judge_bar(scores.tolist(), bar=0.8, alpha=0.001, beta=0.05, binary=True)
    above = judge_bar((1 - scores).tolist(), bar=1 - 0.8, alpha=0.05, beta=0.001, binary=True)
    assert below is not None
    assert above is not None
    assert (below.outcome, above.outcome) == ("NOT_MET", "MET")
    assert below.n_used == above.n_used


def test_undecided_says_how_many_would_decide() -> None:
    """p = .84, t = .8, a = .05: ((1.7507*.4 + .8416*.3666)/.04)^2 = 636.3 -> 637; ten test sets are the limit."""
    scores = ([1.0] * 21 + [0.0] * 4) * 4
    undecided = judge_bar(scores, bar=0.8, alpha=0.05, binary=True)
    assert undecided is not None
    assert undecided.outcome == "UNDECIDED"
    assert undecided.n_needed == 637
    near = judge_bar(([1.0] * 81 + [0.0] * 19), bar=0.8, alpha=0.05, binary=True)
    assert near is not None
    assert near.n_needed is None
    at_the_bar = judge_bar([1.0, 1.0, 1.0, 1.0, 0.0] * 10, bar=0.8, alpha=0.05, binary=True)
    assert at_the_bar is not None
    assert at_the_bar.n_needed is None


def test_graded_n_needed_is_about_what_it_takes() -> None:
    """Follow the promise: with that many scores of the same kind most runs decide, with a third of them few do."""
    rng = np.random.default_rng(3)
    sample = rng.beta(8, 2, 60).tolist()
    undecided = judge_bar(sample, bar=0.74, alpha=0.05, binary=False)
    assert undecided is not None
    assert undecided.outcome == "UNDECIDED"
    needed = undecided.n_needed
    assert needed is not None
    fresh = rng.choice(sample, size=(400, needed))
    decided = (log_wealth_above(fresh, 0.74).max(axis=1) >= np.log(20)).mean()
    early = (log_wealth_above(fresh[:, : needed // 3], 0.74).max(axis=1) >= np.log(20)).mean()
    assert decided > 0.7
    assert early < 0.1


def test_groups_are_counted_as_units() -> None:
    scores = [1.0, 1.0, 0.0, 1.0] * 30
    labels = [f"g{i // 4}" for i in range(120)]
    judged = judge_bar(scores, bar=0.9, alpha=0.05, binary=True, groups=labels)
    plain = judge_bar([0.75] * 30, bar=0.9, alpha=0.05, binary=False)
    assert plain is not None
    assert judged == replace(plain, unit="group")
    assert judge_bar(scores[:8], bar=0.9, alpha=0.05, binary=True, groups=labels[:8], n_available=30) is None


@pytest.mark.parametrize(
    "arguments",
    [
        {"scores": [0.5], "binary": True},
        {"scores": [1.5], "binary": False},
        {"scores": [float("nan")], "binary": False},
        {"scores": [], "binary": True},
        {"scores": [1.0, 1.0], "binary": True, "n_available": 1},
        {"scores": [1.0], "binary": True, "bar": 1.0},
        {"scores": [1.0], "binary": True, "alpha": -0.01},
        {"scores": [1.0, 0.0, 1.0], "binary": True, "groups": ["a", "b", "a"]},
        {"scores": [1.0, 0.0], "binary": True, "groups": ["a"]},
    ],
)
def test_calls_outside_the_contract(arguments: dict[str, object]) -> None:
    with pytest.raises(ContractError):
        judge_bar(**{"bar": 0.8, "alpha": 0.05, **arguments})  # type: ignore[arg-type]


def test_mcnemar_by_hand() -> None:
    """b = 5, c = 1: P(X >= 5 of 6) = (6 + 1)/64."""
    assert mcnemar_p(5, 1) == pytest.approx(7 / 64)
    assert mcnemar_p(0, 0) == 1.0
    assert mcnemar_p(0, 3) == 1.0
    compared = better([1, 0, 0, 0, 0, 0, 1], [0, 1, 1, 1, 1, 1, 1], binary=True)
    assert compared.p == pytest.approx(7 / 64)
    assert compared.difference == pytest.approx(4 / 7)
    assert (compared.b_only, compared.a_only, compared.n) == (5, 1, 7)


def test_sign_flip_by_hand() -> None:
    """Differences .3, .2, .1: of 8 sign patterns only the one seen reaches .6. A difference of 0 changes nothing."""
    compared = better([0.1, 0.1, 0.1, 0.5], [0.4, 0.3, 0.2, 0.5], binary=False)
    assert compared.p == pytest.approx(1 / 8)
    assert better([0.4, 0.3, 0.2], [0.1, 0.1, 0.1], binary=False).p == 1.0
    assert better([0.4, 0.3], [0.4, 0.3], binary=False).p == 1.0


def test_groups_are_flipped_whole() -> None:
    """Three groups of four better items are three units: p cannot be below 1/8, whatever the items say."""
    labels = [f"g{i // 4}" for i in range(12)]
    compared = better([0.0] * 12, [1.0] * 12, binary=True, groups=labels)
    assert compared.p == pytest.approx(1 / 8)
    assert compared.n == 3
    assert better([0.0] * 12, [1.0] * 12, binary=True).p == pytest.approx(2.0**-12)


def test_same_seed_same_result() -> None:
    rng = np.random.default_rng(2)
    a, b = rng.random((2, 50)).tolist()
    assert better(a, b, binary=False, seed=4) == better(a, b, binary=False, seed=4)
    assert better(a, b, binary=False, seed=4).interval != better(a, b, binary=False, seed=5).interval


def test_tango_without_a_difference_by_hand() -> None:
    """b = c = 0: z = sqrt(n D/(1-D)), so that the limit is z^2/(n + z^2) = 3.8415/53.8415."""
    low, high = tango_interval(0, 0, 50)
    assert high == pytest.approx(0.071348, abs=1e-6)
    assert low == pytest.approx(-high)


def test_non_inferiority_without_a_difference_by_hand() -> None:
    """Nothing differs: the exact p is the chance that n items all miss the losses, (1 - d)^n at psi = d."""
    same = [1.0] * 100
    result = non_inferior(same, same, margin=0.03, binary=True)
    assert result.p == pytest.approx(0.97**100, rel=1e-6)
    assert result.verdict == "NON_INFERIOR"
    short = non_inferior(same[:98], same[:98], margin=0.03, binary=True)
    assert short.verdict == "UNDERPOWERED"
    assert short.n_needed == items_needed(0.03, 0.0) == 99
    assert not short.loss_seen


def test_graded_scores_without_a_difference_are_no_proof_either() -> None:
    same = [0.7] * 98
    assert non_inferior(same, same, margin=0.03, binary=False).verdict == "UNDERPOWERED"
    assert non_inferior([0.7] * 99, [0.7] * 99, margin=0.03, binary=False).verdict == "NON_INFERIOR"
    low, high = better(same, same, binary=False).interval
    assert low < 0 < high


def test_verdicts() -> None:
    base = [1.0] * 200
    lost = [0.0] * 40 + [1.0] * 160
    assert non_inferior(base, lost, margin=0.05, binary=True).verdict == "REGRESSED"
    some = [0.0] * 8 + [1.0] * 192
    doubtful = non_inferior(base, some, margin=0.05, binary=True)
    assert doubtful.verdict == "UNDERPOWERED"
    assert doubtful.loss_seen
    assert doubtful.n_needed is None  # 4 points lost are told from 5 by 2,000 or more
    few = [0.0] * 2 + [1.0] * 198
    assert non_inferior(base, few, margin=0.05, binary=True).verdict == "NON_INFERIOR"
    for binary in (True, False):
        assert non_inferior(base, lost, margin=0.05, binary=binary).interval[1] < -0.05


def test_direction_of_the_loss() -> None:
    """Exchanging base and tuned turns a regression into a gain."""
    base, worse = [1.0] * 150, [0.0] * 30 + [1.0] * 120
    for binary in (True, False):
        assert non_inferior(worse, base, margin=0.03, binary=binary).verdict == "NON_INFERIOR"
        assert non_inferior(base, worse, margin=0.03, binary=binary).verdict == "REGRESSED"


def test_n_needed_by_hand() -> None:
    """psi = 30/300, d = .03. q = (.16 + sqrt(.16^2 - 4 * .1 * .03 * 1.03))/4 = .068769, s0^2 = 2q - d(1+d) = .106638, so that
    root = 1.644854 * .326555 + .841621 * .316228 = .803281; n d - 1/2 = root sqrt(n): sqrt(n) = 27.3855, n = 749.97.
    """
    base = [1.0] * 15 + [0.0] * 15 + [1.0] * 270
    tuned = [0.0] * 15 + [1.0] * 15 + [1.0] * 270
    result = non_inferior(base, tuned, margin=0.03, binary=True)
    assert result.verdict == "UNDERPOWERED"
    assert result.n_needed == 750
    graded = items_needed(0.03, 0.1, binary=False)  # n d - 1 = 2.486475 * .316228 sqrt(n): sqrt(n) = 27.4288
    assert graded == 753


def test_n_needed_is_for_the_difference_that_was_seen() -> None:
    """Not told beyond ten times as many items, nor for a loss that is the margin."""
    enough = items_needed(0.05, 0.1)
    nearer = items_that_decide(0.05, 0.1, -0.02, 300)
    assert enough < 300 < nearer == items_needed(0.05, 0.1, difference=-0.02)
    assert items_that_decide(0.05, 0.1, -0.049, 300) is None
    assert items_that_decide(0.05, 0.1, -0.05, 300) is None
    assert items_that_decide(0.05, 0.1, -0.02, 80) == nearer, "however few there were"
    assert items_that_decide(0.05, 0.1, 0.0, 60) == enough
    gained = items_that_decide(0.05, 0.1, 0.01, 60)
    assert gained is not None
    assert gained < enough
    held = items_that_decide(0.05, 71 / 688, -21 / 688, 688, alpha=0.0125)
    assert held == 2730, "where as if nothing was lost 698 seemed enough"
    assert items_that_decide(0.05, 1.0, -1.0, 10) is not None
    beyond = items_that_decide(0.05, 0.2, -0.08, 700)
    assert beyond == items_needed(0.05, 0.2, difference=-0.08) > 700


@pytest.mark.parametrize("alpha", [0.05, 0.025, 0.0125, 0.005])
@pytest.mark.parametrize("margin", [0.05, 0.3])
def test_items_of_which_none_differs_or_all_are_lost_decide_and_fewer_do_not(margin: float, alpha: float) -> None:
    """(1 - margin)^n <= alpha is not enough: 86 items decide 5 points at .0125 by that, and their exact p is .0186."""
    kept = items_needed(margin, 0.0, alpha=alpha)
    assert p_more_than(0, 0, kept, -margin) <= alpha < p_more_than(0, 0, kept - 1, -margin)
    assert items_that_decide(margin, 0.0, 0.0, 8, alpha=alpha) == (kept if kept <= 80 else None)
    assert power_of(kept, margin, 0.0, alpha=alpha) == 1
    assert power_of(kept - 1, margin, 0.0, alpha=alpha) == pytest.approx(0)
    lost = items_needed(margin, 1.0, alpha=alpha, difference=-1.0)
    assert p_less_than(0, lost, lost, -margin) <= alpha


@pytest.mark.parametrize(("margin", "spread", "power"), [(0.0, 0.1, 0.8), (0.05, 1.1, 0.8), (0.05, 0.1, 1.0)])
def test_sizes_are_checked(margin: float, spread: float, power: float) -> None:
    with pytest.raises(ContractError):
        items_needed(margin, spread, power=power)
    with pytest.raises(ContractError):
        items_needed(0.05, 0.1, difference=-0.05)


@pytest.mark.parametrize("margin", [0.0, 1.0, -0.1])
def test_margin_is_checked(margin: float) -> None:
    with pytest.raises(ContractError):
        non_inferior([1.0], [1.0], margin=margin, binary=True)


@pytest.mark.parametrize(("old", "new"), [([], []), ([1.0], [1.0, 0.0]), ([-1.0], [1.0])])
def test_pairs_are_checked(old: list[float], new: list[float]) -> None:
    with pytest.raises(ContractError):
        better(old, new, binary=False)


def test_holm_by_hand() -> None:
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([]) == []
    assert holm([0.6, 0.9]) == [1.0, 1.0]


def right(count: int, n: int = 100) -> list[float]:
    return [1.0] * count + [0.0] * (n - count)


def test_choose_takes_the_best() -> None:
    choice = choose({"zero": right(70), "five": right(88)}, {"zero": 50, "five": 400})
    assert choice.name == "five"
    assert (choice.rule, choice.score, choice.n, choice.tied) == ("HIGHEST", pytest.approx(0.88), 100, ())


def test_a_tie_for_the_best_is_told() -> None:
    scores = {"three": right(88), "fixed": right(88), "zero": right(70), "eight": right(88)}
    choice = choose(scores, {"three": 129, "fixed": 129, "zero": 50, "eight": 300})
    assert (choice.name, choice.rule, choice.tied) == ("three", "HIGHEST", ("fixed", "eight"))


def test_choose_takes_the_cheaper_within_one_item() -> None:
    assert choose({"three": right(87), "five": right(88)}, {"three": 250, "five": 400}).name == "three"
    assert choose({"three": right(86), "five": right(88)}, {"three": 250, "five": 400}).name == "five"
    assert choose({"dear": right(88), "cheap": right(88)}, {"dear": 400, "cheap": 250}).name == "cheap"
    assert choose({"first": right(88), "second": right(88)}, {"first": 9, "second": 9}).name == "first"


def test_choose_takes_a_cheaper_one_that_is_shown_non_inferior() -> None:
    """1,000 items, 2 lost: not within one item, but shown to lose less than 0.02."""
    choice = choose({"five": right(900, 1000), "zero": right(898, 1000)}, {"five": 400, "zero": 50})
    assert choice.name == "zero"
    assert (choice.rule, choice.best, choice.margin) == ("NON_INFERIOR", "five", 0.02)
    assert choose({"five": right(900, 1000), "zero": right(870, 1000)}, {"five": 400, "zero": 50}).name == "five"


def test_variants_dropped_early_do_not_compete() -> None:
    scores = {"lucky": right(20, 20), "full": right(80)}
    assert choose(scores, {"lucky": 1, "full": 2}).name == "full"
    assert selection_bias_corrected(scores, seed=0) == pytest.approx(0.8)


def test_choose_is_checked() -> None:
    with pytest.raises(ContractError):
        choose({}, {})
    with pytest.raises(ContractError, match="no cost of variant 'a'"):
        choose({"a": [1.0]}, {})


@pytest.mark.parametrize(("bar", "error"), [(0.8, 0.01), (0.15, 0.004), (0.99, 0.3), (0.5, 1e-300), (0.02, 1e-9)])
def test_the_least_number_right_is_the_first_whose_evidence_is_enough(bar: float, error: float) -> None:
    for n in (1, 7, 8, 9, 150):
        found = least_right(n, bar, error)
        for items in range(1, n + 1):
            enough = np.flatnonzero(log_evidence_above(np.arange(items + 1), items, bar) >= -math.log(error))
            assert found[items - 1] == (enough[0] if len(enough) else items + 1)


@pytest.mark.parametrize(("alpha", "beta"), [(0.1, 0.05), (0.02, 0.3), (0.1, 0.0), (0.0, 0.1)])
def test_many_tests_are_judged_at_once_as_one_by_one(
    alpha: float, beta: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    random = np.random.default_rng(4)
    rates = random.choice([0.05, 0.6, 0.75, 0.8, 0.85, 0.95, 1.0], 300)
    for n, bar in ((1, 0.5), (12, 0.6), (90, 0.8)):
        tests = random.random((len(rates), n)) < rates[:, None]
        found = met_of_each(tests, bar, alpha, beta)
        each = [outcome_of(test.astype(float), bar, alpha, beta, binary=True) for test in tests]
        assert found.tolist() == [outcome == "MET" for outcome in each]
        with monkeypatch.context() as patched:
            patched.setattr("lastresort.evals.evidence.bar._CHUNK_CELLS", 1_000)
            assert met_of_each(tests, bar, alpha, beta).tolist() == found.tolist()
        assert n == 1 or alpha == 0 or 0 < found.sum() < len(tests)
